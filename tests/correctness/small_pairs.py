"""Pairs of real Megatron models on the gang's ranks, small enough to build in a moment."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from unittest import mock

from fixtures.cases.inventory import KIMI_K2_MINI, ModelSpec
from fixtures.cases.scenarios import Scenario, find_scenario
from fixtures.cases.twins import Twin, largest_twin
from fixtures.engines.megatron import MegatronEngine
from fixtures.models import bind as binding
from fixtures.models import build as building
from fixtures.models.bind import BoundTensor, bind
from fixtures.models.build import ModelPair, build_pair
from fixtures.models.groups import initialize_parallel_state
from fixtures.ranks import agree, all_gather_object_oob
from fixtures.ranks.world import World
from fixtures.weights.fill import fill, poison
from fixtures.weights.verify import Verification, verify

UNEQUAL = replace(KIMI_K2_MINI, q_lora=40, qk_nope=12, qk_rope=4, v_head=8, moe_ffn=192, shared_ffn=384)
"""kimi-k2-mini with no two sizes alike, so that none can stand for another."""


def small_case(key: str, ranks: int, layers: int = 2) -> tuple[Scenario, ModelSpec]:
    """The largest twin of a scenario (or a user's row, uncut) on so many ranks, with a mini model."""
    scenario, model = find_scenario(key), UNEQUAL.with_layers(layers)
    twin = Twin() if ":" in key else largest_twin(scenario, model, ranks)
    assert twin is not None
    return twin.scenario(scenario), twin.model(model)


@contextmanager
def small_pair(scenario: Scenario, spec: ModelSpec, world: World) -> Iterator[ModelPair]:
    """Build a pair. Collective."""
    initialize_parallel_state(world.device)
    yield build_pair(scenario, spec, world.rank, world.device)


def bound_sides(pair: ModelPair, rank: int, *, check: bool = True) -> tuple[list[BoundTensor], ...]:
    """Source and target tensors of a world rank, empty where it holds no such side."""
    scenario, spec, sides = pair.scenario, pair.spec, []
    for model, layout, layout_rank in (
        (pair.source, scenario.source, scenario.source_rank(rank)),
        (pair.target, scenario.target, scenario.target_rank(rank)),
    ):
        here = model is not None and layout_rank is not None
        sides.append(bind(model, spec, layout, layout_rank, check=check) if here else [])
    return tuple(sides)


def refit_and_verify(pair: ModelPair, engine: MegatronEngine, rank: int, generation: int = 1) -> Verification:
    """New weights in the source, poison in the target, one refit, and what this rank then holds."""
    source, target = bound_sides(pair, rank, check=False)
    fill(source, generation)
    poison(target)
    engine.refit()
    return verify(bound_sides(pair, rank, check=False)[1], generation, pair.spec, rank)


@contextmanager
def prepared_engine(pair: ModelPair) -> Iterator[MegatronEngine]:
    """The megatron engine as upstream ships it, no repairs."""
    engine = MegatronEngine("gloo")
    engine.prepare(pair)
    try:
        yield engine
    finally:
        engine.close()


@contextmanager
def sequential_experts() -> Iterator[None]:
    """Build and bind models whose experts are megatron-core's local SequentialMLP."""

    def canonical(local_name: str, experts_before: int) -> str:
        head, found, tail = local_name.partition("experts.local_experts.")
        if not found:
            return local_name
        index, _, rest = tail.partition(".")
        return f"{head}experts.{experts_before + int(index)}.{rest}"

    with (
        mock.patch.object(building, "_with_grouped_experts", lambda mlp: mlp),
        mock.patch.object(binding, "canonical_name", canonical),
    ):
        yield


def mended(name: str) -> str:
    """What to do when a defect of upstream is gone."""
    return f"upstream mended {name!r}: drop its repair, if it has one, its row in defects.py and this test"


def everyones(mine: Sequence[str]) -> list[str]:
    """What all ranks say, each with its rank. Collective, so that every rank asserts the same."""
    return [
        f"rank {rank}: {said}" for rank, theirs in enumerate(all_gather_object_oob(mine)) for said in theirs
    ]


def agree_on(problems: Sequence[str]) -> None:
    """Fail on every rank when any rank has a problem. Collective."""
    __tracebackhide__ = True
    agree(not problems, "; ".join(problems[:5]))
