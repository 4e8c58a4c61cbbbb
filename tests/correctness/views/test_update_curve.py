"""Time against the share of changed weights: what belongs to a curve, and where it crosses the dense line."""

import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fixtures.records.reader import Run, read_run
from fixtures.views.report.entries import newest_entries
from fixtures.views.report.page import page
from fixtures.views.report.update_curve import LABEL, UpdateCurve, apart, update_curves, update_figure
from tests.correctness.made_up_runs import case, environment, write_run


def at(share: float, ms: float, engine: str = "delta", **fields: Any) -> Any:
    options = {} if share == 1 else {"update": f"{share:g}"}
    return case("s1", [ms] * 5, engine=engine, transport="ipc", options=options, **fields)


def run_of(folder: Path, *cases: Any) -> Run:
    return read_run(write_run(folder / "night.jsonl", cases, env=environment()))


def curves(folder: Path, *cases: Any) -> list[UpdateCurve]:
    return list(update_curves(newest_entries([run_of(folder, *cases)])))


def test_the_curve_crosses_the_fastest_dense_engines_line(tmp_path: Path) -> None:
    (found,) = curves(
        tmp_path, at(0.1, 100), at(1, 1000), at(0.01, 10), at(1, 316.2278, "direct"), at(1, 500, "packed")
    )
    assert [share for share, _ in found.points] == [0.01, 0.1, 1]
    assert {entry.case.engine for entry in found.dense} == {"direct", "packed"}
    assert found.crossover == pytest.approx(0.3162278, rel=1e-3)
    assert "faster from 32 % on" in found.sentence


def test_a_curve_that_stays_on_one_side_crosses_nowhere(tmp_path: Path) -> None:
    (below,) = curves(tmp_path, at(0.01, 10), at(0.1, 20), at(1, 30, "direct"))
    assert below.crossover is None
    (above,) = curves(tmp_path, at(0.01, 40), at(0.1, 50), at(1, 30, "direct"))
    assert above.crossover is None
    (alone,) = curves(tmp_path, at(0.01, 40), at(0.1, 50))
    assert (alone.crossover, alone.dense) == (None, ())


@given(st.lists(st.floats(0, 190)))
def test_labels_of_near_lines_do_not_meet(heights: list[float]) -> None:
    placed = apart(heights)
    assert all(label >= height for label, height in zip(placed, heights, strict=True))
    assert all(b - a >= LABEL - 1e-9 for a, b in pairwise(sorted(placed)))


def test_a_dense_engines_line_is_that_of_the_largest_share(tmp_path: Path) -> None:
    (found,) = curves(
        tmp_path,
        at(0.01, 10),
        at(0.1, 20),
        at(0.01, 33, "direct"),
        at(1, 30, "direct"),
        at(0.1, 35, "direct"),
    )
    assert [entry.median for entry in found.dense] == [30]


def test_no_curve_from_one_share_nor_across_twins(tmp_path: Path) -> None:
    assert curves(tmp_path, at(0.01, 10), at(1, 30, "direct")) == []
    assert curves(tmp_path, at(0.01, 10), at(0.1, 20, twin=[8, 8])) == []
    assert curves(tmp_path, at(0.01, 10), at(0.1, 20, status="failed", reason="x")) == []


def test_the_figure_is_in_the_page_and_its_places_follow_the_times(tmp_path: Path) -> None:
    cases = [at(0.01, 10, delta_floor_ms=8.0), at(0.1, 100, delta_floor_ms=9.0), at(1, 30, "direct")]
    text = page([run_of(tmp_path, *cases)])
    assert "Time against the share of changed weights" in text
    assert "dashed: floor of what changed" in text
    (found,) = curves(tmp_path, *cases)
    drawn = str(update_figure(found))
    (curve,) = [
        part
        for part in re.findall(r"<line[^>]*>", drawn)
        if "trend" in part and f"e{found.points[0][1].style}" in part
    ]
    y1, y2 = (float(re.search(rf'{name}="([\d.]+)"', curve)[1]) for name in ("y1", "y2"))
    assert y1 > y2
    assert "Time against the share" not in page([run_of(tmp_path, at(1, 30, "direct"))])
