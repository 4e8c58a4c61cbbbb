"""Files of schema 1.0 are read in the words of 2.0."""

import json
from pathlib import Path
from typing import Any

import pytest

from fixtures.cases.identity import CaseId
from fixtures.records.reader import read_run, read_runs
from fixtures.records.validate import check_run
from tests.correctness.made_up_runs import case_line, environment

OWN_ID = "own-collocated-tp2ep1-to-tp1ep2-nccl"
REFERENCE = Path(__file__).resolve().parents[3] / "results" / "reference"


def old_line(**fields: Any) -> dict[str, Any]:
    """A case line as schema 1.0 had it."""
    new = case_line("s6", **fields)
    names = ("placement", "options", "scenario_method", "method")
    line = {name: value for name, value in new.items() if name not in names}
    return {**line, "schema": "1.0", "method": new["scenario_method"], "placement": new.get("target_order")}


def read_old(folder: Path, line: dict[str, Any]) -> CaseId:
    path = folder / "old.jsonl"
    path.write_text("\n".join(json.dumps(one) for one in ({**environment(), "schema": "1.0"}, line)) + "\n")
    return read_run(path).cases[0].id


@pytest.mark.parametrize("path", sorted(REFERENCE.glob("*.jsonl")), ids=lambda path: path.stem)
def test_the_reference_runs_are_sound_and_hold_different_cases(path: Path) -> None:
    run = read_run(path)
    assert check_run(run) == []
    assert len({line.id for line in run.cases}) == len(run.cases)


def test_runs_of_the_same_reference_cases_agree() -> None:
    runs = {run.path.stem: {line.id for line in run.cases} for run in read_runs([REFERENCE])}
    assert runs["2026-11-22-2xh200"] == runs["2026-11-22-2xh200-b"]
    assert runs["2026-11-22-2xh200-windows"] == runs["2026-11-22-2xh200-windows-b"]
    assert all(("peer-mapping", "off") in key.options for key in runs["2026-11-22-2xh200-windows"])


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"transport": "ipc"}, {"method": "nvshmem", "options": ()}),
        ({"transport": "nvshmem"}, {"options": (("peer-mapping", "off"),)}),
        ({"engine": "megatron", "transport": "nccl", "repairs": []}, {"options": (("repairs", "off"),)}),
        ({"transport": "process-vm", "case": "t[s6-direct-gloo]"}, {"method": "gloo"}),
        (
            {"scenario": "own-collocated-tp2ep1-to-tp1ep2"},
            {"scenario": "own-collocated-tp2ep1-to-tp1ep2-nccl"},
        ),
        (
            {"scenario": "s6-collocated-tp16ep8-to-tp8ep16-placed", "target_order": [1, 0]},
            {"scenario": "s6-collocated-tp16ep8-to-tp8ep16", "placement": "1,0"},
        ),
        ({"status": "skipped", "reason": "x", "num_layers": None}, {"num_layers": 61}),
    ],
)
def test_an_old_line_says_which_case_it_was(
    tmp_path: Path, fields: dict[str, Any], named: dict[str, Any]
) -> None:
    key = read_old(tmp_path, old_line(**fields))
    assert {name: getattr(key, name) for name in named} == named


@pytest.mark.parametrize(("twin", "verdict"), [([8, 8], "not comparable"), ([1, 1], "within")])
def test_a_twins_verdict_of_then_does_not_stand(tmp_path: Path, twin: list[int], verdict: str) -> None:
    line = old_line(twin=twin, verdict="within", verdict_reason=None)
    read_old(tmp_path, line)
    case = read_run(tmp_path / "old.jsonl").cases[0]
    assert case.verdict == verdict
    assert (case.verdict_reason is None) == (verdict == "within")
