"""The gate on the test itself: a missed limit fails it, with its numbers; an expected miss does not."""

from types import SimpleNamespace
from typing import Any

import pytest

from fixtures.gates.judgement import Judgement, judge
from fixtures.plugins.gate import judged, judged_none, refuse_early, summed_up
from fixtures.records.record import CaseRecord
from tests.correctness.made_up_runs import case

GPUS = {"identity": {"devices_per_host": 8, "settings": {}}}


def record(**changes: Any) -> CaseRecord:
    made = case("s6", [50.0, 52.0, 51.0], engine="megatron", floor_ms=24.0, verdict="above")
    return made.having(**changes)


def reports(outcome: str = "passed") -> list[Any]:
    return [
        SimpleNamespace(when=when, outcome=outcome, failed=outcome == "failed", longrepr=None)
        for when in ("setup", "call", "teardown")
    ]


@pytest.mark.parametrize(
    ("gate", "words"), [("range", "expected 20 ms to 40 ms"), ("floor=1.3", "2.12 x the floor")]
)
def test_a_missed_gate_fails_the_call_and_the_record_with_its_numbers(gate: str, words: str) -> None:
    made, phases = record(), reports()
    made = judged(made, phases, gate, judge(made, gate, None, GPUS))
    assert phases[1].outcome == "failed"
    assert phases[0].outcome == phases[2].outcome == "passed"
    assert made.status == "failed"
    assert made.outcome == "passed"
    for text in (phases[1].longrepr, made.reason, made.judgement[0]):
        assert "51 ms" in text
        assert words in text


@pytest.mark.parametrize(
    ("gate", "words"), [("range", ""), ("floor=1.3", ""), ("baseline", "below the floor")]
)
def test_what_failed_stays_failed_whatever_the_gate_says_beside(gate: str, words: str) -> None:
    """Weights that came late make a time below the floor, which a gate on baselines refuses as well."""
    late = record(status="failed", reason="rank 1: late", warm_ms=(2.0, 2.0, 2.0), mismatches=0)
    made = judged(late, reports("failed"), gate, judge(late, gate, None, GPUS))
    assert words in " ".join(made.judgement)
    assert (made.status, made.outcome, made.reason) == ("failed", "failed", "rank 1: late")


@pytest.mark.parametrize("gate", ["range", "floor=1.3"])
def test_a_met_gate_leaves_the_test_alone(gate: str) -> None:
    made, phases = record(warm_ms=(25.0, 26.0, 27.0), verdict="within"), reports()
    made = judged(made, phases, gate, judge(made, gate, None, GPUS))
    assert {report.outcome for report in phases} == {"passed"}
    assert (made.status, made.reason) == ("passed", None)
    assert made.judgement[0].startswith("pass: ")


def test_an_expected_failure_is_an_xfail() -> None:
    expected = Judgement(word="xfail", sentences=("scrambled experts",))
    made, phases = record(status="failed", reason="wrong"), reports("failed")[:2]
    made = judged(made, phases, "range", expected)
    assert all(report.outcome == "skipped" for report in phases)
    assert all("scrambled experts" in report.wasxfail for report in phases)
    assert made.status == "failed"


def test_a_harmful_environment_refuses_the_gate_before_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    refuse_early("floor=1.3", GPUS)
    monkeypatch.setenv("PYTHONDEVMODE", "1")
    with pytest.raises(pytest.UsageError, match="PYTHONDEVMODE=1 slows Python down"):
        refuse_early("floor=1.3", GPUS)


def test_what_a_gate_said_is_summed_up_and_what_it_could_not_judge_is_named() -> None:
    passed = record(judgement=("pass: fine.",))
    better = record(judgement=("better: faster.",), engine="packed")
    lacking = record(judgement=("no reference: nothing is known.",), engine="direct")
    skipped = record(status="skipped", judgement=("no reference: a skipped case is not judged.",))
    lines = summed_up("baseline", [passed, better, lacking, skipped])
    assert lines[0] == "gate baseline: 1 pass, 1 better, 1 no reference"
    assert lines[1].startswith("s6 packed ")
    assert lines[1].endswith("better: faster.")
    assert lines[2].startswith("no reference: s6 direct ")
    assert not judged_none([passed, lacking])
    assert judged_none([lacking, skipped])
    assert not judged_none([skipped])
    assert summed_up("baseline", [skipped]) == []
