"""The suite's own plan on real models and ranks: the same transfers as megatron-core's repaired plan."""

from collections import Counter

import pytest
from torch import nn

from fixtures.cases.scenarios import SCENARIOS
from fixtures.engines.base import EngineError
from fixtures.engines.plan import RankPlan, Transfer, megatron_plan, near_plan, own_plan, streams_of
from fixtures.engines.repairs import apply_repairs
from fixtures.ranks.world import World
from tests.correctness.small_pairs import agree_on, small_case, small_pair

pytestmark = pytest.mark.distributed
KEYS = [scenario.key for scenario in SCENARIOS]


def by_shape(transfers: list[Transfer]) -> Counter[object]:
    """Peer, address and shape of each."""
    return Counter((t.peer, t.view.data_ptr(), tuple(t.view.shape), t.view.stride()) for t in transfers)


def differing(own: RankPlan, megatrons: RankPlan) -> list[str]:
    return [
        f"{len(a)} {what} are not megatron's {len(b)}"
        for what, a, b in (
            ("sends", own.sends, megatrons.sends),
            ("receives", own.receives, megatrons.receives),
        )
        if by_shape(a) != by_shape(b)
    ]


@pytest.mark.parametrize("key", [*KEYS, "2:1:1:2:collocated:gloo", "1:2:2:1:non-collocated:gloo"])
def test_equals_megatrons_plan_transfer_for_transfer(key: str, world: World) -> None:
    with small_pair(*small_case(key, world.size), world) as pair:
        apply_repairs(pair)
        own = own_plan(pair)
        agree_on(differing(own, megatron_plan(pair)))
        streams_of(own)


def test_believes_the_attributes_as_megatron_does(world: World) -> None:
    """Without the repair of gated experts' stride both plans are the same wrong one."""
    with small_pair(*small_case("s6", world.size), world) as pair:
        agree_on(differing(own_plan(pair), megatron_plan(pair)))


def test_nearest_sources_fill_the_same_tensors(world: World) -> None:
    with small_pair(*small_case("s1", world.size), world) as pair:
        apply_repairs(pair)
        near, usual = near_plan(pair), own_plan(pair)
        places = [Counter(t.view.data_ptr() for t in plan.receives) for plan in (near, usual)]
        agree_on([] if places[0] == places[1] else ["the nearest sources fill other tensors"])
        streams_of(near)


def test_ranks_that_disagree_about_a_weight_are_told(world: World) -> None:
    with small_pair(*small_case("s6", world.size), world) as pair:
        apply_repairs(pair)
        if world.rank == 1 and pair.source is not None:
            rename(pair.source)
        with pytest.raises(EngineError, match=r"rank \d+: rank \d+ plans to send"):
            streams_of(own_plan(pair))


def rename(model: nn.Module) -> None:
    """A weight under another name, so that its place in the order is another."""
    layer = model.decoder.layers[0]  # type: ignore[union-attr, index]
    layer.zz_layernorm = layer.input_layernorm  # type: ignore[union-attr]
    del layer.input_layernorm  # type: ignore[union-attr]
