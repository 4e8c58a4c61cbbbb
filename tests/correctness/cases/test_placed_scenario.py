from dataclasses import replace

import pytest

from fixtures.cases.errors import CaseError
from fixtures.cases.inventory import KIMI_K2_MINI
from fixtures.cases.scenarios import SCENARIOS, find_scenario
from fixtures.cases.twins import Twin
from tests.correctness.traffic import counted


def swapped(count: int) -> tuple[int, ...]:
    return (1, 0, *range(2, count))


def test_every_scenario_keeps_megatrons_order_by_default() -> None:
    for scenario in SCENARIOS:
        assert scenario.placement is None
        identity = replace(scenario, placement=tuple(range(scenario.target.gpus)))
        for rank in range(scenario.world_size):
            assert identity.target_rank(rank) == scenario.target_rank(rank)


def test_placement_moves_target_ranks_and_nothing_else() -> None:
    scenario = find_scenario("s1")
    placed = replace(scenario, placement=swapped(32))
    assert [placed.target_rank(r) for r in (63, 64, 65, 66)] == [None, 1, 0, 2]
    assert [placed.source_rank(r) for r in (0, 63, 64)] == [0, 63, None]
    assert placed.target_world_ranks()[:3] == (65, 64, 66)


def test_placed_scenario_has_an_id_of_its_own() -> None:
    scenario = find_scenario("s6")
    assert replace(scenario, placement=swapped(128)).id == scenario.id + "-placed"


def test_bytes_received_follow_the_placement() -> None:
    twin = Twin(a=4, b=4)
    model, scenario = twin.model(KIMI_K2_MINI), twin.scenario(find_scenario("s6"))
    placed = replace(scenario, placement=swapped(8))
    (total, kept), (usual, usually_kept) = (counted(model, s, 1) for s in (placed, scenario))
    assert total == usual
    assert kept > usually_kept


@pytest.mark.parametrize("placement", [(), (0,) * 128, tuple(range(1, 129)), tuple(range(127))])
def test_what_is_no_permutation_is_refused_in_one_sentence(placement: tuple[int, ...]) -> None:
    with pytest.raises(CaseError, match=r"each target rank 0\.\.127 once"):
        replace(find_scenario("s6"), placement=placement)


def test_a_twin_refuses_the_placement_of_the_full_scenario() -> None:
    placed = replace(find_scenario("s6"), placement=swapped(128))
    assert Twin().scenario(placed) is placed
    with pytest.raises(CaseError, match="placement of its own"):
        Twin(a=8, b=8).scenario(placed)
