"""Scenarios as data: ids, prefixes, a user's own row, and one sentence for everything impossible."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fixtures.cases.errors import CaseError
from fixtures.cases.inventory import DEEPSEEK_V3, FULL_MODELS, KIMI_K2, KIMI_K2_MINI, MODELS
from fixtures.cases.layouts import Layout
from fixtures.cases.scenarios import (
    METHODS,
    SCENARIOS,
    Scenario,
    expected_ranking,
    find_scenario,
    find_scenarios,
    parse_scenario,
)

IDS = (
    "s1-non-collocated-tp8ep8-to-tp8ep4",
    "s2-non-collocated-tp16ep4-to-tp8ep4",
    "s3-non-collocated-tp16ep4-to-tp16ep2",
    "s4-non-collocated-tp16ep4-to-tp32ep2",
    "s5-non-collocated-tp8ep8-to-tp16ep4",
    "s6-collocated-tp16ep8-to-tp8ep16",
    "s7-collocated-tp32ep4-to-tp16ep8",
)
RANGES = ((30, 60), (50, 100), (60, 120), (80, 150), (100, 200), (20, 40), (25, 50))
GPUS = ((64, 32), (64, 32), (64, 32), (64, 64), (64, 64), (128, 128), (128, 128))

scenarios = st.sampled_from(SCENARIOS)
sizes = st.integers(1, 64)


def test_the_first_seven_rows_are_the_given_ones() -> None:
    seven = SCENARIOS[:7]
    assert tuple(s.id for s in seven) == IDS
    assert tuple(s.expected_ms(KIMI_K2) for s in seven) == RANGES
    assert tuple((s.source.gpus, s.target.gpus) for s in seven) == GPUS
    assert [s.method for s in seven] == ["nvshmem"] * 5 + ["nccl"] * 2


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda s: s.key)
def test_every_row_can_be_refitted_and_compared(scenario: Scenario) -> None:
    for model in MODELS.values():
        model.check_layout(scenario.source)
        model.check_layout(scenario.target)
    keys = [s.key for s in SCENARIOS]
    assert keys.count(scenario.key) == 1
    assert set(scenario.against) <= set(keys) - {scenario.key}
    assert bool(scenario.against) == bool(scenario.question)
    assert set(scenario.expected) <= {model.name for model in FULL_MODELS}
    assert find_scenario(scenario.key) is find_scenario(scenario.row) is scenario


def test_a_range_belongs_to_a_scenario_with_a_model() -> None:
    scenario = find_scenario("s6")
    assert scenario.expected_ms(KIMI_K2) == scenario.expected_ms(KIMI_K2_MINI) == (20, 40)
    assert scenario.expected_ms(DEEPSEEK_V3) is None
    assert expected_ranking(KIMI_K2)[:2] == ("s6", "s7")
    assert expected_ranking(DEEPSEEK_V3) == ()


def test_a_key_that_begins_another_selects_its_own_row(monkeypatch: pytest.MonkeyPatch) -> None:
    more = (*SCENARIOS, replace(SCENARIOS[0], key="s10"))
    monkeypatch.setattr("fixtures.cases.scenarios.SCENARIOS", more)
    assert find_scenario("s1") is SCENARIOS[0]
    assert find_scenario("s10") is more[-1]


@given(scenarios, st.integers(2, 40))
def test_every_unique_prefix_selects_its_scenario(scenario: Scenario, length: int) -> None:
    assert find_scenario(scenario.id[:length]) is scenario


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("s9", ["'s9'", "s1", "s7"]),
        ("", ["''"]),
        ("S8", ["'S8'"]),
        ("s6-non", ["'s6-non'"]),
        ("s", ["'s'", *IDS]),
        ("8:8:4", ["'8:8:4'", "SRC_TP:SRC_EP"]),
        ("8:x:4:16:collocated:nccl", ["source EP", "'x'"]),
        ("8:8:0:16:collocated:nccl", ["target TP", "'0'"]),
        ("-8:8:4:16:collocated:nccl", ["source TP", "'-8'"]),
        ("8:8:4:1.5:collocated:nccl", ["target EP", "'1.5'"]),
        ("8:8:4::collocated:nccl", ["target EP", "''"]),
        ("8:8:4:16:colocated:nccl", ["'colocated'", "collocated, non-collocated"]),
        ("8:8:4:16:collocated:mpi", ["'mpi'", "nccl, nvshmem, nixl, nccl_m2n, gloo"]),
        ("8:8:4:8:collocated:nccl", ["TP8,EP8", "64", "TP4,EP8", "32"]),
    ],
)
def test_what_is_no_scenario_is_refused_in_one_sentence(text: str, words: list[str]) -> None:
    with pytest.raises(CaseError) as caught:
        find_scenario(text)
    sentence = str(caught.value)
    assert all(word in sentence for word in words), sentence
    assert "\n" not in sentence


@given(sizes, sizes, sizes, sizes, st.sampled_from(METHODS), st.text(max_size=12))
def test_a_users_row_means_what_it_says(
    src_tp: int, src_ep: int, dst_tp: int, dst_ep: int, method: str, purpose: str
) -> None:
    scenario = parse_scenario(f"{src_tp}:{src_ep}:{dst_tp}:{dst_ep}:non-collocated:{method}:{purpose}")
    assert scenario.source == Layout(tp=src_tp, ep=src_ep)
    assert scenario.target == Layout(tp=dst_tp, ep=dst_ep)
    assert (scenario.mode, scenario.method) == ("non-collocated", method)
    assert scenario.purpose == purpose.strip()
    assert scenario.expected == {}


@pytest.mark.parametrize("known", SCENARIOS, ids=lambda s: s.key)
def test_a_row_that_repeats_a_scenario_is_that_scenario(known: Scenario) -> None:
    row = known.row.removesuffix(f":{known.purpose}")
    assert find_scenario(f"{row}:any words") is known
    assert find_scenario(row.replace(known.method, "gloo")).key == "own"


def test_a_description_is_optional_and_may_hold_colons() -> None:
    assert parse_scenario("8:8:4:16:collocated:nccl").purpose == ""
    assert parse_scenario("8:8:4:16:collocated:nccl:TP: halved").purpose == "TP: halved"


@given(scenarios)
def test_world_ranks_hold_each_layout_rank_once(scenario: Scenario) -> None:
    everyone = range(scenario.world_size + 3)
    sources = [rank for rank in map(scenario.source_rank, everyone) if rank is not None]
    targets = [rank for rank in map(scenario.target_rank, everyone) if rank is not None]
    assert sources == list(range(scenario.source.gpus))
    assert targets == list(range(scenario.target.gpus))
    assert [scenario.source_rank(r) for r in scenario.source_world_ranks()] == sources
    assert [scenario.target_rank(r) for r in scenario.target_world_ranks()] == targets
    shared = set(scenario.source_world_ranks()) & set(scenario.target_world_ranks())
    assert len(shared) == (scenario.world_size if scenario.collocated else 0)


@given(st.integers(1, 40), st.integers(1, 40))
def test_layout_coordinates_name_each_rank_once(tp: int, ep: int) -> None:
    layout = Layout(tp=tp, ep=ep)
    places = [(layout.ep_rank(rank), layout.tp_rank(rank)) for rank in range(layout.gpus)]
    assert places == [(e, t) for e in range(ep) for t in range(tp)]


@pytest.mark.parametrize("size", [0, -1, 1.0, "8", True, None])
def test_a_layout_refuses_what_is_no_size(size: object) -> None:
    with pytest.raises(CaseError, match="at least 1") as caught:
        Layout(tp=size, ep=1)  # type: ignore[arg-type]
    assert repr(size) in str(caught.value)
    with pytest.raises(CaseError, match="expert parallel size"):
        Layout(tp=1, ep=size)  # type: ignore[arg-type]


@pytest.mark.parametrize("text", ["6", "s6", "S6", " s6 ", "s6-collocated"])
def test_a_scenario_is_found_by_what_a_person_calls_it(text: str) -> None:
    assert find_scenario(text).key == "s6"


@given(scenarios)
def test_the_opposite_direction_is_a_scenario_of_its_own(scenario: Scenario) -> None:
    back = scenario.reversed
    assert (back.source, back.target, back.mode) == (scenario.target, scenario.source, scenario.mode)
    assert back.id not in IDS
    assert back.key == f"{scenario.key}r"
    assert back.expected == {}
    assert back.against == ()
    assert back.reversed is scenario
    for named in (back.key, back.key[1:].upper(), back.id, f"{back.row} in words"):
        assert find_scenario(named) == back


def test_a_users_own_row_reversed_is_the_row_the_other_way_round() -> None:
    own = parse_scenario("8:2:4:4:collocated:gloo:mine").reversed
    assert own.row == "4:4:8:2:collocated:gloo:mine, reversed"
    assert parse_scenario(own.row) == own


def test_several_scenarios_in_one_word() -> None:
    assert [s.key for s in find_scenarios(["s1,s6", "7"])] == ["s1", "s6", "s7"]
    own = "8:8:4:16:collocated:nccl:one, two"
    assert [s.purpose for s in find_scenarios([own])] == ["one, two"]
    with pytest.raises(CaseError, match="unknown scenario ''"):
        find_scenarios(["s1,"])
    with pytest.raises(CaseError, match="unknown scenario '8'"):
        find_scenarios(["8"])
