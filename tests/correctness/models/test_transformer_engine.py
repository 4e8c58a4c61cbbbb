"""Production's own modules, where Transformer Engine is installed, against the inventory and under refits."""

import importlib.util
from unittest import mock

import pytest
import torch
from torch import nn

from fixtures.engines.base import EngineOptions
from fixtures.engines.registry import ENGINES
from fixtures.engines.repairs import apply_repairs
from fixtures.models import build as building
from fixtures.models.bind import canonical_name, refit_tensors
from fixtures.models.build import ModelPair
from fixtures.ranks.world import World
from tests.correctness.models.test_built_models import inventory_cut, stamped_cut
from tests.correctness.small_pairs import (
    agree_on,
    bound_sides,
    everyones,
    prepared_engine,
    refit_and_verify,
    small_case,
    small_pair,
)

pytestmark = [
    pytest.mark.distributed,
    pytest.mark.skipif(
        importlib.util.find_spec("transformer_engine_torch") is None,
        reason="Transformer Engine is not installed (its compiled part is transformer_engine_torch)",
    ),
]
READ = ("tensor_model_parallel", "partition_dim", "partition_stride", "allreduce")
"""What planners and process groups are told by."""


def built_pair(key: str, world: World, *, real: bool) -> ModelPair:
    """The pair with Transformer Engine's modules, or with what stands for them where there is none.

    On a CPU these want no more of a GPU than the answer that there is one.
    """
    with (
        mock.patch.object(building, "have_transformer_engine", return_value=real),
        mock.patch.object(torch.cuda, "is_available", return_value=True),
        small_pair(*small_case(key, world.size), world) as pair,
    ):
        return pair


def sides(pair: ModelPair) -> list[nn.Module]:
    return [model for model in (pair.source, pair.target) if model is not None]


@pytest.mark.parametrize("key", ["s2", "s4", "s6", "s7"])
def test_names_shapes_dtypes_and_cuts_are_the_inventorys(key: str, world: World) -> None:
    pair = built_pair(key, world, real=True)
    bound = [one for side in bound_sides(pair, world.rank) for one in side]
    modules = {type(module).__name__ for model in sides(pair) for module in model.modules()}
    wanted = {
        "TELayerNormColumnParallelLinear", "TERowParallelLinear", "TEColumnParallelGroupedLinear",
        "TERowParallelGroupedLinear", "TELinear", "TEDotProductAttention",
    }  # fmt: skip
    problems = [f"no {name} was built" for name in wanted - modules if bound]
    for one in bound:
        found, cut = stamped_cut(one.tensor), inventory_cut(one.shard.param)
        if found != cut:
            problems.append(f"{one.local_name} is stamped {found}, the inventory says {cut}")
    agree_on(problems)


def stamps(model: nn.Module) -> dict[str, tuple[object, ...]]:
    """Canonical name -> shape, dtype and what planners are told, a stamp that says the default left out."""
    found = {}
    for name, tensor in refit_tensors(model):
        told = {attribute: getattr(tensor, attribute, None) for attribute in READ}
        if not told["tensor_model_parallel"]:
            told |= {"tensor_model_parallel": False, "partition_dim": None, "partition_stride": None}
        if told["allreduce"] is None:
            told["allreduce"] = True
        found[canonical_name(name, 0)] = (tuple(tensor.shape), tensor.dtype, *told.values())
    return found


@pytest.mark.parametrize("key", ["s4", "s6"])
def test_the_containers_of_other_machines_carry_the_same(key: str, world: World) -> None:
    real, containers = (
        [stamps(model) for model in sides(built_pair(key, world, real=wanted))] for wanted in (True, False)
    )
    agree_on(
        [
            f"{name}: {theirs.get(name)}, not {ours.get(name)}"
            for theirs, ours in zip(real, containers, strict=True)
            for name in theirs.keys() | ours.keys()
            if theirs.get(name) != ours.get(name)
        ]
    )


@pytest.mark.parametrize("engine", ["megatron", "packed", "direct"])
@pytest.mark.parametrize("key", ["s2", "s6"])
def test_a_refit_between_them_is_exact(key: str, engine: str, world: World) -> None:
    method = "gloo" if world.device.type == "cpu" else ENGINES[engine].methods["cuda"][0]
    pair = built_pair(key, world, real=True)
    apply_repairs(pair)
    mover = ENGINES[engine].make(method, EngineOptions())
    mover.prepare(pair)
    checks = [refit_and_verify(pair, mover, world.rank, generation=g) for g in (1, 2)]
    mover.close()
    agree_on([str(check) for check in checks if not check.ok])


def test_as_shipped_their_gated_experts_are_scrambled(world: World) -> None:
    """gated-expert-stride on the modules that it is about; elsewhere containers show it."""
    pair = built_pair("s2", world, real=True)
    with prepared_engine(pair) as engine:
        check = refit_and_verify(pair, engine, world.rank)
    assert any("experts" in wrong for wrong in everyones([] if check.ok else [str(check)]))
