"""Any field of any line, set to anything: each tool says a sentence or does its work, within bounds."""

import io
import json
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fixtures.records.fields import fields_of
from fixtures.records.plain import HIDDEN
from fixtures.records.schema import FACTS, LINES
from tests.correctness.made_up_runs import CALIBRATION, case_line, environment
from tests.correctness.tools.hostile import VALUES, exit_code, fuzzed

PLACES = [
    *((kind, f.name) for kind, cls in LINES.items() for f in fields_of(cls)),
    *((part, f.name) for part, cls in FACTS.items() for f in fields_of(cls)),
    *((kind, name) for kind in LINES for name in ("type", "schema", "an unknown field")),
    ("verification", "tensors"),
    ("verification", "diagnosis"),
    ("engine_facts", "bytes_in"),
]
"""(line or object within one, field)."""

RATES = [place for place in PLACES if place[0] == "calibration"]

type Change = tuple[tuple[str, str], Any]


def lines(changes: list[Change], night: int) -> list[dict[str, Any]]:
    """A run of one night with changes made to its lines."""
    end = {"type": "end", "schema": "2.0", "status": "completed", "cases": 3, "exit_code": 0}
    run = {
        "environment": environment(f"2030-01-0{night}T00:00:00+00:00"),
        "calibration": {"type": "calibration", "schema": "2.0", **CALIBRATION},
        "case": case_line(verification={"tensors": 7, "diagnosis": []}, engine_facts={"bytes_in": 7}),
        "end": end,
    }
    for (place, name), value in changes:
        line = run.get(place) or {**run["case"], **run["environment"]}[place]
        if isinstance(line, dict):
            line[name] = value
    others = [case_line("s7"), case_line("s6", engine="megatron")]
    return [run["environment"], run["calibration"], run["case"], *others, run["end"]]


def write(folder: Path, changes: list[Change]) -> None:
    """Three nights with the same changes, so that tools have something to compare."""
    folder.mkdir(exist_ok=True)
    for night in (1, 2, 3):
        text = "".join(json.dumps(line) + "\n" for line in lines(changes, night))
        (folder / f"night{night}.jsonl").write_text(text)
    before = "".join(json.dumps(line) + "\n" for line in lines([], 0))
    (folder / "before").write_text(before)


def commands(folder: Path) -> list[list[str]]:
    """Every tool that reads result files, on the folder."""
    runs, page = str(folder), str(folder / "page.html")
    first, before = str(folder / "night1.jsonl"), str(folder / "before")
    return [
        ["check-results", runs],
        ["summary", first],
        ["report", runs, "-o", page],
        ["report", runs, "--markdown"],
        ["history", "s6", "--results", runs],
        ["compare", before, runs],
        ["compare", before, runs, "--markdown"],
        ["compare", before, runs, "--json"],
        ["export", runs, "-o", str(folder / "cases.csv")],
        ["export", runs, "-o", str(folder / "cases.prom")],
        ["baseline", runs, "--because", "x", "-o", str(folder / "base.toml"), "--new-system"],
    ]


def ran(argv: list[str]) -> str:
    """All that a tool prints; it ends with 0, 1 or 2."""
    out = io.StringIO()
    with redirect_stdout(out), redirect_stderr(out):
        code = exit_code(argv)
    assert code in (0, 1, 2), f"{argv}: exit code {code}"
    return out.getvalue()


@fuzzed(60)
@given(changes=st.lists(st.tuples(st.sampled_from(PLACES), VALUES), min_size=1, max_size=3))
def test_each_tool_takes_or_refuses_any_field(
    changes: list[Change], tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.getbasetemp() / "hostile"
    write(folder, changes)
    for argv in commands(folder):
        said = ran(argv)
        assert not HIDDEN.search(said), f"{argv[0]} prints hidden characters"
        assert "Traceback" not in said


@fuzzed(3)
@given(changes=st.lists(st.tuples(st.sampled_from(RATES), VALUES), min_size=1, max_size=3))
def test_a_plan_takes_or_refuses_any_measured_rate(
    changes: list[Change], tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.getbasetemp() / "hostile-rates"
    write(folder, changes)
    said = ran(["plan", "s6", "--fabric", str(folder / "night1.jsonl")])
    assert "Traceback" not in said
