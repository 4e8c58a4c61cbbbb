"""From planted reports and stacks to the words of the one result."""

import os
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fixtures.ranks.blame import merge, ranks_text, waited_for, where_all_stand
from fixtures.ranks.case import CaseResult, Clocks, Deadlines, Trouble
from fixtures.ranks.messages import Evidence, PhaseReport
from fixtures.ranks.stacks import arm_recorder, ask_recorders, collect_records, known_trap, standing

PYTEST = '  File "/site-packages/_pytest/python.py", line 187 in pytest_pyfunc_call'
TORCH = "/site-packages/torch/distributed"


def stack(*frames: str) -> str:
    """faulthandler's text of a process with a second thread."""
    lines = [
        f'  File "{frame.split(":")[0]}", line {frame.split(":")[1]} in {frame.split(":")[2]}'
        for frame in frames
    ]
    other = 'Thread 0x01 (most recent call first):\n  File "/lib/python3.12/threading.py", line 1 in wait\n'
    return "\n".join([other, "Current thread 0x02 (most recent call first):", *lines, PYTEST])


IN_ALL_REDUCE = stack(
    f"{TORCH}/distributed_c10d.py:9:all_reduce", f"{TORCH}/c10d_logger.py:8:wrapper", "/a/t.py:5:f"
)
IN_BROADCAST = stack(
    f"{TORCH}/distributed_c10d.py:7:broadcast", f"{TORCH}/c10d_logger.py:8:wrapper", "/a/t.py:4:f"
)
ELSEWHERE = stack("/a/t.py:3:busy", "/a/t.py:2:f")
SYNCHRONIZE = stack("/site-packages/torch/cuda/__init__.py:10:synchronize", "/a/t.py:6:f")


def hang(*stacks: str, stages: str = "warm", **change: Any) -> CaseResult:
    """A case whose deadline passed with the ranks in these places."""
    size = len(stacks)
    usual: dict[str, Any] = {
        "hosts": {rank: f"node{rank // 2}" for rank in range(size)},
        "reports": {"setup": {rank: passed("setup") for rank in range(size)}, "call": {}},
        "stages": dict.fromkeys(range(size), stages),
        "trouble": Trouble(kind="deadline", when="call", ranks=dict.fromkeys(range(size), stages)),
        "evidence": {rank: Evidence(stack=text) for rank, text in enumerate(stacks)},
    }
    return CaseResult(size=size, **{**usual, **change})


def passed(when: Any = "call", **change: Any) -> PhaseReport:
    """A phase that went well on one rank."""
    return PhaseReport(
        **{"when": when, "outcome": "passed", "start": 1.0, "stop": 2.0, "duration": 1.0, **change}
    )


def failed(message: str, **change: Any) -> PhaseReport:
    """A call that raised."""
    return passed(outcome="failed", text=f"traceback of {message}", crash=("t.py", 5, message), **change)


def headline(result: CaseResult) -> str:
    """The sentence of the failed report."""
    return next(report.crash[2] for report in merge(result) if report.outcome == "failed" and report.crash)


@pytest.mark.parametrize(
    ("stacks", "sentence"),
    [
        (
            [IN_ALL_REDUCE, IN_ALL_REDUCE, ELSEWHERE, IN_ALL_REDUCE],
            "rank 2 of 4 (node1) at /a/t.py:3 (warm); ranks 0-1, 3 wait for rank 2",
        ),
        (
            [IN_ALL_REDUCE, IN_BROADCAST, IN_ALL_REDUCE],
            "rank 1 of 3 (node0) waiting in broadcast at /a/t.py:4 (warm); ranks 0, 2 wait for rank 1",
        ),
        (
            [SYNCHRONIZE, SYNCHRONIZE],
            "ranks 0-1 of 2 (node0) waiting in synchronize at /a/t.py:6 (warm)",
        ),
        (
            [IN_ALL_REDUCE, ""],
            "rank 1 of 2 (node0) left no Python stack (warm); rank 0 waits for rank 1",
        ),
    ],
)
def test_a_hang_names_who_is_waited_for(stacks: list[str], sentence: str) -> None:
    assert headline(hang(*stacks)) == f"deadline of warm passed: {sentence}"


def test_a_rank_that_left_early_is_the_one_waited_for() -> None:
    result = hang(IN_ALL_REDUCE, IN_ALL_REDUCE, IN_ALL_REDUCE)
    result.reports["call"] = {1: passed()}
    assert "rank 1 of 3 (node0) done with call; ranks 0, 2 wait for rank 1" in headline(result)


def test_ranks_in_a_gather_wait_too() -> None:
    result = hang(ELSEWHERE, IN_ALL_REDUCE, gathering={1: "agree"})
    standings = where_all_stand(result)
    assert standings[1].waits
    assert standings[1].text == "waiting in agree (warm)"
    assert waited_for(standings) == {0}


