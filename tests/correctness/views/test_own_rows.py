"""Rows of a user's own lose no result: each is a case of its own, under its own name, wherever it shows."""

from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from fixtures.cases.scenarios import find_scenario
from fixtures.records.reader import Run, read_run
from fixtures.records.validate import check_run
from fixtures.views.report.entries import newest_entries
from fixtures.views.report.page import page
from fixtures.views.table import render
from tests.correctness.made_up_runs import case, write_run

ROWS = {
    "fewer TP": "8:8:4:16:collocated:nccl:fewer TP",
    "one-sided": "8:8:4:16:collocated:nvshmem:one-sided",
    "apart": "4:8:4:16:non-collocated:nccl:apart",
}


@pytest.fixture
def run(tmp_path: Path) -> Run:
    rows = map(find_scenario, ROWS.values())
    cases = [case(scenario=s.id, purpose=s.purpose, expected_ms=None, source=None, target=None) for s in rows]
    return read_run(write_run(tmp_path / "own.jsonl", cases))


def test_a_file_of_three_is_sound_and_holds_three_cases(run: Run) -> None:
    assert check_run(run) == []
    assert len(newest_entries([run])) == 3


def test_table_and_page_show_each_by_its_description(run: Run) -> None:
    console = Console(file=StringIO(), width=200)
    render(run.cases, console)
    table = console.file.getvalue()  # type: ignore[attr-defined]
    html = page([run])
    for name in ROWS:
        assert table.count(name) == 1
        assert name in html
    assert " own " not in table
