"""What a user does to a session with ranks: interrupt, kill, stop early, list, spread over workers."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.correctness.patience import PATIENCE_S, wait_for
from tests.correctness.ranks.conftest import inner_environment

Inner = Callable[..., Any]
Project = Callable[..., Path]

SLOW = """
    import time
    import pytest

    @pytest.mark.distributed
    def test_waits():
        time.sleep(3600)
"""

MIXED = """
    import os, time
    import pytest
    from fixtures.ranks import all_gather_object_oob, current_rank

    @pytest.fixture(scope="module")
    def kept():
        return os.getpid()

    @pytest.mark.parametrize("i", range(4))
    def test_local(i, kept):
        assert kept == os.getpid()

    @pytest.mark.distributed
    @pytest.mark.parametrize("i", range(4))
    def test_gang(i, kept):
        with open("gang.log", "a") as log:
            log.write("in\\n")
        time.sleep(0.2)
        assert kept == os.getpid(), "a rank has fixtures of its own"
        assert len(all_gather_object_oob(i)) == 2
        with open("gang.log", "a") as log:
            log.write("out\\n")

    def test_local_again(kept):
        assert kept == os.getpid()
"""

FAILING = """
    import pytest
    from fixtures.ranks import current_rank

    @pytest.mark.distributed
    @pytest.mark.parametrize("i", range(3))
    def test_fails(i):
        assert current_rank().rank != 1

    def test_local():
        pass
"""


@pytest.fixture
def interruptible() -> Iterator[None]:
    """A shell's background job ignores Ctrl-C, and so would the sessions that its tests start."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def forked(pid: int, count: int) -> list[psutil.Process]:
    """The ranks of an inner pytest, once there are `count` of them."""
    children = psutil.Process(pid).children
    return wait_for(lambda: found if len(found := children()) >= count else [])


def signalled(folder: Path, number: signal.Signals) -> tuple[int, str, list[psutil.Process]]:
    """How a session of three ranks ends on a signal: its exit code, its output, the ranks that outlive it."""
    command = [sys.executable, "-m", "pytest", "--ranks=3", "--rank-logs=logs", "--junitxml=junit.xml"]
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    process = subprocess.Popen(command, cwd=folder, env=inner_environment(), text=True, **streams)
    try:
        ranks = forked(process.pid, 3)
        process.send_signal(number)
        output, _ = process.communicate(timeout=PATIENCE_S)
        _, alive = psutil.wait_procs(ranks, timeout=PATIENCE_S)
    finally:
        process.kill()
    return process.returncode, output, [rank for rank in alive if rank.status() != psutil.STATUS_ZOMBIE]


@pytest.mark.usefixtures("interruptible")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_no_rank_outlives_its_agent(project: Project, number: signal.Signals) -> None:
    folder = project(test_inner=SLOW)
    code, output, outliving = signalled(folder, number)
    assert code not in (0, 5), output
    assert not outliving
    if number != signal.SIGKILL:
        assert (folder / "junit.xml").exists(), output


SIGNALLED_AGAIN = """
    import os, signal

    killpg, waitpid, killed = os.killpg, os.waitpid, []

    def note(pid, number):
        killed.append(pid)
        killpg(pid, number)

    def again(pid, options):
        if pid in killed[1:]:  # the first one's files are closed
            os.waitpid = waitpid
            os.kill(os.getpid(), signal.{name})
        return waitpid(pid, options)

    os.killpg, os.waitpid = note, again
"""


@pytest.mark.usefixtures("interruptible")
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 2), (signal.SIGTERM, 143)])
def test_a_second_signal_while_the_ranks_are_killed(
    project: Project, number: signal.Signals, code: int
) -> None:
    folder = project(test_inner=SLOW, conftest=SIGNALLED_AGAIN.format(name=number.name))
    ended, output, outliving = signalled(folder, number)
    assert ended == code, output
    assert not outliving
    assert (folder / "junit.xml").exists(), output
    assert "Traceback" not in output


INTERRUPTED = """
    import os, signal
    from fixtures.ranks.local import LocalRanks

    fork = LocalRanks._fork_one

    def interrupted(self, info):
        process = fork(self, info)
        if info.rank == 1:
            os.kill(0, signal.SIGINT)  # as a terminal's Ctrl-C: to all of its group
        return process

    LocalRanks._fork_one = interrupted
"""


@pytest.mark.usefixtures("interruptible")
def test_ctrl_c_while_the_ranks_start_ends_the_session_in_order(inner: Inner, tmp_path: Path) -> None:
    run = inner(SLOW, "--ranks=3", conftest=INTERRUPTED)
    assert run.code == 2, run.output
    assert "KeyboardInterrupt" in run.output
    said = run.output + "".join(path.read_text() for path in tmp_path.glob("logs/*.log"))
    assert "Traceback" not in said


def test_stops_after_the_first_failure(inner: Inner) -> None:
    run = inner(FAILING, "--ranks=2", "-x")
    assert run.code == 1
    assert list(run.cases) == ["test_fails[0]"]


def test_selection_reaches_the_ranks(inner: Inner) -> None:
    run = inner(FAILING, "--ranks=1", "-k", "test_fails and not 1")
    assert {name: outcome for name, (outcome, _) in run.cases.items()} == {
        "test_fails[0]": "passed",
        "test_fails[2]": "passed",
    }, run.output


