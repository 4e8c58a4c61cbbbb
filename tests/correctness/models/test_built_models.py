"""The inventory against the models that megatron-core builds, on every rank."""

from collections.abc import Iterator

import pytest
import torch
import torch.distributed as dist
from megatron.core.dist_checkpointing.mapping import ShardedTensor, ShardedTensorFactory
from megatron.core.inference.shards import build_inference_pg_collection
from megatron.core.process_groups_config import ProcessGroupCollection
from torch import nn

from fixtures.cases.inventory import ParamSpec
from fixtures.cases.layouts import Layout
from fixtures.cases.scenarios import SCENARIOS, find_scenario
from fixtures.cases.shards import Span
from fixtures.models.bind import BoundTensor, refit_tensors
from fixtures.models.build import ModelPair
from fixtures.models.cpu_seam import cpu_seam
from fixtures.ranks import all_gather_object_oob
from fixtures.ranks.world import World
from tests.correctness.small_pairs import agree_on, bound_sides, sequential_experts, small_case, small_pair

pytestmark = pytest.mark.distributed
KEYS = [scenario.key for scenario in SCENARIOS]
GROUPS = (
    "tp", "cp", "pp", "dp", "ep", "expt_tp", "expt_dp", "mp", "tp_cp", "dp_cp", "tp_dp_cp", "tp_ep",
    "tp_ep_pp",
)  # fmt: skip


@pytest.fixture
def pair(request: pytest.FixtureRequest, world: World) -> Iterator[ModelPair]:
    """The pair of the scenario in the item's parameter `key`."""
    with small_pair(*small_case(request.getfixturevalue("key"), world.size), world) as pair:
        yield pair


def stamped_cut(tensor: torch.Tensor) -> tuple[int, int] | None:
    """What Megatron's attributes say: dimension and stride of the cut, None for a whole tensor."""
    if not getattr(tensor, "tensor_model_parallel", False):
        return None
    return tensor.partition_dim, tensor.partition_stride  # type: ignore[attr-defined]


def inventory_cut(param: ParamSpec) -> tuple[int, int] | None:
    """The same from the inventory; upstream stamps 1 on gated experts, which a repair makes 2."""
    if param.cut_dim is None:
        return None
    return param.cut_dim, 1 if param.expert is not None else param.blocks


@pytest.mark.parametrize("key", KEYS)
def test_names_shapes_dtypes_and_cuts_on_every_rank(pair: ModelPair, key: str, world: World) -> None:
    problems = []
    sides = bound_sides(pair, world.rank)
    for model, bound in zip((pair.source, pair.target), sides, strict=True):
        if (count := len(list(refit_tensors(model))) if model is not None else 0) != len(bound):
            problems.append(f"{len(bound)} of {count} tensors are bound")
        for one in bound:
            found, wanted = stamped_cut(one.tensor), inventory_cut(one.shard.param)
            if found != wanted:
                problems.append(f"{one.local_name} is stamped {found}, the inventory says {wanted}")
    agree_on(problems)
    counts = all_gather_object_oob(tuple(map(len, sides)))
    assert all(counts[r][0] for r in pair.scenario.source_world_ranks())
    assert all(counts[r][1] for r in pair.scenario.target_world_ranks())
    assert counts[pair.scenario.world_size :] == [(0, 0)] * (world.size - pair.scenario.world_size)


@pytest.mark.parametrize("key", KEYS)
def test_groups_are_those_of_megatrons_inference_shards(pair: ModelPair, key: str, world: World) -> None:
    scenario, problems = pair.scenario, []
    for side, model, layout, offset in (
        ("source", pair.source, scenario.source, 0),
        ("target", pair.target, scenario.target, scenario.target_offset),
    ):
        theirs = build_inference_pg_collection(
            layout.gpus, layout.tp, 1, 1, layout.ep, layout.tp, rank_offset=offset
        )
        if model is not None:
            problems += [f"{side} {text}" for text in differing_groups(model.pg_collection, theirs)]
    agree_on(problems)


def differing_groups(ours: ProcessGroupCollection, theirs: ProcessGroupCollection) -> list[str]:
    members = [
        (name, *(dist.get_process_group_ranks(getattr(side, name)) for side in (ours, theirs)))
        for name in GROUPS
    ]
    return [f"{name} is {mine}, Megatron's is {other}" for name, mine, other in members if mine != other]


