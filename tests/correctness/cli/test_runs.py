"""Whole runs, end to end: what passes, what is found, and what each leaves in its files."""

import sys
from pathlib import Path
from statistics import median

import pytest
import torch

from fixtures.cases.inventory import KIMI_K2_MINI
from fixtures.cases.scenarios import SCENARIOS
from fixtures.cases.shards import shards_of
from fixtures.cases.twins import Twin
from fixtures.engines.repairs import REPAIRS
from fixtures.records.schema import line_problems
from tests.correctness.cli.inner_runs import Record, SuiteRun, fork_suite, run_suite
from tests.correctness.cli.planted_engines import FAULTS

pytestmark = pytest.mark.skipif(
    torch.cuda.device_count() > 0, reason="these runs are about gloo ranks on a CPU"
)

FIELDS = (
    "type", "scenario", "placement", "twin", "model", "num_layers", "engine", "method", "options",
    "transport", "ranks", "status", "reason", "cold_ms",
    "warm_ms", "floor_ms", "dst_bytes", "moved_bytes", "elements_verified", "mismatches", "expected_ms",
    "verdict",
)  # fmt: skip
"""What the issue asks of every case line, skipped and failed ones too."""


GLOO = ("--engine=megatron", "--method=gloo")


@pytest.fixture(scope="module")
def exact(tmp_path_factory: pytest.TempPathFactory) -> SuiteRun:
    """All seven scenarios."""
    folder = tmp_path_factory.mktemp("exact")
    return fork_suite(folder, *GLOO, "--iterations=3", "--warmup=1", "--ranks=8")


@pytest.fixture(scope="module")
def shipped(tmp_path_factory: pytest.TempPathFactory) -> SuiteRun:
    """All seven scenarios with megatron-core as upstream ships it."""
    folder = tmp_path_factory.mktemp("shipped")
    return fork_suite(folder, *GLOO, "--no-repairs", "--iterations=1", "--warmup=0", "--ranks=8")


@pytest.fixture(scope="module")
def spoiled(tmp_path_factory: pytest.TempPathFactory) -> SuiteRun:
    """Scenario 6 with every faulty engine and a good one; scenario 4 does not fit on two ranks."""
    engines = [f"--engine={name}" for name in (*FAULTS, "megatron")]
    plugin = ("-p", "tests.correctness.cli.planted_engines")
    cases = ("--scenario=s6", "--scenario=s4", "--ranks=2", "--rank-grace=1", "--method=gloo")
    folder = tmp_path_factory.mktemp("spoiled")
    return fork_suite(folder, *plugin, *cases, *engines, "--iterations=2", "--warmup=0")


def elements_of_target(case: Record) -> int:
    """Elements that all target ranks of a case hold together, from its layouts."""
    twin = Twin(a=case["twin"][0], b=case["twin"][1])
    scenario = next(s for s in SCENARIOS if s.id == case["scenario"])
    model, layout = twin.model(KIMI_K2_MINI), twin.scenario(scenario).target
    return sum(shard.elements for rank in range(layout.gpus) for shard in shards_of(model, layout, rank))


def test_all_seven_are_exact_with_repairs(exact: SuiteRun) -> None:
    assert exact.code == 0, exact.output
    assert {case["scenario"] for case in exact.cases} == {scenario.id for scenario in SCENARIOS}
    for case in exact.cases:
        assert (case["status"], case["mismatches"], case["reason"]) == ("passed", 0, None)
        assert case["elements_verified"] == elements_of_target(case) > 0
        assert case["model"] == "kimi-k2-mini"
    for scenario in SCENARIOS:
        case = exact.case(scenario.id)
        assert case["transport"] == "gloo"
        assert case["expected_ms"] == list(scenario.expected["kimi-k2"])
        assert case["verdict"] == "not comparable"
        assert case["repairs"] == [repair.name for repair in REPAIRS]


def test_times_are_the_slowest_ranks_everywhere(exact: SuiteRun) -> None:
    """In the record, in pytest-benchmark's JSON and in its table of rounds."""
    entries = {entry["name"]: entry for entry in exact.benchmarks}
    assert len(entries) == len(exact.cases)
    for case in exact.cases:
        assert len(case["samples_ms"]) == case["ranks"]
        assert case["warm_ms"] == [max(one) for one in zip(*case["samples_ms"], strict=True)]
        assert len(case["warm_ms"]) == case["iterations"] == 3
        assert case["cold_ms"] > 0
        stats = entries[case["case"].rsplit("::", 1)[1]]["stats"]
        assert stats["rounds"] == 3
        for name, value in (("min", min), ("max", max), ("median", median)):
            assert stats[name] == pytest.approx(value(case["warm_ms"]) / 1e3), name


