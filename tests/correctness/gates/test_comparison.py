"""Every outcome of a comparison, planted and found."""

import pytest

from fixtures.gates.comparison import compare
from fixtures.records.reader import Run, read_run
from tests.correctness.made_up_runs import CALIBRATION, case, environment, skipped, write_run

BASE = (30.0, 30.3, 29.8, 30.1, 30.5, 29.9, 30.2)


@pytest.fixture
def runs(tmp_path):  # noqa: ANN001, ANN201
    """Make runs from warm medians: runs([30, 31], ...) -> list of Run."""
    made = 0

    def make(
        medians: tuple[float, ...] | list[float], rates: list[float] | None = None, **fields: object
    ) -> list[Run]:
        nonlocal made
        found = []
        for index, value in enumerate(medians):
            made += 1
            calibration = {**CALIBRATION, "put_gbps": rates[index]} if rates else None
            lines = [case(warm_ms=[value] * 5, **{"floor_ms": None, **fields})]
            path = write_run(tmp_path / f"r{made:03d}.jsonl", lines, calibration=calibration)
            found.append(read_run(path))
        return found

    return make


def _warm(comparison):  # noqa: ANN001, ANN202
    return next(row for row in comparison.rows if row.metric == "warm_ms")


def test_worse_better_same(runs) -> None:  # noqa: ANN001
    for factor, outcome, code in ((1.10, "worse", 1), (0.80, "better", 0), (1.001, "same", 0)):
        comparison = compare(runs(BASE), runs([value * factor for value in BASE]))
        assert _warm(comparison).word == outcome
        assert comparison.exit_code == code
    assert "a fresh baseline is due" in _warm(compare(runs(BASE), runs([20.0] * 7))).sentence


def test_a_sure_but_tiny_change_is_the_same(runs) -> None:  # noqa: ANN001
    """Complete separation by 1 %: significant, but below the noise floor."""
    row = _warm(compare(runs([30.0] * 7), runs([30.3] * 7)))
    assert (row.word, row.change) == ("same", pytest.approx(0.01))
    assert row.p < 0.01


def test_absolute_floor(runs) -> None:  # noqa: ANN001
    """Half of 0.06 ms is 50 %, but 0.03 ms are below what a clock can promise."""
    assert _warm(compare(runs([0.06] * 7), runs([0.09] * 7))).word == "same"


def test_too_few_runs_is_an_outcome(runs) -> None:  # noqa: ANN001
    comparison = compare(runs(BASE[:3]), runs([60.0, 61.0, 62.0]))
    assert _warm(comparison).word == "unknown"
    assert (
        "3 against 3, 5 a side are enough (p = 0.05 at best, 1 case needs 0.01)" in _warm(comparison).sentence
    )
    assert comparison.exit_code == 2


def test_too_noisy_is_an_outcome(runs) -> None:  # noqa: ANN001
    row = _warm(compare(runs([30, 40, 25, 35, 28, 44]), runs([31, 41, 26, 36, 29, 45])))
    assert row.word == "unknown"
    assert "too noisy to exclude a change of 10%" in row.sentence


def test_a_slower_machine_is_not_a_regression(runs) -> None:  # noqa: ANN001
    slow = [value / 0.9 for value in BASE]
    assert _warm(compare(runs(BASE), runs(slow))).word == "worse"
    row = _warm(compare(runs(BASE, [390.0] * 7), runs(slow, [351.0] * 7)))
    assert row.word == "same"
    assert "explained by the machine (-10.0% GB/s)" in row.sentence


def test_a_regression_on_a_slower_machine_is_found(runs) -> None:  # noqa: ANN001
    slow = [1.1 * value / 0.9 for value in BASE]
    row = _warm(compare(runs(BASE, [390.0] * 7), runs(slow, [351.0] * 7)))
    assert row.word == "worse"
    assert "not explained by the machine" in row.sentence


def test_a_faster_machine_alone_does_not_ask_for_a_baseline(runs) -> None:  # noqa: ANN001
    row = _warm(compare(runs(BASE, [390.0] * 7), runs(BASE, [450.0] * 7)))
    assert row.word == "same"
    assert "though the machine changed (+15.4% GB/s)" in row.sentence


def test_memory_that_grows_is_found_without_noise(runs) -> None:  # noqa: ANN001
    comparison = compare(runs(BASE), runs(BASE, peak_extra_bytes=5 * 10**9))
    row = comparison.rows[0]
    assert (row.metric, row.word) == ("peak_extra_bytes", "worse")