@pytest.mark.parametrize("order", [(0, 2, 1), (2, 1, 0)])
def test_a_consequence_never_comes_before_its_cause(order: tuple[int, ...]) -> None:
    reports = {
        0: failed("connection closed by peer", consequence=True),
        1: failed("ValueError: boom"),
        2: failed("connection closed by peer", consequence=True),
    }
    result = hang("", "", "", trouble=Trouble(kind="failed", when="call"))
    result.reports["call"] = {rank: reports[rank] for rank in order}
    (report,) = [report for report in merge(result) if report.outcome == "failed"]
    assert report.crash == ("t.py", 5, "rank 1 of 3 (node0) in warm: ValueError: boom")
    assert report.text.index("traceback of ValueError") < report.text.index(
        "ranks 0, 2: failed: connection closed"
    )


def test_merged_times_are_those_of_the_slowest_rank() -> None:
    reports = {0: passed(start=5.0, stop=6.0, duration=1.0), 1: passed(start=4.0, stop=9.0, duration=5.0)}
    setup = {rank: passed("setup") for rank in reports}
    result = CaseResult(size=2, hosts={0: "a", 1: "a"}, reports={"setup": setup, "call": reports})
    merged = merge(result)
    assert [report.when for report in merged] == ["setup", "call", "teardown"]
    assert (merged[1].start, merged[1].stop, merged[1].duration) == (4.0, 9.0, 5.0)


@given(st.sets(st.integers(0, 200), min_size=1))
def test_ranks_in_words_can_be_read_back(ranks: set[int]) -> None:
    words = ranks_text(ranks)
    spans = [span.split("-") for span in words.removeprefix("ranks ").removeprefix("rank ").split(", ")]
    assert {rank for span in spans for rank in range(int(span[0]), int(span[-1]) + 1)} == ranks
    assert words.startswith("ranks ") == (len(ranks) > 1)


def test_the_main_thread_is_found_among_others() -> None:
    assert standing(IN_ALL_REDUCE).text == "waiting in all_reduce at /a/t.py:5"
    assert not standing(ELSEWHERE).waits


RESHARDING = "/site-packages/megatron/core/resharding"


def test_known_traps_of_megatron_are_told_as_what_they_are() -> None:
    group = stack(
        f"{RESHARDING}/copy_services/nccl_copy_service.py:69:run", f"{RESHARDING}/execution.py:1:execute"
    )
    idle = stack(
        f"{TORCH}/distributed_c10d.py:1:all_gather_object",
        f"{RESHARDING}/planner.py:495:build_local_reshard_plan",
    )
    assert "in one NCCL group" in str(known_trap([group, group]))
    assert "#6955" in str(known_trap([idle]))
    assert known_trap([group, ELSEWHERE]) is None, "a rank elsewhere explains the hang"
    assert known_trap([]) is None
    (report,) = [report for report in merge(hang(group, group)) if report.outcome == "failed"]
    assert "A known trap: megatron-core posts every transfer" in report.text


def test_clocks_rearm_on_stages_and_rest_while_a_rank_waits() -> None:
    now = [0.0]
    clocks = Clocks(deadlines=Deadlines.parse("call=10,cold=2,30"), now=lambda: now[0])
    assert clocks.deadlines.of("cold") == clocks.deadlines.of("anything") == 30
    clocks = Clocks(deadlines=Deadlines.parse("30,call=10,cold=2"), now=lambda: now[0])
    clocks.arm(0, "call")
    clocks.arm(1, "cold")
    now[0] = 3.0
    assert clocks.overdue() == {1: "cold"}
    clocks.disarm(1)
    assert clocks.overdue() == {}
    assert clocks.left() == 7.0
    clocks.rearm(1)
    assert clocks.left() == 2.0
    clocks.arm(0, "unheard-of")
    now[0] = 13.5
    assert clocks.overdue() == {0: "unheard-of", 1: "cold"}


def test_the_flight_recorder_is_asked_through_its_pipe(tmp_path: Path) -> None:
    environ: dict[str, str] = {}
    arm_recorder(environ, tmp_path, tmp_path, os.getpid())
    pipe = Path(f"{environ['TORCH_NCCL_DEBUG_INFO_PIPE_FILE']}3.pipe")
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)

    def torch() -> None:
        while not os.read(reader, 128):
            time.sleep(0.01)
        Path(f"{environ['TORCH_FR_DUMP_TEMP_FILE']}3").write_bytes(b"record")

    thread = threading.Thread(target=torch)
    thread.start()
    since = time.time() - 1
    asked = ask_recorders(tmp_path, {3: os.getpid(), 4: os.getpid()})
    thread.join()
    assert asked == {3}, "rank 4 has no NCCL group and so no pipe"
    assert collect_records(asked, tmp_path, since) == {3: tmp_path / "flight-rank3"}
    assert collect_records(asked, tmp_path, since + 3600, patience_s=0.1) == {}
    os.close(reader)
