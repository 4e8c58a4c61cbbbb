"""What a refit does after inference has moved the target's tensors (forward_like)."""

import pytest

from fixtures.engines.base import EngineError, EngineOptions
from fixtures.engines.delta import DeltaEngine
from fixtures.engines.direct import DirectEngine
from fixtures.engines.megatron import MegatronEngine
from fixtures.engines.packed import PackedEngine
from fixtures.engines.repairs import apply_repairs
from fixtures.models.build import ModelPair
from fixtures.models.parts import forward_like
from fixtures.ranks.world import World
from tests.correctness.inference_experts import stale
from tests.correctness.small_pairs import agree_on, refit_and_verify, small_case, small_pair

pytestmark = pytest.mark.distributed


def move(pair: ModelPair) -> int:
    """Touch the target as inference does; how many tensors moved."""
    return forward_like(pair.target) if pair.target is not None else 0


ENGINES = {
    "packed": lambda moving: PackedEngine.make("gloo", EngineOptions(moving=moving)),
    "direct": lambda moving: DirectEngine.make("gloo", EngineOptions(moving=moving)),
    "delta": lambda _: DeltaEngine.make("gloo", EngineOptions()),
}


@pytest.mark.parametrize("name", ENGINES)
@pytest.mark.parametrize("key", ["s1", "s6"])
def test_engines_that_read_addresses_prepare_again(name: str, key: str, world: World) -> None:
    """Refit, rebind, refit twice: exact each time, and nothing is written where the experts lay before."""
    scenario, spec = small_case(key, world.size)
    engine = ENGINES[name](True)
    with small_pair(scenario, spec, world) as pair:
        apply_repairs(pair)
        engine.prepare(pair)
        faults = list(refit_and_verify(pair, engine, world.rank, 1).faults)
        moved = move(pair)
        for generation in (2, 3):
            faults += refit_and_verify(pair, engine, world.rank, generation).faults
        left = stale(pair.target)
        engine.close()
    agree_on([str(fault) for fault in faults] + left)
    agree_on([] if moved or pair.target is None else ["no expert was moved"])


@pytest.mark.parametrize("name", ["packed", "direct"])
def test_an_engine_that_expects_no_move_refuses_in_one_sentence(name: str, world: World) -> None:
    scenario, spec = small_case("s6", world.size)
    engine, said = ENGINES[name](False), ""
    with small_pair(scenario, spec, world) as pair:
        apply_repairs(pair)
        engine.prepare(pair)
        engine.refit()
        moved = move(pair)
        try:
            engine.refit()
        except EngineError as error:
            said = str(error)
        engine.close()
    sentence = f"has moved since the engine was prepared ({moved} tensors in all)"
    agree_on([] if said.startswith("the target's decoder.") and said.endswith(sentence) else [said or "none"])


@pytest.mark.parametrize("key", ["s1", "s6"])
def test_megatron_finds_rebound_experts(key: str, world: World) -> None:
    """Its plan names tensors and holds no addresses: what was moved is refitted where it lies now."""
    scenario, spec = small_case(key, world.size)
    engine = MegatronEngine("gloo")
    with small_pair(scenario, spec, world) as pair:
        apply_repairs(pair)
        engine.prepare(pair)
        faults = list(refit_and_verify(pair, engine, world.rank, 1).faults)
        moved = move(pair)
        faults += refit_and_verify(pair, engine, world.rank, 2).faults
        left = stale(pair.target)
        engine.close()
    agree_on([str(fault) for fault in faults] + left)
    agree_on([] if moved or pair.target is None else ["no expert was moved"])