@pytest.mark.parametrize("run", ["exact", "shipped", "spoiled"])
def test_every_case_leaves_a_complete_line(run: str, request: pytest.FixtureRequest) -> None:
    done: SuiteRun = request.getfixturevalue(run)
    lines = done.lines
    assert [line["type"] for line in lines] == ["environment", *["case"] * (len(lines) - 2), "end"]
    assert [problem for line in lines for problem in line_problems(line)] == []
    assert lines[0]["identity"]["torch"] == torch.__version__.split("+")[0]
    assert lines[0]["identity"]["megatron_core"].startswith("0.19")
    assert lines[0]["observation"]["git_commit"]
    for case in done.cases:
        assert [name for name in FIELDS if name not in case] == []
        assert (case["reason"] is None) == (case["status"] == "passed")
        assert case["case"].rsplit("::", 1)[1] in done.junit
        assert (done.junit[case["case"].rsplit("::", 1)[1]] == "") == (case["status"] == "passed")


def shown_at_the_end(run: SuiteRun) -> str:
    return run.output[run.output.index("= refits =") :].partition("\n")[2]


def test_every_case_ends_with_one_line(exact: SuiteRun) -> None:
    running = exact.output[: exact.output.index("= refits =")].splitlines()
    count = len(exact.cases)
    for number, case in enumerate(exact.cases, start=1):
        line = (
            f"{number} of {count} {case['scenario'][:2]} {case['engine']} {case['transport']}: exact, cold "
        )
        assert sum(one.startswith(line) for one in running) == 1, exact.output
    assert not any("test_refit.py" in line or line.strip().startswith(".") for line in running)
    assert "benchmark:" not in exact.output.partition("collected")[2]


def test_the_table_shows_every_case(exact: SuiteRun) -> None:
    answer, _, table = shown_at_the_end(exact).partition("Kimi K2 refits, ms of the slowest rank")
    words = " ".join(answer.split())
    assert words.startswith(f"{len(exact.cases)} of {len(exact.cases)} exact; ")
    assert "nothing can be said about the expected ranges: times on a CPU are not those of a GPU." in words
    assert words.endswith("8 ranks, kimi-k2-mini, 3 layers, a CPU.")
    for case in exact.cases:
        assert f"{case['engine']} {case['transport']}" in table
    assert table.count("TP4,EP2>TP2,EP4") == sum(c["scenario"][:2] in ("s6", "s7") for c in exact.cases)
    assert str(exact.folder / "results" / "inner.jsonl") in table


def test_upstream_as_shipped_scrambles_five_scenarios(shipped: SuiteRun) -> None:
    assert shipped.code == 1, shipped.output
    statuses = {case["scenario"][:2]: case["status"] for case in shipped.cases}
    wrong = {"s2", "s4", "s5", "s6", "s7"}
    assert statuses == {s.key: "failed" if s.key in wrong else "passed" for s in SCENARIOS}
    for case in shipped.cases:
        assert case["repairs"] == []
        assert bool(case["mismatches"]) == (case["scenario"][:2] in wrong)
        assert case["elements_verified"] == elements_of_target(case)


def test_upstreams_mistake_is_told_in_words(shipped: SuiteRun) -> None:
    """In the record, on the test itself, and under the table."""
    for case in shipped.cases:
        if case["status"] == "failed":
            assert "gate and up rows are scrambled (" in case["reason"]
            assert (
                f"{case['mismatches']:,} of {case['elements_verified']:,} elements are wrong"
                in case["reason"]
            )
            failure = shipped.junit[case["case"].rsplit("::", 1)[1]]
            assert "decoder.layers.1.mlp.experts." in failure
            assert "first at global [" in failure
            assert "expected 0x" in failure
            assert all("linear_fc1" in line for line in case["verification"]["diagnosis"])
    table = " ".join(shown_at_the_end(shipped).split())
    assert "gate and up rows are scrambled" in table