def test_incomparable_names_the_facts(tmp_path) -> None:  # noqa: ANN001
    def side(name: str, **identity: object) -> list[Run]:
        paths = [
            write_run(tmp_path / f"{name}{i}.jsonl", [case()], env=environment(**identity)) for i in range(7)
        ]
        return [read_run(path) for path in paths]

    base, new = side("a"), side("b", torch="2.15.0")
    comparison = compare(base, new)
    assert {row.word for row in comparison.rows} == {"incomparable"}
    assert comparison.differing == ("torch was '2.11.0' and is '2.15.0'",)
    assert comparison.exit_code == 2
    assert compare(base, new, across=["torch"]).exit_code == 0
    harmful = side("c", settings={"NCCL_DEBUG": "INFO"})
    assert "NCCL_DEBUG=INFO logs every operation" in compare(harmful, harmful).rows[0].sentence
    assert (
        compare(
            side("d", settings={"NCCL_DEBUG": "WARN"}), side("e", settings={"NCCL_DEBUG": "WARN"})
        ).exit_code
        == 0
    )


OUTCOME_CASES = {
    "breaks before it is prepared": (
        [case(transport="ipc")] * 7,
        [case(transport=None, status="failed", reason="no memory", ranks=8, cold_ms=None)] * 7,
        "worse",
        "no memory",
    ),
    "breaks": (
        [case()] * 7,
        [case()] * 6 + [case(status="failed", reason="rank 3 died")],
        "worse",
        "rank 3 died",
    ),
    "heals": (
        [case(status="failed", reason="x")] * 2,
        [case()] * 2,
        "better",
        "it failed in 2 of 2 runs before",
    ),
    "still broken": (
        [case(status="failed", reason="x")],
        [case(status="failed", reason="x")],
        "same",
        "failed in 1",
    ),
    "flaky": (
        [case(), case(status="failed", reason="x")],
        [case(status="failed", reason="x")],
        "unknown",
        "failed in 1",
    ),
    "skipped now": (
        [case()],
        [skipped("s6", reason="needs 3 GPUs")],
        "unknown",
        "not measured any more: needs 3 GPUs",
    ),
    "new": ([skipped("s6")], [case()], "unknown", "measured for the first time"),
    "gone": ([case()], [], "unknown", "only in the base runs"),
}


@pytest.mark.parametrize("name", OUTCOME_CASES)
def test_outcomes_come_before_times(tmp_path, name: str) -> None:  # noqa: ANN001
    old, new, outcome, words = OUTCOME_CASES[name]
    base = [read_run(write_run(tmp_path / f"b{i}.jsonl", [c])) for i, c in enumerate(old)]
    fresh = [read_run(write_run(tmp_path / f"n{i}.jsonl", [c])) for i, c in enumerate(new)]
    fresh = fresh or [read_run(write_run(tmp_path / "n.jsonl", []))]
    comparison = compare(base, fresh)
    row = next(row for row in comparison.rows if row.metric == "passed")
    assert row.word == outcome
    assert (comparison.exit_code == 1) == (outcome == "worse")
    assert words in row.sentence


def test_nothing_in_common_cannot_be_told(tmp_path) -> None:  # noqa: ANN001
    run = read_run(write_run(tmp_path / "n.jsonl", []))
    assert compare([run], [run]).exit_code == 2


def test_the_last_line_of_a_repeated_case_counts(tmp_path) -> None:  # noqa: ANN001
    lines = [case(status="failed", reason="killed"), case()]
    runs_ = [read_run(write_run(tmp_path / f"r{i}.jsonl", lines)) for i in range(7)]
    assert compare(runs_, runs_).exit_code == 0


def test_a_case_that_only_the_gate_failed_still_counts_with_its_time(tmp_path) -> None:  # noqa: ANN001
    """Otherwise a night under --gate baseline would hide how slow it was."""
    slow = {"status": "failed", "reason": "fail: warm_ms is 40 ms", "judgement": ["fail: warm_ms is 40 ms"]}
    base = [read_run(write_run(tmp_path / f"b{i}.jsonl", [case()])) for i in range(7)]
    new = [
        read_run(write_run(tmp_path / f"n{i}.jsonl", [case(warm_ms=[40.0] * 5, **slow)])) for i in range(7)
    ]
    row = compare(base, new).rows[0]
    assert (row.metric, row.word) == ("warm_ms", "worse")
    wrong = [read_run(write_run(tmp_path / "w.jsonl", [case(**{**slow, "mismatches": 3})]))]
    assert compare(base, wrong).rows[0].metric == "passed"
