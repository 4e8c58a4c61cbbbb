"""Both directions of a scenario in one record: refitted to the bit, told apart, and resumed apart."""

from pathlib import Path

from fixtures.plugins.resume import NOTHING_LEFT
from tests.correctness.cli.inner_runs import run_suite

CASE = ("--engine=packed", "--method=gloo", "--ranks=2", "--iterations=1", "--warmup=0", "--num-layers=2")
THERE, BACK = "s6-collocated-tp16ep8-to-tp8ep16", "s6r-collocated-tp8ep16-to-tp16ep8"


def test_both_directions_stand_in_one_record(tmp_path: Path) -> None:
    run = run_suite(tmp_path, "--scenario=s6", "--reverse", *CASE)
    assert run.code == 0, run.output
    assert [case["scenario"] for case in run.cases] == [BACK]
    record = tmp_path / "results" / "inner.jsonl"
    both = run_suite(tmp_path, "--scenario=s6,s6r", *CASE, f"--resume={record}")
    assert both.code == 0, both.output
    assert [case["scenario"] for case in both.cases] == [BACK, THERE]
    for case in both.cases:
        assert (case["status"], case["mismatches"]) == ("passed", 0)
        assert case["elements_verified"] > 0
    back, there = both.cases
    assert (back["source"], back["target"]) == (there["target"], there["source"])
    assert (back["expected_ms"], there["expected_ms"]) == (None, [20, 40])
    assert "s6r packed" in both.output
    again = run_suite(tmp_path, "--scenario=s6", "--reverse", *CASE, f"--resume={record}")
    assert NOTHING_LEFT in again.output
