"""Which case it is: known before anything runs, the same for what passed and what broke."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fixtures.cases.errors import CaseError
from fixtures.cases.identity import OPTIONS, CaseId, chosen_options
from fixtures.cases.inventory import MODELS
from fixtures.cases.scenarios import METHODS, SCENARIOS, find_scenario

FULL = CaseId(
    scenario="s6-collocated-tp16ep8-to-tp8ep16",
    model="kimi-k2",
    num_layers=61,
    twin=(1, 1),
    engine="direct",
    method="nvshmem",
)

case_ids = st.builds(
    CaseId,
    scenario=st.sampled_from([s.id for s in SCENARIOS] + [find_scenario("2:1:1:2:collocated:gloo:mine").id]),
    placement=st.sampled_from(["megatron", "best", "1,0", ",".join(map(str, range(128)))]),
    model=st.sampled_from(list(MODELS)),
    num_layers=st.integers(1, 61),
    twin=st.tuples(st.integers(1, 16), st.integers(1, 16)),
    engine=st.sampled_from(["megatron", "packed"]),
    method=st.sampled_from(METHODS),
    options=st.dictionaries(st.sampled_from(list(OPTIONS)), st.sampled_from(["off", "1"])).map(
        lambda chosen: tuple(sorted(chosen.items()))
    ),
    purpose=st.sampled_from(["", "mine"]),
)


def test_a_full_scenario_has_the_shortest_id() -> None:
    assert FULL.test_id == "s6-collocated-tp16ep8-to-tp8ep16-direct-nvshmem"
    assert FULL.label == "s6 direct nvshmem"


def test_what_is_not_the_default_is_named() -> None:
    small = replace(
        FULL,
        model="kimi-k2-mini",
        num_layers=2,
        twin=(8, 4),
        placement="best",
        options=chosen_options({"repairs": False, "buffer-gb": 3.0}),
    )
    assert small.test_id.removeprefix(FULL.test_id) == (
        "-twin8x4-kimi-k2-mini-2layers-placed-best-repairs-off"
    )
    assert small.label == "s6 direct nvshmem twin 8,4 kimi-k2-mini 2 layers in order best repairs=off"
    assert small.name == "s6 placed"


def test_an_unknown_option_is_refused() -> None:
    with pytest.raises(CaseError, match="unknown option 'colour'"):
        chosen_options({"colour": "red"})


@given(case_ids)
def test_a_case_line_brings_the_identity_back(case: CaseId) -> None:
    again = CaseId.of(case.facts())
    assert (again, again.purpose) == (case, case.purpose)


@given(case_ids, case_ids)
def test_different_cases_have_different_names(one: CaseId, other: CaseId) -> None:
    assert (one.test_id == other.test_id) == (one == other)
    assert one == other or replace(one, purpose="") == other or one.label != other.label


def test_a_users_row_is_its_layouts_mode_and_method_and_shown_with_its_description() -> None:
    rows = [
        "8:8:4:16:collocated:nccl:a",
        "8:8:4:16:collocated:nvshmem:b",
        "4:8:4:16:non-collocated:nccl:c",
        "8:8:4:16:collocated:nccl:another description",
    ]
    ids = [replace(FULL, scenario=s.id, purpose=s.purpose) for s in map(find_scenario, rows)]
    assert [case.name for case in ids[:3]] == ["a", "b", "c"]
    assert len(set(ids)) == 3
    assert ids[0] == ids[3]
    assert all("own" not in case.label for case in ids)
    bare = find_scenario("8:8:4:16:collocated:nccl")
    assert replace(FULL, scenario=bare.id, purpose=bare.purpose).name == "collocated-tp8ep8-to-tp4ep16-nccl"
