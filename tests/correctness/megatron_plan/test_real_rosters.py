"""Rosters made from layouts against what megatron-core extracts on real ranks, from real modules."""

import pytest

from fixtures.bounds.fabric import PRESETS
from fixtures.placement.orders import best_placed
from fixtures.ranks import all_gather_object_oob
from fixtures.ranks.world import World
from tests.correctness.small_pairs import small_case, small_pair


@pytest.mark.distributed
@pytest.mark.parametrize("key", ["s1", "s4", "s6", "s7"])
@pytest.mark.parametrize("placed", [False, True])
def test_rosters_equal_what_every_rank_extracts(world: World, key: str, placed: bool) -> None:
    from fixtures.megatron_plan.rosters import build_rosters
    from tests.correctness.megatron_plan.extracted import differences, extract_rosters

    scenario, spec = small_case(key, world.size)
    if placed:
        scenario = best_placed(scenario, spec, PRESETS["8xH200"]).scenario
    with small_pair(scenario, spec, world) as pair:
        mine = extract_rosters(pair, world.rank, spec.experts)
    differing: list[str] = []
    if world.rank < scenario.world_size:
        made = build_rosters(scenario, spec, repairs=False)[world.rank]
        differing = [text for a, b in zip(made, mine, strict=True) for text in differences(a, b)]
    assert not any(all_gather_object_oob(differing))
