"""Run by a test with Triton's interpreter: the GPU kernels against the CPU oracle, element by element."""

import torch

from fixtures.cases.inventory import KIMI_K2_MINI
from fixtures.cases.layouts import Layout
from fixtures.cases.shards import shards_of
from fixtures.models.bind import DTYPES, BoundTensor
from fixtures.weights import launches
from fixtures.weights.fill import fill
from fixtures.weights.pattern import BIT_VIEW

GENERATION = 5
EXPERT = 17
RANK = 3


def wrong_elements(bound: BoundTensor) -> int:
    count = torch.zeros(1, dtype=torch.int32)
    launches.count_wrong(bound, GENERATION, count)
    return int(count)


def compare() -> int:
    """How many shards agree; raises AssertionError on the first that does not."""
    compared = 0
    for shard in shards_of(KIMI_K2_MINI.with_layers(2), Layout(tp=2, ep=2), RANK):
        if shard.param.expert not in (None, EXPERT):
            continue
        tensor = torch.empty(shard.shape, dtype=DTYPES[shard.param.dtype])
        bound = BoundTensor(tensor=tensor, shard=shard, local_name=shard.param.name)
        bits = tensor.view(BIT_VIEW[tensor.dtype]).view(-1)
        fill([bound], GENERATION)
        assert launches.fits(bound), shard
        assert wrong_elements(bound) == 0, shard
        bits[-1] ^= 1
        assert wrong_elements(bound) == 1, shard
        by_cpu = bits.clone()
        by_cpu[-1] ^= 1
        launches.fill(bound, GENERATION)
        assert torch.equal(bits, by_cpu), shard
        compared += 1
    return compared


if __name__ == "__main__":
    print(compare())