@pytest.mark.parametrize("key", ["s4", "s6", "s7"])
def test_shards_lie_where_megatrons_checkpoints_put_them(pair: ModelPair, key: str, world: World) -> None:
    """Everything that `sharded_state_dict` describes: all but the grouped experts, which need TE there."""
    problems: list[str] = []
    described = 0
    for model, bound in zip((pair.source, pair.target), bound_sides(pair, world.rank), strict=True):
        if model is None:
            continue
        spans = checkpoint_spans(model, pair.device)
        for one in bound:
            if one.shard.param.expert is None:
                described += 1
                problems += misplaced(one, spans)
    agree_on(problems)
    assert min(all_gather_object_oob(described)) >= 20


def checkpoint_spans(model: nn.Module, device: torch.device) -> dict[str, list[list[Span]]]:
    """State-dict name -> spans of each dimension in local order, from Megatron's distributed checkpoint."""
    with cpu_seam(device):
        described = model.sharded_state_dict(metadata={"dp_cp_group": model.pg_collection.dp_cp})
    spans = {}
    for name, entry in described.items():
        if isinstance(entry, ShardedTensorFactory):
            spans[name] = stacked_spans(entry.build())
        elif isinstance(entry, ShardedTensor):
            spans[name] = stacked_spans([entry])
    return spans


def stacked_spans(pieces: list[ShardedTensor]) -> list[list[Span]]:
    """Spans of pieces that lie one after another along dimension 0 (gate, then up)."""
    dims: list[list[Span]] = []
    for dim in range(len(pieces[0].local_shape)):
        spans = [Span(p.global_offset[p.prepend_axis_num + dim], p.local_shape[dim]) for p in pieces]
        dims.append(joined(spans if dim == 0 else spans[:1]))
    return dims


def joined(spans: list[Span]) -> list[Span]:
    """Adjacent spans as one."""
    result = spans[:1]
    for span in spans[1:]:
        last = result[-1]
        if last.start + last.length == span.start:
            result[-1] = Span(last.start, last.length + span.length)
        else:
            result.append(span)
    return result


def misplaced(bound: BoundTensor, spans: dict[str, list[list[Span]]]) -> list[str]:
    if bound.local_name not in spans:
        return [f"Megatron's checkpoint does not describe {bound.local_name}"]
    ours = [joined(list(dim)) for dim in bound.shard.spans]
    theirs = spans[bound.local_name]
    return [] if ours == theirs else [f"{bound.local_name} is {ours}, Megatron's checkpoint says {theirs}"]


@pytest.mark.parametrize("key", ["s6", "s7"])
def test_experts_lie_where_megatrons_checkpoints_put_them(key: str, world: World) -> None:
    """SequentialMLP is the only expert module that describes itself without Transformer Engine."""
    scenario, spec = small_case(key, world.size)
    problems: list[str] = []
    described = 0
    with sequential_experts(), small_pair(scenario, spec, world) as pair:
        for model, bound in zip((pair.source, pair.target), bound_sides(pair, world.rank), strict=True):
            experts = checkpoint_experts(model, pair.device)
            for one in bound:
                if one.shard.param.expert is not None:
                    described += 1
                    found = experts[one.local_name]
                    wanted = (one.shard.param.expert, [joined(list(dim)) for dim in one.shard.spans])
                    if found != wanted:
                        problems.append(f"{one.local_name} is {wanted}, Megatron's checkpoint says {found}")
    agree_on(problems)
    assert min(all_gather_object_oob(described)) > 0


def checkpoint_experts(model: nn.Module, device: torch.device) -> dict[str, tuple[int, list[list[Span]]]]:
    """Local name -> global expert and spans; the expert is the checkpoint's first axis."""
    with cpu_seam(device):
        metadata = {"dp_cp_group": model.pg_collection.dp_cp, "singleton_local_shards": False}
        described = model.sharded_state_dict(metadata=metadata)
    experts = {}
    for name, entry in described.items():
        if ".local_experts." in name and isinstance(entry, ShardedTensorFactory | ShardedTensor):
            pieces = entry.build() if isinstance(entry, ShardedTensorFactory) else [entry]
            assert pieces[0].prepend_axis_num == 1, name
            experts[name] = (pieces[0].global_offset[0], stacked_spans(pieces))
    return experts


@pytest.mark.parametrize("key", ["2:1:1:2:collocated:gloo", "1:2:2:1:non-collocated:gloo"])
def test_a_users_scenario_builds_with_idle_ranks(pair: ModelPair, key: str, world: World) -> None:
    scenario = find_scenario(key)
    assert (pair.source is None) == (world.rank >= scenario.source.gpus)
    assert (pair.target is None) == (scenario.target_rank(world.rank) is None)
    assert Layout(tp=1, ep=2) in (scenario.source, scenario.target)
    for model, bound in zip((pair.source, pair.target), bound_sides(pair, world.rank), strict=True):
        assert bool(bound) == (model is not None)
