"""Model pairs and plans straight from the inventory: what the engines execute, without megatron-core.

Weights are a function of name, global position and generation, so that a misplaced slice is seen; the plan
is made here from spans, so that it shares nothing with the planner whose plans the engines execute.
"""

import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist

from fixtures.cases.inventory import KIMI_K2_MINI, ModelSpec, ParamSpec
from fixtures.cases.scenarios import Scenario, find_scenario
from fixtures.cases.shards import Shard, Span, shard_of, shards_of
from fixtures.cases.twins import largest_twin
from fixtures.engines.base import EngineError
from fixtures.engines.plan import RankPlan, Transfer
from fixtures.engines.profiled import ProfiledEngine
from fixtures.models.bind import DTYPES

CPU = torch.device("cpu")
WORDS = {"bf16": torch.int16, "fp32": torch.int32}


@dataclass(frozen=True, kw_only=True)
class SyntheticPair:
    """What an engine sees of a model pair: tensors by canonical name."""

    spec: ModelSpec
    scenario: Scenario
    rank: int
    source: dict[str, torch.Tensor]
    target: dict[str, torch.Tensor]
    device: torch.device


def _indices(spans: tuple[Span, ...], device: torch.device) -> torch.Tensor:
    return torch.cat([torch.arange(s.start, s.start + s.length, device=device) for s in spans])


def expected_shard(shard: Shard, generation: int, device: torch.device) -> torch.Tensor:
    """The shard's weights, as integers of the element's width."""
    word = WORDS[shard.param.dtype]
    value = torch.full((), zlib.crc32(shard.param.name.encode()) % 9973 + generation * 131, device=device)
    value = value.to(torch.int32)
    for dim, spans in enumerate(shard.spans):
        index = (_indices(spans, device) * (31 + 17 * dim) % 30011).to(torch.int32)
        value = value.unsqueeze(-1) + index
    return (value % 32749).to(word)


def build(spec: ModelSpec, scenario: Scenario, rank: int, device: torch.device) -> SyntheticPair:
    """Empty source and target of a rank."""

    def tensors(layout_rank: int | None, source: bool) -> dict[str, torch.Tensor]:
        if layout_rank is None:
            return {}
        layout = scenario.source if source else scenario.target
        return {
            s.param.name: torch.zeros(s.shape, dtype=DTYPES[s.param.dtype], device=device)
            for s in shards_of(spec, layout, layout_rank)
        }

    return SyntheticPair(
        spec=spec,
        scenario=scenario,
        rank=rank,
        source=tensors(scenario.source_rank(rank), True),
        target=tensors(scenario.target_rank(rank), False),
        device=device,
    )


def _shards(pair: SyntheticPair, source: bool) -> Iterator[Shard]:
    s = pair.scenario
    rank = s.source_rank(pair.rank) if source else s.target_rank(pair.rank)
    if rank is not None:
        yield from shards_of(pair.spec, s.source if source else s.target, rank)


def fill(pair: SyntheticPair, generation: int) -> None:
    """Write a generation into the source."""
    for shard in _shards(pair, True):
        words = pair.source[shard.param.name].view(WORDS[shard.param.dtype])
        words.copy_(expected_shard(shard, generation, pair.device))


def poison(pair: SyntheticPair) -> None:
    """Write what no generation contains into the target."""
    for tensor in pair.target.values():
        tensor.view(torch.uint8).fill_(0xFF)


def mismatches(pair: SyntheticPair, generation: int) -> int:
    """Elements of the target that are not the generation's."""
    wrong = torch.zeros((), dtype=torch.int64, device=pair.device)
    for shard in _shards(pair, False):
        words = pair.target[shard.param.name].view(WORDS[shard.param.dtype])
        wrong += (words != expected_shard(shard, generation, pair.device)).sum()
    return int(wrong)


def _overlaps(wanted: tuple[Span, ...], held: tuple[Span, ...]) -> Iterator[tuple[slice, slice]]:
    """(slice of held, slice of wanted) of every shared run of global indices."""
    at = 0
    for w in wanted:
        there = 0
        for h in held:
            low, high = max(w.start, h.start), min(w.start + w.length, h.start + h.length)
            if low < high:
                size = high - low
                yield (
                    slice(there + low - h.start, there + low - h.start + size),
                    slice(at + low - w.start, at + low - w.start + size),
                )
            there += h.length
        at += w.length


