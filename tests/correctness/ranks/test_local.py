"""Plain `pytest`: forked ranks, one merged result for each case."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

Inner = Callable[..., Any]

OUTCOMES = """
    import os, signal, sys
    import pytest
    import torch
    import torch.distributed as dist
    from fixtures.ranks import agree, all_gather_object_oob, current_rank, publish_record, stage

    pytestmark = pytest.mark.distributed

    def total(world):
        x = torch.ones(4) * world.rank
        dist.all_reduce(x)
        return x[0].item()

    def test_sum(world):
        assert total(world) == 3
        publish_record({"case": "sum", "rank": world.rank})

    def test_one_rank_fails(world):
        stage("cold")
        if world.rank == 1:
            print("rank 1 was here")
            raise ValueError("boom")
        total(world)

    def test_after_failure(world):
        assert total(world) == 3

    def test_skip(world):
        pytest.skip("no such engine")

    def test_one_rank_skips(world):
        if world.rank == 2:
            pytest.skip("only here")

    def test_setup_fails(broken):
        raise AssertionError("the call must not run")

    @pytest.fixture
    def broken(world):
        if world.rank == 2:
            raise RuntimeError("no memory for the model")

    @pytest.fixture
    def untidy(world):
        yield
        if world.rank == 0:
            raise RuntimeError("cannot close")

    def test_teardown_fails(untidy):
        pass

    def test_killed(world):
        if world.rank == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        dist.barrier()

    def test_disagree(world):
        assert all_gather_object_oob(world.rank * 10) == [0, 10, 20]
        agree(True)
        agree(world.rank != 2, "3 elements differ")

    @pytest.mark.distributed(ranks=12)
    def test_too_many(world):
        pass

    @pytest.mark.xfail(strict=True, reason="upstream defect 1")
    def test_expected_failure(world):
        assert total(world) == 4

    @pytest.mark.xfail(strict=True, reason="fixed")
    def test_unexpected_pass(world):
        assert total(world) == 3

    def test_every_rank_fails(world):
        assert total(world) == 5

    def test_assertion_is_explained(world):
        record = {"a": 1}
        assert record == {"a": 2}

    @pytest.mark.parametrize("value", [object()])
    def test_benchmark(world, benchmark, value):
        benchmark.extra_info["rank"] = world.rank
        benchmark.pedantic(lambda: None, rounds=3)

    def test_last(world):
        assert total(world) == 3
"""

FINISHED = """
    import json, pathlib

    def pytest_refit_case_finished(item, record, reports):
        line = {"name": item.name, "record": record, "outcomes": [report.outcome for report in reports]}
        with pathlib.Path("cases.jsonl").open("a") as file:
            file.write(json.dumps(line) + "\\n")
"""


def test_outcomes_of_a_local_gang(inner: Inner, tmp_path: Path) -> None:
    run = inner(OUTCOMES, "--ranks=3", "--rank-grace=0.5", "--benchmark-json=bench.json", conftest=FINISHED)
    assert run.code == 1, run.output
    passed = ("test_sum", "test_after_failure", "test_last")
    assert {name: run.outcome(name) for name in passed} == dict.fromkeys(passed, "passed"), run.output
    failing = run.message("test_one_rank_fails")
    assert failing.startswith("rank 1 of 3"), failing
    assert "in cold: ValueError: boom" in failing
    assert failing.index('raise ValueError("boom")') < failing.index("ranks 0, 2: waiting in all_reduce")
    assert "rank 1 was here" in failing
    assert run.cases["test_skip"][0] == "skipped"
    assert "no such engine" in run.message("test_skip")
    assert "skipped (" in run.message("test_one_rank_skips")
    assert "only here" in run.message("test_one_rank_skips")
    assert "no memory for the model" in run.message("test_setup_fails")
    assert "the call must not run" not in run.output
    assert "rank 0 of 3" in run.message("test_teardown_fails")
    assert "killed by SIGKILL" in run.message("test_killed")
    assert "rank 2: 3 elements differ" in run.message("test_disagree")
    assert "rank 2 of 3" in run.message("test_disagree").splitlines()[0]
    assert "needs 12 ranks, 3 are available" in run.message("test_too_many")
    assert run.outcome("test_expected_failure") == "skipped"
    assert "[XPASS(strict)] fixed" in run.message("test_unexpected_pass")
    assert "ranks 0-2 of 3" in run.message("test_every_rank_fails")
    assert "Differing items" in run.message("test_assertion_is_explained")
    benchmarks = json.loads((tmp_path / "bench.json").read_text())["benchmarks"]
    assert [(b["stats"]["rounds"], b["extra_info"]) for b in benchmarks] == [(3, {"rank": 0})]
    assert "test_benchmark" in run.output
    lines = [json.loads(line) for line in (tmp_path / "cases.jsonl").read_text().splitlines()]
    assert [line["name"] for line in lines] == list(run.cases)
    assert lines[0] == {"name": "test_sum", "record": {"case": "sum", "rank": 0}, "outcomes": ["passed"] * 3}
    assert all(line["record"] is None for line in lines[1:])


STARVED = """
    import pathlib
    from fixtures.ranks import local

    local.VMSTAT = pathlib.Path(__file__).with_name("vmstat")
    local.VMSTAT.write_text("nr_free_pages 7\\noom_kill 3\\noom_kill_more 9\\n")
"""
KILLED = """
    import os, pathlib, signal
    import pytest
    from fixtures.ranks import current_rank

    @pytest.mark.distributed
    @pytest.mark.parametrize("kills", [3, 4])
    def test_killed(kills):
        if current_rank().rank == 1:
            pathlib.Path(__file__).with_name("vmstat").write_text(f"oom_kill {kills}\\n")
            os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_rank_that_the_kernel_ended_for_want_of_memory_is_told_apart(inner: Inner) -> None:
    run = inner(KILLED, "--ranks=2", conftest=STARVED)
    assert "memory ran out" not in run.message("test_killed[3]")
    assert "killed by SIGKILL when this machine's memory ran out" in run.message("test_killed[4]")
