"""Run by a test with Triton's interpreter: the GPU kernels against the CPU oracle, element by element."""

import torch

from fixtures.cases.inventory import KIMI_K2_MINI
from fixtures.cases.layouts import Layout
from fixtures.cases.shards import shards_of
from fixtures.cases.updates import DENSE, Update
from fixtures.models.bind import DTYPES, BoundTensor
from fixtures.weights import launches
from fixtures.weights.fill import fill
from fixtures.weights.pattern import BIT_VIEW

GENERATION = 5
UPDATES = (DENSE, Update(share=0.3))
EXPERT = 17
RANK = 3


def wrong_elements(bound: BoundTensor, update: Update) -> int:
    count = torch.zeros(1, dtype=torch.int32)
    launches.count_wrong(bound, GENERATION, update, count)
    return int(count)


def compare(bound: BoundTensor, update: Update) -> None:
    """Raises AssertionError where kernel and CPU do not agree."""
    shard, bits = bound.shard, bound.tensor.view(BIT_VIEW[bound.tensor.dtype]).view(-1)
    fill([bound], GENERATION, update)
    assert launches.fits(bound), shard
    assert wrong_elements(bound, update) == 0, (shard, update)
    bits[-1] ^= 1
    assert wrong_elements(bound, update) == 1, (shard, update)
    by_cpu = bits.clone()
    by_cpu[-1] ^= 1
    launches.fill(bound, GENERATION, update)
    assert torch.equal(bits, by_cpu), (shard, update)


def compare_all() -> int:
    """How many shards agree."""
    compared = 0
    for shard in shards_of(KIMI_K2_MINI.with_layers(2), Layout(tp=2, ep=2), RANK):
        if shard.param.expert in (None, EXPERT):
            tensor = torch.empty(shard.shape, dtype=DTYPES[shard.param.dtype])
            for update in UPDATES:
                compare(BoundTensor(tensor=tensor, shard=shard, local_name=shard.param.name), update)
            compared += 1
    return compared


def gathers() -> None:
    """Raises AssertionError where the kernel reads other words than those at the addresses."""
    words = torch.arange(1000, dtype=torch.int16)
    places = torch.randperm(1000)[:300]
    assert torch.equal(launches.gather(words.data_ptr() + 2 * places), words[places])


if __name__ == "__main__":
    gathers()
    print(compare_all())
