"""A time is held against its scenario's range only where the same bytes cross the same links."""

import pytest
from hypothesis import given, settings

from fixtures.bounds.same_work import LinkBytes, link_bytes, other_work
from fixtures.cases.inventory import find_model
from fixtures.cases.scenarios import SCENARIOS, Scenario, find_scenario
from fixtures.cases.twins import Twin
from tests.correctness.strategies import TINY, scenarios
from tests.correctness.traffic import counted

K2 = find_model("kimi-k2")


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda s: s.key)
def test_the_full_scenario_is_its_own_work_on_every_fabric(scenario: Scenario) -> None:
    for domain in (1, 8, 72):
        assert other_work(scenario, scenario, K2, domain) == ""


def test_two_ranks_are_not_scenario_6() -> None:
    twin, full = Twin(a=8, b=8), find_scenario("s6")
    why = other_work(full, twin.scenario(full), twin.model(K2), 2)
    assert why == (
        "the fullest rank takes 9.3 GB over NVLink and 0.0 GB over NICs from others, and 0.0 GB over NVLink "
        "and 18.5 GB over NICs in the full scenario"
    )


def test_a_twin_of_the_same_bytes_over_the_same_links_counts() -> None:
    full = find_scenario("s1")
    twin = Twin(a=4, b=4)
    assert other_work(full, twin.scenario(full), twin.model(K2), 1) == ""
    assert "over NICs" in other_work(full, twin.scenario(full), twin.model(K2), 8)


@pytest.mark.parametrize(
    ("model", "said"),
    [
        ("kimi-k2-mini", "kimi-k2-mini moves fewer bytes than kimi-k2"),
        ("kimi-k2", "5 of 61 layers move fewer bytes"),
    ],
)
def test_another_model_is_other_work(model: str, said: str) -> None:
    spec = find_model(model, 5) if model == "kimi-k2" else find_model(model)
    assert other_work(SCENARIOS[0], SCENARIOS[0], spec, 8) == said


@settings(max_examples=30, deadline=None)
@given(scenario=scenarios())
def test_all_that_arrives_is_counted_as_by_shards(scenario: Scenario) -> None:
    bytes_of = [counted(TINY, scenario, rank) for rank in range(scenario.world_size)]
    most = max(total - kept for total, kept in bytes_of)
    assert link_bytes(TINY, scenario, scenario.world_size) == LinkBytes(nvlink=most, nic=0)
    assert link_bytes(TINY, scenario, 1) == LinkBytes(nvlink=0, nic=most)
