"""The run's table says of each case what its record says."""

import io
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from fixtures.records.record import CaseRecord
from fixtures.views.table import COLUMNS, milliseconds, notes, percentile_95, render, row, size
from tests.correctness.made_up_runs import case, skipped


def cells(record: CaseRecord) -> dict[str, str]:
    return dict(zip(COLUMNS, row(record), strict=True))


def test_a_passed_case() -> None:
    record = case("s6", warm_ms=[30.0, 10.0, 20.0], cold_ms=1234.5, twin=[8, 8], gbps=12.345)
    shown = cells(record)
    assert shown[""] == "s6"
    assert shown["twin"] == "8,8"
    assert (shown["cold"], shown["warm"], shown["p95"]) == ("1,234", "20", "29")
    assert shown["GB/s"] == "12.35"
    assert shown["expected"] == "20-40"


def test_the_delta_floor_stands_beside_the_dense_one_where_it_is_known() -> None:
    record = case("s1", floor_ms=1365.0, delta_floor_ms=34.4, options={"update": "0.01"})
    assert (cells(record)["floor"], cells(record)["delta floor"]) == ("1,365", "34.4")
    assert cells(case("s1"))["delta floor"] == "-"
    for records, shown in (([record, case("s2")], True), ([case("s1")], False)):
        text = io.StringIO()
        render(records, Console(file=text, width=220))
        assert ("delta floor" in text.getvalue()) == shown


def test_the_full_scenario_is_no_twin() -> None:
    assert cells(case("s6", twin=[1, 1]))["twin"] == "full"


@pytest.mark.parametrize(
    ("facts", "shown"),
    [
        ({"status": "failed", "mismatches": 12345, "reason": "x"}, "12,345 WRONG"),
        ({"status": "failed", "mismatches": 0, "reason": "x"}, "FAILED"),
        ({"verified_bytes": 1_200_000, "verification": {"tensors": 144}}, "144: 1.2 MB"),
    ],
)
def test_exactness(facts: dict[str, Any], shown: str) -> None:
    assert cells(case("s6", **facts))["exact"] == shown


def test_what_was_not_measured_is_a_dash_and_the_reason_is_below() -> None:
    record = skipped("s2")
    shown = cells(record)
    assert {shown[name] for name in ("cold", "warm", "p95", "GB/s")} == {"-"}
    assert shown["exact"] == "skipped"
    assert notes([record]) == [f"s2 {record.engine}: {record.reason}"]


def test_a_line_is_printed_for_each_case() -> None:
    text = io.StringIO()
    records = [case("s1"), case("s6", status="failed", reason="gate and up\nsecond line"), skipped("s2")]
    render(records, Console(file=text, width=180))
    said = text.getvalue()
    assert all(key in said for key in ("s1", "s2", "s6"))
    assert "gate and up" in said
    assert "second line" not in said


@given(st.lists(st.floats(0.001, 1e6), min_size=1, max_size=40))
def test_the_95th_percentile_lies_in_the_upper_half(samples: list[float]) -> None:
    found = percentile_95(samples)
    assert found is not None
    ordered = sorted(samples)
    assert ordered[len(ordered) // 2 - 1] * (1 - 1e-9) <= found or len(ordered) < 2
    assert found <= ordered[-1] * (1 + 1e-9)


def test_numbers_and_units() -> None:
    assert [milliseconds(v) for v in (None, 0.01234, 9.876, 99.9, 100.4, 12345.6)] == [
        "-", "0.0123", "9.88", "99.9", "100", "12,346",
    ]  # fmt: skip
    assert [size(v) for v in (None, 12, 1_500, 2.5e6, 68.3e9, 2.053e12)] == [
        "-", "0.0 kB", "1.5 kB", "2.5 MB", "68.3 GB", "2.1 TB",
    ]  # fmt: skip
    assert percentile_95([]) is None
    assert percentile_95([7.0]) == 7.0
