"""What a refit does after inference has moved the experts: megatron-core's InferenceGroupedMLP does so.

Its first forward pass concatenates the experts' weights and points each parameter's `data` into the new
storage (megatron-core 0.19.2, transformer/moe/experts.py, _build_concatenated_weights).
"""

import pytest
import torch

from fixtures.engines.megatron import MegatronEngine
from fixtures.engines.repairs import apply_repairs
from fixtures.models.build import ModelPair
from fixtures.models.parts import GroupedWeights
from fixtures.ranks.world import World
from tests.correctness.small_pairs import agree_on, refit_and_verify, small_case, small_pair

pytestmark = pytest.mark.distributed


@torch.no_grad()
def rebind_experts(pair: ModelPair) -> int:
    """Concatenate the target's experts as inference does; how many parameters moved."""
    rebound = 0
    for module in pair.target.modules() if pair.target is not None else ():
        if isinstance(module, GroupedWeights):
            weights = list(module.parameters())
            whole = torch.stack([weight.data for weight in weights])
            for weight, part in zip(weights, whole, strict=True):
                weight.data = part
            rebound += len(weights)
    return rebound


@pytest.mark.parametrize("key", ["s1", "s6"])
def test_megatron_finds_rebound_experts(key: str, world: World) -> None:
    """Its plan names tensors and holds no addresses: what was moved is refitted where it lies now."""
    scenario, spec = small_case(key, world.size)
    engine = MegatronEngine("gloo")
    with small_pair(scenario, spec, world) as pair:
        apply_repairs(pair)
        engine.prepare(pair)
        faults = list(refit_and_verify(pair, engine, world.rank, 1).faults)
        moved = rebind_experts(pair)
        faults += refit_and_verify(pair, engine, world.rank, 2).faults
        engine.close()
    agree_on([str(fault) for fault in faults])
    agree_on([] if moved or pair.target is None else ["no expert was moved"])