def test_collecting_forks_nothing(inner: Inner, tmp_path: Path) -> None:
    run = inner(FAILING, "--collect-only", "-q")
    assert run.code == 0
    assert "test_fails[2]" in run.output
    assert not (tmp_path / "logs").exists()


def test_local_and_distributed_items_keep_their_own_fixtures(inner: Inner) -> None:
    run = inner(MIXED, "--ranks=2")
    assert run.code == 0, run.output
    assert len(run.cases) == 9


def test_xdist_workers_take_turns_with_the_gang(inner: Inner, tmp_path: Path) -> None:
    run = inner(MIXED, "--ranks=2", "-n", "2")
    assert run.code == 0, run.output
    assert len(run.cases) == 9
    inside, most = 0, 0
    for line in (tmp_path / "gang.log").read_text().split():
        inside += 1 if line == "in" else -1
        most = max(most, inside)
    assert most <= 2, "two gangs ran at a time"
    assert inside == 0


def test_more_ranks_than_files_may_be_open_cost_one_sentence(inner: Inner) -> None:
    run = inner(FAILING, "--ranks=200", ulimit="-n 256")
    assert run.code == 4
    assert "--ranks 200: they need 464 open files and this shell allows 256 (ulimit -n)" in run.output


def test_a_soft_limit_of_open_files_is_raised(inner: Inner) -> None:
    run = inner(TWICE, "--ranks=32", ulimit="-S -n 90")
    assert run.code == 0, run.output


def test_world_outside_of_a_gang_is_refused(inner: Inner) -> None:
    run = inner("def test_alone(world):\n    pass\n")
    assert "test_alone uses `world`: mark it with @pytest.mark.distributed" in run.message("test_alone")


TWICE = """
    import pytest

    @pytest.mark.distributed
    @pytest.mark.parametrize("i", [1, 2])
    def test_any(i):
        pass
"""

STARTLESS = """
    import os, time
    from fixtures.ranks import gang, rank

    announce, poll, up = rank._announce, gang.Gang.poll, set()

    def sabotage(info):
        announce(info)
        if info.rank == 2 and info.incarnation == 1:
            os._exit(3) if os.environ["HOW"] == "exit" else time.sleep(3600)

    def counted(self, timeout_s):
        heard = poll(self, timeout_s)
        up.update(rank for rank, _ in heard if self.incarnation == 1)
        return heard

    class Clock:
        def monotonic(self):
            late = os.environ["HOW"] == "sleep" and len(up) == 3  # the deadline, once all others are up
            return time.monotonic() + (60 if late else 0)

    rank._announce, gang.Gang.poll, gang.time = sabotage, counted, Clock()
"""


@pytest.mark.parametrize(
    ("how", "words"), [("exit", "exited with code 3"), ("sleep", "no sign of life within 60 s")]
)
def test_a_rank_that_never_starts_is_named(inner: Inner, how: str, words: str) -> None:
    run = inner(TWICE, "--ranks=4", conftest=STARTLESS, HOW=how)
    assert run.code == 1
    message = run.message("test_any[1]")
    assert f"\nrank 2 of 4 ({os.uname().nodename}) never started: {words}" in message
    assert run.outcome("test_any[2]") == "passed", run.output


def test_collection_has_a_deadline(inner: Inner) -> None:
    run = inner("import time\ntime.sleep(3600)\n", "--deadline=collect=20")
    assert run.code == 1
    assert "Timeout (0:00:20)!" in run.output
    assert "test_inner.py" in run.output


SEEN = """
    import os
    import pytest
    from fixtures.ranks import current_rank

    seen = pytest.fixture(scope="session")(lambda: os.environ.get("CUDA_VISIBLE_DEVICES"))

    @pytest.mark.distributed
    def test_first(seen):
        assert seen == "0,1"
        assert current_rank().incarnation == 1

    @pytest.mark.cpu_ranks
    @pytest.mark.distributed
    @pytest.mark.parametrize("i", range(2))
    def test_cpu(i, seen):
        assert seen == ""
        assert current_rank().incarnation == 2

    @pytest.mark.distributed
    def test_last(seen):
        assert seen == "0,1"
        assert current_rank().incarnation == 3
"""


def test_ranks_that_keep_to_the_cpus_are_others(inner: Inner) -> None:
    run = inner(SEEN, "--ranks=2", CUDA_VISIBLE_DEVICES="0,1")
    assert {outcome for outcome, _ in run.cases.values()} == {"passed"}, run.output
    assert len(run.cases) == 4


LEFT = """
    from pathlib import Path
    import pytest
    from fixtures.ranks import current_rank

    @pytest.fixture(scope="session")
    def world():
        yield
        Path(__file__).with_name(f"left-{current_rank().rank}").touch()

    @pytest.mark.distributed
    def test_first(world):
        pass

    @pytest.mark.skip(reason="known before")
    @pytest.mark.cpu_ranks
    @pytest.mark.distributed
    def test_cpu():
        pass

    @pytest.mark.distributed
    def test_last():
        assert len(list(Path(__file__).parent.glob("left-*"))) == 2
"""


def test_ranks_leave_in_order_before_skipped_items_of_the_other_kind(inner: Inner) -> None:
    run = inner(LEFT, "--ranks=2", CUDA_VISIBLE_DEVICES="0,1")
    assert [run.outcome(f"test_{name}") for name in ("first", "cpu", "last")] == [
        "passed",
        "skipped",
        "passed",
    ], run.output
