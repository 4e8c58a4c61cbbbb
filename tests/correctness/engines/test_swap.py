"""Our engines behind megatron-core's own call: right bits, prepared anew where need be, refused in words."""

from collections.abc import Iterator
from types import SimpleNamespace

import pytest

from fixtures.engines import swap
from fixtures.engines.base import EngineError
from fixtures.engines.repairs import apply_repairs
from fixtures.models.build import ModelPair
from fixtures.models.parts import forward_like
from fixtures.ranks.world import World
from tests.correctness.small_pairs import agree_on, refit_and_verify, small_case, small_pair

pytestmark = pytest.mark.distributed


@pytest.fixture(autouse=True)
def no_engines_left() -> Iterator[None]:
    yield
    swap.clear_all_caches()


def faults_of(pair: ModelPair, method: str, rank: int, generations: tuple[int, ...]) -> list[str]:
    call = SimpleNamespace(refit=lambda: swap.swap_model_weights(pair.source, pair.target, method))
    verified = [refit_and_verify(pair, call, rank, generation) for generation in generations]
    assert all(one.elements for one in verified) or pair.target is None
    return [str(fault) for one in verified for fault in one.faults]


@pytest.mark.parametrize("method", swap.METHODS)
@pytest.mark.parametrize("key", ["s1", "s6"])
def test_every_bit_arrives_also_after_inference_moved_the_experts(
    method: str, key: str, world: World
) -> None:
    scenario, spec = small_case(key, world.size)
    with small_pair(scenario, spec, world) as pair:
        apply_repairs(pair)
        faults = faults_of(pair, method, world.rank, (1, 2))
        if pair.target is not None:
            forward_like(pair.target)
        faults += faults_of(pair, method, world.rank, (3,))
    agree_on(faults)


def test_other_models_are_prepared_for_though_some_ranks_bring_the_same(world: World) -> None:
    """Where source and target lie on different ranks, a new target says nothing to the sources."""
    scenario, spec = small_case("s1", world.size)
    with small_pair(scenario, spec, world) as first, small_pair(scenario, spec, world) as second:
        mixed = ModelPair(
            scenario=scenario,
            spec=spec,
            source=first.source,
            target=second.target,
            device=world.device,
        )
        for pair in (first, mixed):
            apply_repairs(pair)
        faults = faults_of(first, "packed", world.rank, (1,)) + faults_of(mixed, "packed", world.rank, (2,))
    agree_on(faults)


@pytest.mark.parametrize(
    ("keywords", "what"),
    [({"src_rank_offset": 2}, "src_rank_offset"), ({"num_dst_pools": 2}, "num_dst_pools")],
)
def test_what_the_engines_do_not_know_is_refused(keywords: dict[str, int], what: str, world: World) -> None:
    scenario, spec = small_case("s6", world.size)
    with small_pair(scenario, spec, world) as pair, pytest.raises(EngineError) as caught:
        swap.swap_model_weights(pair.source, pair.target, "direct", **keywords)
    assert str(caught.value) == f"methods direct, packed do not know {what}"
