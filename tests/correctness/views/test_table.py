"""The run's end says of each case what its record says, fits its terminal, and tells each reason once."""

import io
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from fixtures.cases.described import Column, Described
from fixtures.records.fields import Field
from fixtures.records.kinds import KINDS
from fixtures.records.reader import read_run
from fixtures.records.record import CaseRecord
from fixtures.views import columns
from fixtures.views.answer import answer, span
from fixtures.views.columns import COLUMNS, Cases, digits, in_order, percentile_95, times
from fixtures.views.measured import REFERENCE
from fixtures.views.table import fitting, notes, render
from tests.correctness.made_up_runs import case, skipped


def cells(record: CaseRecord, *others: CaseRecord) -> dict[str, str]:
    cases = Cases([record, *others])
    return {column.head: column.cell(cases, record) for column in COLUMNS}


def shown(records: list[CaseRecord], width: int) -> str:
    text = io.StringIO()
    render(records, Console(file=text, width=width))
    return text.getvalue()


def heads(records: list[CaseRecord], width: int) -> list[str]:
    return [column.head for column, _ in fitting(in_order(records), width)]


def test_a_passed_case() -> None:
    record = case("s6", warm_ms=[30.0, 10.0, 20.0], cold_ms=1234.5, twin=[8, 8], gbps=12.345, verdict="below")
    found = cells(record)
    assert found[""] == "s6"
    assert found["twin"] == "8,8"
    assert (found["cold"], found["warm"], found["p95"]) == ("1,234", "20", "29")
    assert (found["floor"], found["x floor"], found["GB/s"]) == ("26.1", "0.77 x", "12.3")
    assert (found["expected"], found["verdict"]) == ("20-40", "below")


def test_the_delta_floor_stands_beside_the_dense_one_where_it_is_known() -> None:
    update = {"update": "0.01"}
    record = case("s1", floor_ms=1365.0, delta_floor_ms=34.4, options=update, engine="delta")
    assert (cells(record)["floor"], cells(record)["delta floor"]) == ("1,365", "34.4")
    assert cells(record)["x floor"] == "0.88 x"
    assert cells(case("s1"))["delta floor"] == ""
    assert "delta floor" in heads([record, case("s2")], 220)
    assert "delta floor" not in heads([case("s1")], 220)


def test_the_full_scenario_is_no_twin() -> None:
    assert cells(case("s6", twin=[1, 1]))["twin"] == "full"


@pytest.mark.parametrize(
    ("facts", "exact", "verdict"),
    [
        ({"status": "failed", "mismatches": 12345, "reason": "x"}, "12,345 WRONG", "WRONG"),
        ({"status": "failed", "mismatches": 0, "reason": "x"}, "", "FAILED"),
        ({"verified_bytes": 1_200_000, "verification": {"tensors": 144}}, "144: 1.2 MB", ""),
    ],
)
def test_exactness(facts: dict[str, Any], exact: str, verdict: str) -> None:
    found = cells(case("s6", **facts))
    assert (found["exact"], found["verdict"]) == (exact, verdict)


def test_engines_are_compared_within_a_refit_and_only_there() -> None:
    base = case("s6", [90.0] * 5, engine="megatron")
    fast, other = case("s6", [10.0] * 5), case("s6", [10.0] * 5, num_layers=3)
    assert cells(fast, base, other)["vs megatron"] == "9.0 x"
    assert cells(base, fast)["vs megatron"] == "1.00 x"
    assert cells(other, base, fast)["vs megatron"] == ""
    assert cells(base)["vs megatron"] == ""
    shared = case("s6", [10.0] * 5, options={"ranks-per-gpu": "8"})
    assert cells(shared, base)["vs megatron"] == ""
    wrong = case("s6", [10.0] * 5, status="failed", mismatches=3, reason="x")
    assert cells(wrong, base, fast)["vs megatron"] == ""


def test_what_was_not_measured_is_not_shown_and_the_reason_is_below() -> None:
    record = skipped("s2")
    found = cells(record)
    assert {found[name] for name in ("cold", "warm", "p95", "GB/s", "exact")} == {""}
    assert found["verdict"] == "skipped"
    assert list(notes(Cases([record]))) == [f"skipped: s2 direct nvshmem: {record.reason}"]


def test_a_reason_is_told_once_with_the_cases_it_holds_for() -> None:
    reason = "method nccl needs CUDA GPUs, and this machine has none"
    records = [skipped(key, engine=e, reason=reason) for key in ("s1", "s2") for e in ("direct", "packed")]
    (note,) = notes(in_order([*records, case("s3")]))
    assert note == f"skipped: s1 s2: {reason}"
    (note,) = notes(in_order([*records, case("s2", engine="megatron")]))
    assert note == f"skipped: s1, s2 direct nvshmem and packed nvshmem: {reason}"


def test_what_was_skipped_has_no_row() -> None:
    said = shown([case("s1"), skipped("s2")], 80)
    assert [line.split()[0] for line in said.splitlines() if line.startswith(("s1", "s2"))] == ["s1"]
    assert "skipped: s2" in said
    assert "Kimi K2 refits" not in shown([skipped("s2")], 80)


def test_a_column_that_says_nothing_is_left_out() -> None:
    cpu = [
        case(key, floor_ms=None, gbps=0.04, engine=e) for key in ("s1", "s2") for e in ("megatron", "direct")
    ]
    left_out = {"floor", "x floor", "GB/s", "expected", "verdict", "ranks", "twin", "model"}
    assert not left_out & set(heads(cpu, 200))
    assert "; kimi-k2, 61 layers; twin 4,4; 8 ranks" in shown(cpu, 200)
    assert "ranks" in heads([*cpu, case("s3", ranks=6)], 200)


