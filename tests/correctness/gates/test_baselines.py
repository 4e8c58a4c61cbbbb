"""Baselines survive the round trip through their file, and the gate of one case says what it should."""

import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fixtures.gates.baselines import Baseline, Change, Reference, baseline_text, find_baseline, load_baseline
from fixtures.gates.judgement import gate_obstacle, judge, parse_gate
from fixtures.gates.new_baseline import new_baseline
from fixtures.records.errors import RecordError
from fixtures.records.reader import Run, read_run
from fixtures.records.record import CaseRecord
from tests.correctness.made_up_runs import CALIBRATION, case, environment, skipped, write_run


def _runs(folder: Path, count: int = 5, **fields: object) -> list[Run]:
    lines = [
        [case(warm_ms=[30.0 + 0.2 * i] * 5, **fields), case("s2", [80.0] * 5), skipped("s1")]
        for i in range(count)
    ]
    paths = [
        write_run(folder / f"night{i}.jsonl", cases, calibration=CALIBRATION) for i, cases in enumerate(lines)
    ]
    return [read_run(path) for path in paths]


@pytest.fixture
def baseline(tmp_path: Path) -> Baseline:
    return new_baseline(_runs(tmp_path), "first night")


def test_round_trip(tmp_path: Path, baseline: Baseline) -> None:
    path = tmp_path / "thresholds" / "h200.toml"
    path.parent.mkdir()
    path.write_text(baseline_text(baseline))
    assert replace(load_baseline(path), path=None) == baseline
    assert find_baseline(environment()["identity"], path.parent).references == baseline.references
    assert baseline.changes[0].because == "first night"


@given(st.text(), st.text(min_size=1), st.booleans())
def test_any_words_come_back(because: str, reason: str, flag: bool) -> None:
    key = case().id
    odd = Reference(
        key=key, metric="warm_ms", value=9, lower=1, upper=2, unit="ms", status="xfail", reason=reason
    )
    made = Baseline(
        system="x",
        identity={"a": because, "b": flag, "c": 1.5, "d": [1, 2]},
        references=(odd,),
        changes=(Change(when="today", because=because, runs=(reason,)),),
    )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x.toml"
        path.write_text(baseline_text(made), newline="")
        assert replace(load_baseline(path), path=None) == made


