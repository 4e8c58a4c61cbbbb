"""Twins hold, rank by rank, tensors of exactly the full scenario's shapes."""

import re
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fixtures.cases.errors import CaseError
from fixtures.cases.inventory import KIMI_K2, KIMI_K2_MINI, ModelSpec
from fixtures.cases.layouts import Layout
from fixtures.cases.scenarios import SCENARIOS, Scenario, find_scenario
from fixtures.cases.shards import shards_of
from fixtures.cases.twins import Twin, fewest_ranks, largest_twin, parse_twin, twins_of

PER_EXPERT = re.compile(r"router\.(weight|expert_bias)$")
"""Replicated tensors with a row for each expert: the only ones that a twin makes smaller."""

scenarios = st.sampled_from(SCENARIOS)


def shapes(model: ModelSpec, layout: Layout, rank: int) -> Counter[tuple[object, ...]]:
    """How many tensors of each shape and dtype a rank holds, the router's left out."""
    held = shards_of(model, layout, rank)
    return Counter((s.shape, s.param.dtype) for s in held if not PER_EXPERT.search(s.param.name))


@pytest.mark.parametrize("model", [KIMI_K2.with_layers(2), KIMI_K2_MINI], ids=lambda m: m.name)
@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda s: s.key)
def test_every_twin_is_shape_exact_on_its_ranks(scenario: Scenario, model: ModelSpec) -> None:
    for side in ("source", "target"):
        full = getattr(scenario, side)
        wanted = shapes(model, full, 0)
        assert wanted == shapes(model, full, full.gpus - 1)
        for twin in twins_of(scenario, model):
            layout = getattr(twin.scenario(scenario), side)
            assert shapes(twin.model(model), layout, layout.gpus - 1) == wanted, twin


def test_smallest_twins() -> None:
    smallest = [fewest_ranks(scenario, KIMI_K2) for scenario in SCENARIOS]
    assert smallest == [2 + 1, 2 + 1, 2 + 1, 2 + 2, 2 + 2, 2, 2]
    assert smallest == [fewest_ranks(scenario, KIMI_K2_MINI) for scenario in SCENARIOS]


def test_twins_on_eight_ranks() -> None:
    fitted = []
    for scenario in SCENARIOS:
        twin = largest_twin(scenario, KIMI_K2_MINI, 8)
        assert twin is not None
        cut = twin.scenario(scenario)
        fitted.append((twin.a, twin.b, str(cut.source), str(cut.target), cut.world_size))
    assert fitted[5] == (4, 4, "TP4,EP2", "TP2,EP4", 8)
    assert fitted[6] == (8, 2, "TP4,EP2", "TP2,EP4", 8)
    assert [row[4] for row in fitted] == [6, 6, 6, 8, 8, 8, 8]


@given(scenarios, st.integers(1, 200))
def test_the_largest_twin_fits_and_none_larger_does(scenario: Scenario, ranks: int) -> None:
    twin = largest_twin(scenario, KIMI_K2, ranks)
    sizes = [t.scenario(scenario).world_size for t in twins_of(scenario, KIMI_K2)]
    if ranks < min(sizes):
        assert twin is None
        return
    assert twin is not None
    assert twin.scenario(scenario).world_size == max(size for size in sizes if size <= ranks)
    if ranks >= scenario.world_size:
        assert twin == Twin()


@given(scenarios, st.integers(8, 128))
def test_what_a_scenario_changes_stays_cut(scenario: Scenario, ranks: int) -> None:
    twin = largest_twin(scenario, KIMI_K2, ranks)
    assert twin is not None
    small = twin.scenario(scenario)
    for dimension in ("tp", "ep"):
        before, after = getattr(scenario.source, dimension), getattr(scenario.target, dimension)
        cut = getattr(small.source, dimension), getattr(small.target, dimension)
        assert cut[0] * after == cut[1] * before
        assert max(cut) >= 2


def test_a_twin_keeps_the_scenarios_name_and_range() -> None:
    small = Twin(a=4, b=4).scenario(find_scenario("s6"))
    assert small.expected == {"kimi-k2": (20, 40)}
    assert small.key == "s6"
    assert Twin().scenario(find_scenario("s6")) is find_scenario("s6")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("4", "'4'"),
        ("4,4,4", "'4,4,4'"),
        ("a,4", "'a,4'"),
        ("-2,4", "'-2,4'"),
        ("0,4", "factor of TP must be a whole number of at least 1, not 0"),
        ("4,0", "factor of EP must be a whole number of at least 1, not 0"),
    ],
)
def test_what_is_no_twin_is_refused(text: str, words: str) -> None:
    with pytest.raises(CaseError) as caught:
        parse_twin(text)
    assert words in str(caught.value)


def test_factors_that_do_not_divide_are_named() -> None:
    assert parse_twin(" 8, 2 ") == Twin(a=8, b=2)
    with pytest.raises(CaseError, match=r"twin 3,1 does not divide TP16,EP8 of s6"):
        Twin(a=3).scenario(find_scenario("s6"))
    with pytest.raises(CaseError, match=r"twin 16,1 does not divide TP8,EP16"):
        Twin(a=16).scenario(find_scenario("s6"))
    with pytest.raises(CaseError, match="factor 3 of TP does not divide 64"):
        Twin(a=3).model(KIMI_K2)
    with pytest.raises(CaseError, match="factor 5 of EP does not divide 384"):
        Twin(b=5).model(KIMI_K2)