@pytest.mark.parametrize("path", sorted(REFERENCE.glob("*.jsonl")), ids=lambda path: path.stem)
@pytest.mark.parametrize("width", [80, 100, 120, 160])
def test_committed_runs_fit(path: Any, width: int) -> None:
    records = list(read_run(path).cases)
    text = shown(records, width)
    assert max(map(len, text.splitlines())) <= width
    assert "…" not in text
    for record in records:
        assert digits(record.warm_median) in text
    assert {"", "engine", "warm", "vs megatron", "x floor"} & set(heads(records, 80)) >= {"engine", "warm"}


NAMES = st.text(st.characters(codec="utf-8", exclude_categories=("Cs",)), min_size=1, max_size=70)


@given(
    st.lists(
        st.tuples(st.sampled_from(["s1", "s6", "s7"]), st.floats(0.001, 1e7), NAMES), min_size=1, max_size=6
    ),
    st.integers(40, 200),
)
def test_no_number_is_ever_cut(drawn: list[tuple[str, float, str]], width: int) -> None:
    records = [
        case(key, [ms] * 3, engine=engine, floor_ms=ms / 3, cold_ms=ms * 9) for key, ms, engine in drawn
    ]
    cases = in_order(records)
    for column, room in fitting(cases, width):
        if column.is_number:
            assert all(len(column.cell(cases, record)) <= room for record in records)
    lines = shown(records, width).splitlines()
    assert all(digits(record.warm_median) in "\n".join(lines) for record in records)


def test_a_text_from_a_record_steers_nothing() -> None:
    text = shown(
        [case("s6", engine="\x1b[2J[red]x[/red]", status="failed", reason="\x1b]0;title\x07 [b]y")], 120
    )
    assert "\x1b" not in text
    assert "\x07" not in text
    assert "[red]x[/red]" in text
    assert "[b]y" in text


def test_a_line_is_printed_for_each_case() -> None:
    records = [case("s1"), case("s6", status="failed", reason="gate and up\nsecond line"), skipped("s2")]
    said = shown(records, 180)
    assert all(key in said for key in ("s1", "s2", "s6"))
    assert "gate and up" in said
    assert "second line" not in said


def test_a_new_field_with_a_column_is_shown_without_another_edit(monkeypatch: pytest.MonkeyPatch) -> None:
    new = Field(
        name="peak_extra_bytes",
        kind=KINDS[int],
        described=Described(meaning="memory", unit="bytes", column=Column(head="extra memory")),
        required=False,
        nullable=True,
    )
    known = columns.fields_of(CaseRecord)
    monkeypatch.setattr(columns, "fields_of", lambda _: (*known, new))
    made = {column.head: column for column in columns._columns()}
    assert made["extra memory"].cell(Cases([]), case("s6")) == "2.6 GB"
    assert [head for head in made if head not in {column.head for column in COLUMNS}] == ["extra memory"]


def test_the_answer_says_what_a_person_would_repeat() -> None:
    records = [
        case(
            key,
            [ms] * 3,
            engine=engine,
            floor_ms=None,
            verdict_reason="times on a CPU are not those of a GPU",
        )
        for key in ("s1", "s2")
        for engine, ms in (("megatron", 90.0), ("packed", 10.0 if key == "s1" else 18.0), ("direct", 30.0))
    ]
    assert answer(in_order(records), "a CPU") == (
        "6 of 6 exact; packed 5-9 x, direct 3.0 x faster than megatron; nothing can be said about the "
        "expected ranges: times on a CPU are not those of a GPU. 8 ranks, kimi-k2, 61 layers, a CPU."
    )


def test_the_answer_hides_nothing_that_went_wrong() -> None:
    gate = "fail: above 40 ms"
    wrong = case("s1", status="failed", mismatches=7, reason="scrambled", engine="packed")
    broken = case("s2", status="failed", reason="the wire is cut", elements_verified=0)
    slow = case("s6", verdict="above", status="failed", judgement=[gate], reason=f"gate range: {gate}")
    said = answer(Cases([wrong, broken, slow, skipped("s3"), case("s7", verdict="within")]))
    assert said.startswith("2 of 4 exact, 1 WRONG, 2 failed, 1 skipped; ")
    assert "1 within, 1 above the expected range" in said
    assert answer(Cases([skipped("s3")])).startswith("nothing was run, 1 skipped. ")


def test_an_engine_that_is_slower_is_not_called_faster() -> None:
    records = [case("s6", [10.0], engine="megatron"), case("s6", [20.0], engine="packed")]
    assert "packed 0.50 x the speed of megatron" in answer(Cases(records))
    assert [span([2.2, 8.9]), span([1.04, 1.14]), span([3.0, 3.1])] == ["2-9 x", "1.04-1.14 x", "3.0-3.1 x"]


@given(st.lists(st.floats(0.001, 1e6), min_size=1, max_size=40))
def test_the_95th_percentile_lies_in_the_upper_half(samples: list[float]) -> None:
    found = percentile_95(samples)
    assert found is not None
    ordered = sorted(samples)
    assert ordered[len(ordered) // 2 - 1] * (1 - 1e-9) <= found or len(ordered) < 2
    assert found <= ordered[-1] * (1 + 1e-9)


def test_numbers_and_units() -> None:
    assert [digits(v) for v in (None, 0.01234, 9.876, 99.9, 100.4, 12345.6)] == [
        "-", "0.0123", "9.88", "99.9", "100", "12,346",
    ]  # fmt: skip
    assert [times(v) for v in (1.0, 1.064, 1.996, 7.06, 9.96, 78.4)] == [
        "1.00 x", "1.06 x", "2.0 x", "7.1 x", "10 x", "78 x",
    ]  # fmt: skip
    assert percentile_95([]) is None
    assert percentile_95([7.0]) == 7.0