def _owner(param: ParamSpec, scenario: Scenario, tp_rank: int, target_rank: int, spec: ModelSpec) -> int:
    """Which source rank serves a piece: the target's own if it holds it, else replicas in turn."""
    layout = scenario.source
    if param.expert is not None:
        return param.expert // (spec.experts // layout.ep) * layout.tp + tp_rank
    own = scenario.source_rank(target_rank + scenario.target_offset)
    if own is not None and (param.cut_dim is None or layout.tp_rank(own) == tp_rank):
        return own
    if param.cut_dim is None:
        return target_rank % layout.gpus
    return target_rank % layout.ep * layout.tp + tp_rank


def transfers(spec: ModelSpec, scenario: Scenario) -> Iterator[tuple[int, int, int, str, tuple, tuple]]:
    """(task, source rank, target world rank, name, source slices, target slices) of the whole refit."""
    task = 0
    for target_rank in range(scenario.target.gpus):
        for wanted in shards_of(spec, scenario.target, target_rank):
            param = wanted.param
            ways = range(scenario.source.tp) if param.cut_dim is not None else range(1)
            for tp_rank in ways:
                owner = _owner(param, scenario, tp_rank, target_rank, spec)
                held = shard_of(param, scenario.source, owner, spec.experts)
                assert held is not None
                dim = param.cut_dim or 0
                for ours, theirs in _overlaps(wanted.spans[dim], held.spans[dim]):
                    before = (slice(None),) * dim
                    world = target_rank + scenario.target_offset
                    yield task, owner, world, param.name, (*before, ours), (*before, theirs)
                    task += 1


def synthetic_plan(pair: SyntheticPair) -> RankPlan:
    """A planner for the engines."""
    plan = RankPlan()
    for task, source, target, name, ours, theirs in transfers(pair.spec, pair.scenario):
        if source == pair.rank:
            plan.sends.append(Transfer(task=task, peer=target, view=pair.source[name][ours]))
        if target == pair.rank:
            plan.receives.append(Transfer(task=task, peer=source, view=pair.target[name][theirs]))
    return plan


def twin_of(scenario: Scenario, ranks: int) -> tuple[ModelSpec, Scenario]:
    """The largest twin for these ranks, with two layers of the mini model."""
    twin = largest_twin(scenario, KIMI_K2_MINI, ranks)
    assert twin is not None
    return twin.model(KIMI_K2_MINI.with_layers(2)), twin.scenario(scenario)


def twin_pair(scenario: Scenario | str, ranks: int = 2, device: torch.device = CPU) -> SyntheticPair:
    """This rank's empty pair of the twin of a scenario, or of the one of that key."""
    named = find_scenario(scenario) if isinstance(scenario, str) else scenario
    return build(*twin_of(named, ranks), dist.get_rank(), device)


def refusal(engine: ProfiledEngine) -> str:
    """What an engine says that cannot prepare for scenario 6 on two CPU ranks; "" where it can."""
    try:
        engine.prepare(twin_pair("s6"))
    except EngineError as error:
        return str(error)
    return ""


def refitted(engine: ProfiledEngine, scenario: Scenario, ranks: int, times: int) -> dict[str, Any]:
    """Refit a twin so many times, each with new weights: wrong elements of each, and what the engine says."""
    pair = twin_pair(scenario, ranks)
    pointers = [t.data_ptr() for t in pair.target.values()]
    engine.prepare(pair)
    wrong = []
    for generation in range(times):
        fill(pair, generation)
        poison(pair)
        engine.refit()
        wrong.append(mismatches(pair, generation))
    phases, facts, events = engine.profile(), engine.describe(), engine.trace()
    engine.close()
    same = pointers == [t.data_ptr() for t in pair.target.values()]
    return {"wrong": wrong, "phases": phases, "facts": facts, "events": events, "same": same}