@pytest.mark.parametrize(
    ("engine", "mismatches", "words"),
    [
        ("flipped-bit", 1, "a single bit is flipped"),
        ("swapped-experts", None, "these are another expert's weights"),
        ("gate-up", None, "gate and up are exchanged"),
        ("lost-transfer", 96 * 4, "poison left"),
        ("rounded-bias", None, "rounded to bf16 on the way"),
        ("wrong-dtype", 32 // 8, "the tensor has the wrong dtype or shape"),
        ("stale", None, "stale"),
    ],
)
def test_a_fault_in_the_destination_fails_the_case(
    spoiled: SuiteRun, engine: str, mismatches: int | None, words: str
) -> None:
    case = spoiled.case("s6", engine)
    assert case["status"] == "failed", spoiled.output
    assert case["mismatches"] > 0
    assert mismatches is None or case["mismatches"] == mismatches
    assert words in case["reason"]
    assert "1 of 2 target ranks" in case["reason"]
    failure = spoiled.junit[case["case"].rsplit("::", 1)[1]]
    assert f"rank 1: {case['verification']['diagnosis'][0].partition(': ')[2]}" in failure
    assert case["verification"]["diagnosis"][0].startswith("rank 1: ")


def test_a_cached_refit_is_caught_after_the_timing(spoiled: SuiteRun) -> None:
    """The first check passes; new weights after the timed iterations show that later refits did nothing."""
    case = spoiled.case("s6", "stale")
    assert len(case["warm_ms"]) == 2
    assert "stale" in case["reason"]
    assert spoiled.case("s6", "flipped-bit")["warm_ms"] == []


def test_a_rank_that_breaks_is_named_and_the_next_case_goes_on(spoiled: SuiteRun) -> None:
    broken = spoiled.case("s6", "broken")
    assert broken["status"] == "failed"
    assert "the wire is cut" in broken["reason"]
    assert "rank 1" in spoiled.junit[broken["case"].rsplit("::", 1)[1]]
    after = spoiled.case("s6", "megatron")
    assert (after["status"], after["mismatches"]) == ("passed", 0)
    assert spoiled.code == 1


def test_too_few_ranks_skip_with_both_numbers(spoiled: SuiteRun) -> None:
    """Each in the record, together on the screen."""
    count = sum(case["scenario"].startswith("s4") for case in spoiled.cases)
    assert f"{count} of {len(spoiled.cases)} cannot run here and are skipped" in spoiled.output
    assert spoiled.output.count("needs 4 ranks, 2 are available") == 1
    for case in spoiled.cases:
        if case["scenario"].startswith("s4"):
            assert case["status"] == "skipped"
            assert case["reason"] == "needs 4 ranks, 2 are available"
            assert (case["cold_ms"], case["warm_ms"], case["mismatches"]) == (None, [], 0)


def test_32_real_ranks_are_exact(tmp_path: Path) -> None:
    """A quarter of scenario 6's ranks, all at work, and scenario 2 with eight to spare."""
    cases = ("--scenario=s2", "--scenario=s6", "--engine=packed")
    done = fork_suite(tmp_path, "--ranks=32", *cases, "--iterations=1", "--warmup=0")
    assert done.code == 0, done.output
    assert [case["ranks"] for case in done.cases] == [24, 32]
    for case in done.cases:
        assert (case["status"], case["mismatches"]) == ("passed", 0)
        assert case["elements_verified"] == elements_of_target(case)


def test_a_resumed_run_shows_the_whole_run(tmp_path: Path) -> None:
    options = ("--ranks=2", "--iterations=1", "--warmup=0", "--method=gloo")
    first = fork_suite(tmp_path, "--scenario=s6", "--engine=megatron", *options)
    file = tmp_path / "results" / "inner.jsonl"
    second = fork_suite(
        tmp_path, "--scenario=s6", "--engine=megatron", "--engine=packed", *options, f"--resume={file}"
    )
    assert (first.code, second.code) == (0, 0), second.output
    assert "1 of 1 s6 packed gloo: exact" in second.output
    assert "2 of 2 exact; packed" in shown_at_the_end(second)
    assert "s6 megatron gloo" in shown_at_the_end(second)


def test_the_profile_moves_what_an_update_changed(tmp_path: Path) -> None:
    """Phases and engine facts are those of a refit with new weights, like the timed ones."""
    sizes = ("--ranks=2", "--iterations=1", "--warmup=0")
    done = fork_suite(tmp_path, "--scenario=s6", "--engine=delta", "--update=0.02", *sizes)
    assert done.code == 0, done.output
    assert done.case("s6", "delta")["engine_facts"]["changed_words"] > 0


def test_two_workers_keep_one_file(tmp_path: Path) -> None:
    """pytest-xdist: each case once in one record file, one table, one page, and the paths of both."""
    done = fork_suite(tmp_path, "-n2", "--ranks=2", "--scenario=s6,s7", *GLOO, "--iterations=1", "--warmup=0")
    assert done.code == 0, done.output
    assert [line["type"] for line in done.lines] == ["environment", "case", "case", "end"]
    assert {case["scenario"][:2] for case in done.cases} == {"s6", "s7"}
    assert [path.name for path in (tmp_path / "results").glob("*.jsonl")] == ["inner.jsonl"]
    assert "2 of 2 exact" in shown_at_the_end(done)
    for name in ("inner.jsonl", "inner.html"):
        assert str(tmp_path / "results" / name) in shown_at_the_end(done)
    assert (tmp_path / "results" / "inner.html").read_text().startswith("<!doctype html>")


TORCHRUN = Path(sys.executable).with_name("torchrun")


@pytest.mark.skipif(not TORCHRUN.exists(), reason="torchrun is not beside this Python")
def test_under_torchrun(tmp_path: Path) -> None:
    launcher = [str(TORCHRUN), "--standalone", "--nproc-per-node=2", "-m"]
    done = run_suite(tmp_path, "--scenario=s6", *GLOO, "--iterations=2", "--warmup=0", launcher=launcher)
    assert done.code == 0, done.output
    (case,) = done.cases
    assert (case["status"], case["mismatches"], case["ranks"], case["twin"]) == ("passed", 0, 2, [8, 8])
    assert done.output.count("Kimi K2 refits") == 1