def test_only_writing_a_baseline_needs_tomlkit(baseline: Baseline, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tomlkit", None)
    with pytest.raises(RecordError, match="needs tomlkit: pip install"):
        baseline_text(baseline)


def test_references_hold_what_the_runs_said(baseline: Baseline) -> None:
    warm = next(
        ref for ref in baseline.references if ref.metric == "warm_ms" and ref.key.scenario.startswith("s6")
    )
    assert (warm.value, warm.unit, warm.direction, warm.runs, warm.machine) == (30.4, "ms", "lower", 5, 390.0)
    assert warm.lower < 29 < 30.8 < warm.upper
    assert {ref.metric for ref in baseline.references} == {"warm_ms", "cold_ms", "peak_extra_bytes"}
    assert not any(ref.key.scenario.startswith("s1") for ref in baseline.references)


def test_new_baseline_keeps_what_it_did_not_measure_and_expected_failures(
    tmp_path: Path, baseline: Baseline
) -> None:
    marked = replace(
        baseline,
        references=tuple(
            replace(ref, status="xfail", reason="known slow", lower=1.0, upper=2.0)
            for ref in baseline.references
        ),
    )
    only_s6 = [read_run(write_run(tmp_path / f"x{i}.jsonl", [case(warm_ms=[40.0] * 5)])) for i in range(3)]
    fresh = new_baseline(only_s6, "s6 is slower with checks on", old=marked)
    assert len(fresh.references) == len(baseline.references)
    assert [change.because for change in fresh.changes] == ["first night", "s6 is slower with checks on"]
    warm = next(
        ref for ref in fresh.references if ref.metric == "warm_ms" and ref.key.scenario.startswith("s6")
    )
    assert (warm.value, warm.upper, warm.status) == (40.0, 2.0, "xfail")


def test_new_baseline_refuses_bad_runs(tmp_path: Path) -> None:
    runs = _runs(tmp_path)
    with pytest.raises(RecordError, match="needs at least 3 runs to know their noise, not 2"):
        new_baseline(runs[:2], "x")
    with pytest.raises(RecordError, match="needs an explanation"):
        new_baseline(runs, "  ")
    other = read_run(write_run(tmp_path / "other.jsonl", [case()], env=environment(torch="9")))
    with pytest.raises(RecordError, match=r"is of another system than .*: torch was '2.11.0' and is '9'"):
        new_baseline([*runs, other], "x")
    loud = environment(settings={"NCCL_DEBUG": "INFO"})
    noisy = [read_run(write_run(tmp_path / f"loud{i}.jsonl", [case()], env=loud)) for i in range(3)]
    with pytest.raises(RecordError, match="cannot be a baseline: times mean nothing here: NCCL_DEBUG=INFO"):
        new_baseline(noisy, "x")


def _warm(ms: float, **fields: object) -> CaseRecord:
    return case(warm_ms=[ms] * 5, **{"floor_ms": None, **fields})


def test_gate_baseline_names_each_missed_metric_with_its_numbers(baseline: Baseline) -> None:
    judged = judge(_warm(40.0, cold_ms=9000.0), "baseline", baseline, environment())
    assert (judged.word, judged.ok) == ("fail", False)
    assert len(judged.sentences) == 2
    warm = next(text for text in judged.sentences if text.startswith("warm_ms"))
    assert warm.startswith("warm_ms is 40 ms (+31.6%), reference 30.4 ms in [2")
    assert warm.endswith("since night.")
    assert judge(_warm(30.6), "baseline", baseline, environment()).word == "pass"


def test_gate_baseline_other_words(baseline: Baseline) -> None:
    faster = judge(_warm(20.0), "baseline", baseline, environment())
    assert (faster.word, faster.ok) == ("better", True)
    assert "a fresh baseline is due" in faster.sentences[0]
    assert judge(case("s3"), "baseline", baseline, environment()).word == "no reference"
    assert judge(skipped("s6"), "baseline", baseline, environment()).word == "no reference"
    elsewhere = judge(_warm(30.0), "baseline", baseline, environment(torch="9"))
    assert (elsewhere.word, elsewhere.ok) == ("refused", False)
    assert "torch was '2.11.0' and is '9'" in elsewhere.sentences[0]
    assert judge(_warm(30.0), "baseline", None, environment()).word == "refused"
    across = replace(baseline, across=("torch",))
    assert judge(_warm(30.0), "baseline", across, environment(torch="9")).word == "pass"


def test_a_throttled_case_does_not_pass_by_its_other_metrics(baseline: Baseline) -> None:
    """Its warm time is unknown; the cold one alone is within its bounds."""
    judged = judge(_warm(30.4, throttled=[0, 1, 2]), "baseline", baseline, environment())
    assert (judged.word, judged.ok) == ("refused", False)
    assert judged.sentences == ("warm_ms has a reference, but no time to hold against it.",)


def test_gate_baseline_on_a_slower_machine(baseline: Baseline) -> None:
    slow = {**CALIBRATION, "put_gbps": 300.0}
    judged = judge(_warm(39.0), "baseline", baseline, environment(), slow)
    assert (judged.word, judged.ok) == ("pass", True)
    assert judge(_warm(50.0), "baseline", baseline, environment(), slow).word == "fail"


def test_expected_failures_are_references_too(tmp_path: Path, baseline: Baseline) -> None:
    slow = replace(
        baseline,
        references=tuple(replace(r, status="xfail", reason="no fast path") for r in baseline.references),
    )
    assert (
        judge(_warm(99.0, cold_ms=1e6, peak_extra_bytes=10**12), "baseline", slow, environment()).word
        == "xfail"
    )
    surprise = judge(_warm(30.4), "baseline", slow, environment())
    assert (surprise.word, surprise.ok) == ("xpass", True)
    assert "was expected to miss but does not; remove the xfail (no fast path)" in surprise.sentences[0]
    broken = [case(status="failed", reason="8 mismatches", engine="megatron")]
    runs = [read_run(write_run(tmp_path / f"f{i}.jsonl", broken)) for i in range(3)]
    expected = new_baseline(runs, "as shipped", xfail={"s6 megatron": "scrambled experts"})
    assert judge(broken[0], "baseline", expected, environment()).word == "xfail"
    healed = judge(case(engine="megatron"), "baseline", expected, environment())
    assert healed.sentences == (
        "passed: was expected to miss but does not; remove the xfail (scrambled experts).",
    )


PART = {"engine": "delta", "options": {"update": "0.01"}, "delta_floor_ms": 10.0}
"""A delta refit: only what changed has to move."""
GATES = [
    (
        "range",
        {"verdict": "above", "warm_ms": [50.0] * 3},
        "fail",
        "warm_ms is 50 ms, expected 20 ms to 40 ms.",
    ),
    ("range", {"verdict": "within", "warm_ms": [30.0] * 3}, "pass", ""),
    ("range", {"verdict": "below", "warm_ms": [10.0] * 3, "floor_ms": 9.0}, "better", ""),
    (
        "range",
        {"verdict": "not comparable", "verdict_reason": "a CPU says nothing"},
        "refused",
        "a CPU says nothing.",
    ),
    ("floor=1.3", {"warm_ms": [34.0] * 3}, "fail", "1.31 x the floor of 26 ms; allowed are 1.3 x."),
    ("floor=1.3", {"warm_ms": [33.0] * 3}, "pass", ""),
    ("floor=1.3", {"warm_ms": [25.5] * 3}, "pass", ""),
    (
        "floor=1.3",
        {"warm_ms": [0.004] * 3},
        "refused",
        "0.004 ms is below the floor of 26 ms: not all of the refit was timed.",
    ),
    (
        "range",
        {"verdict": "below", "warm_ms": [10.0] * 3},
        "refused",
        "10 ms is below the floor of 26 ms: not all of the refit was timed.",
    ),
    ("floor=1.3", {"floor_ms": None}, "refused", "the floor of this machine is unknown."),
    ("floor=1.3", {**PART, "warm_ms": [12.9] * 3}, "pass", "1.29 x the floor of 10 ms; allowed are 1.3 x."),
    ("floor=1.3", {**PART, "warm_ms": [25.0] * 3}, "fail", "2.50 x the floor of 10 ms; allowed are 1.3 x."),
    (
        "floor=1.3",
        {**PART, "engine": "direct", "warm_ms": [30.0] * 3},
        "pass",
        "1.15 x the floor of 26 ms; allowed are 1.3 x.",
    ),
    ("floor=1.3", {**PART, "delta_floor_ms": None}, "refused", "the floor of this machine is unknown."),
    (
        "range",
        {"status": "failed", "reason": "x", "verdict": None},
        "no reference",
        "a failed case is not judged.",
    ),
]


@pytest.mark.parametrize(("gate", "fields", "word", "ending"), GATES)
def test_gates_range_and_floor(gate: str, fields: dict, word: str, ending: str) -> None:
    judged = judge(case(**{"floor_ms": 26.0, **fields}), gate, None, environment())
    assert judged.word == word
    assert judged.ok == (word in ("pass", "better", "no reference"))
    assert judged.sentences[0].endswith(ending)


def test_a_gate_is_refused_where_times_mean_nothing(tmp_path: Path) -> None:
    loud = environment(settings={"NCCL_MAX_NCHANNELS": "1"})
    assert "NCCL_MAX_NCHANNELS=1 caps the bandwidth" in gate_obstacle("floor=2", loud)
    assert judge(case(), "floor=2", None, loud).word == "refused"
    cpu = environment(devices_per_host=0)
    assert gate_obstacle("range", cpu) == "--gate range is refused: a CPU's times say nothing."
    assert gate_obstacle("range", environment()) == ""
    assert "holds no baseline" in gate_obstacle("baseline", environment(), str(tmp_path))


@pytest.mark.parametrize("text", ["floor", "floor=0.5", "floor=x", "floor=nan", "range=3", "speed"])
def test_bad_gates_are_one_sentence(text: str) -> None:
    with pytest.raises(RecordError, match="gate"):
        parse_gate(text)


ENTRY = (
    'schema = "2.0"\n[system]\nname = "x"\nidentity = {}\n[[reference]]\nscenario="s"\ntwin=[1,1]\n'
    'model="m"\nengine="e"\nmethod="gloo"\n'
)
BROKEN = {
    "not toml": ("a = ", "is not TOML"),
    "other major": ('schema = "9.0"', "has schema 9.0; this suite reads 2.0 and 1.0."),
    "no system": ('schema = "2.0"', "misses the key 'system'"),
    "across": (
        'schema = "2.0"\n[system]\nname = "x"\nidentity = {}\nacross = "torch"',
        "has an unusable entry: across 'torch', which is not a list.",
    ),
}
WARM = {"metric": '"warm_ms"', "value": "2", "lower": "1", "upper": "3", "unit": '"ms"'}
ODD = {
    "bounds": ({"value": "9"}, r"value 9 outside \[1, 3\]"),
    "no upper bound": ({"upper": "inf"}, "upper inf, which is not a finite number"),
    "no number": ({"value": "nan", "status": '"xfail"', "reason": '"x"'}, "value nan, which is not a finite"),
    "a truth": ({"lower": "true"}, "lower True, which is not a finite number"),
    "a text": ({"value": '"2"'}, "must be real number, not str"),
    "a machine of nothing": ({"machine": "0"}, "machine 0, which is not a rate"),
    "another unit": ({"unit": '"us"'}, "warm_ms in 'us', lower is better; it is measured in 'ms', lower"),
    "another direction": ({"direction": '"higher"'}, "warm_ms in 'ms', higher is better; it is measured in"),
    "another status": ({"status": '"skip"'}, "status 'skip', which is none of pass, xfail"),
    "no reason": ({"status": '"xfail"'}, "status xfail without a reason"),
    "another metric": ({"metric": '"speed"'}, "unknown metric 'speed'"),
}


@pytest.mark.parametrize("name", ODD)
def test_odd_references_are_one_sentence(tmp_path: Path, name: str) -> None:
    changes, sentence = ODD[name]
    path = tmp_path / "b.toml"
    path.write_text(ENTRY + "\n".join(f"{key}={value}" for key, value in WARM.items()))
    assert load_baseline(path).references
    path.write_text(ENTRY + "\n".join(f"{key}={value}" for key, value in {**WARM, **changes}.items()))
    with pytest.raises(RecordError, match=f"has an unusable entry: {sentence}"):
        load_baseline(path)


@pytest.mark.parametrize("name", BROKEN)
def test_broken_baselines_are_one_sentence(tmp_path: Path, name: str) -> None:
    text, sentence = BROKEN[name]
    (tmp_path / "b.toml").write_text(text)
    with pytest.raises(RecordError, match=sentence):
        load_baseline(tmp_path / "b.toml")


def test_committed_baselines_load() -> None:
    for path in (Path(__file__).resolve().parents[3] / "thresholds").glob("*.toml"):
        assert load_baseline(path).changes, path


THRESHOLDS = Path(__file__).resolve().parents[3] / "thresholds"


@pytest.mark.parametrize("path", sorted(THRESHOLDS.glob("*.toml")), ids=lambda path: path.stem)
def test_a_committed_baseline_lets_the_runs_pass_that_it_is_made_from(path: Path) -> None:
    baseline, judged = load_baseline(path), 0
    change = baseline.changes[-1]
    for name in change.runs:
        run = read_run(THRESHOLDS.parent / "results" / "reference" / f"{change.when}-{name}.jsonl")
        assert not baseline.differing(run.environment["identity"])
        for record in run.cases:
            if record.status == "passed":
                word = judge(record, "baseline", baseline, run.environment, run.calibration).word
                assert word == "pass", (name, record.id.label)
                judged += 1
                slower = replace(record, warm_ms=tuple(100 * ms for ms in record.warm_ms))
                word = judge(slower, "baseline", baseline, run.environment, run.calibration).word
                assert word == "fail", (name, record.id.label)
    assert judged
