"""Under a launcher each pytest process holds one rank: torchrun, and srun emulated by its variables."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from fixtures.ranks.followers import find_misfit
from fixtures.ranks.messages import Enroll
from tests.correctness.patience import PATIENCE_S, wait_for
from tests.correctness.ranks.conftest import inner_environment
from tests.correctness.surroundings import read_junit

Project = Callable[..., Path]

CASES = """
    import os, signal
    import pytest
    import torch
    import torch.distributed as dist
    from fixtures.ranks import agree, current_rank, publish_record, stage

    @pytest.mark.distributed
    def test_sum(world):
        x = torch.ones(4)
        dist.all_reduce(x)
        assert x[0] == world.size
        agree(True)
        publish_record({"ranks": world.size, "local": current_rank().local_rank})

    def test_local():
        print("LOCAL TEST RAN")

    @pytest.mark.distributed
    def test_fails(world):
        stage("cold")
        if world.rank == 1:
            raise ValueError("boom")
        dist.barrier()

    @pytest.mark.distributed
    def test_killed(world):
        if world.rank == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        dist.barrier()

    @pytest.mark.distributed
    def test_again(world):
        x = torch.ones(4)
        dist.all_reduce(x)
        assert x[0] == world.size
"""

LIGHT = """
    import os, pathlib, signal, time
    import pytest
    from fixtures.ranks import all_gather_object_oob, current_rank

    @pytest.mark.distributed
    def test_one():
        assert all_gather_object_oob(current_rank().rank) == [0, 1]

    @pytest.mark.distributed
    def test_two():
        if os.environ.get("KILL") == str(current_rank().rank):
            os.kill(os.getppid(), signal.SIGKILL)
        all_gather_object_oob(None)
        if pause := os.environ.get("PAUSE"):
            pathlib.Path("paused").touch()
            time.sleep(float(pause))
"""

FINISHED = """
    def pytest_refit_case_finished(item, record, reports):
        print("CASE", item.name, record)
"""

ARGUMENTS = ["-m", "pytest", "-s", "--junitxml=junit.xml", "--rank-logs=logs", "--rank-grace=0.5"]


@pytest.fixture
def free_port() -> int:
    """A port that nobody listens on right now."""
    with socket.create_server(("", 0)) as server:
        return int(server.getsockname()[1])


def slurm(rank: int, size: int, port: int, **extra: str) -> dict[str, str]:
    """What srun sets for a task, and where rank 0 shall listen."""
    return {
        "SLURM_PROCID": str(rank),
        "SLURM_LOCALID": str(rank),
        "SLURM_STEP_NUM_TASKS": str(size),
        "SLURM_STEP_TASKS_PER_NODE": str(size),
        "SLURM_STEP_ID": "0",
        "SLURM_JOB_ID": str(port),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        **extra,
    }


def two_ranks(port: int, **extra: str) -> list[dict[str, str]]:
    """What srun sets for two tasks on one host."""
    return [slurm(rank, 2, port, **extra) for rank in (0, 1)]


def two_hosts(port: int, **extra: str) -> list[dict[str, str]]:
    """What srun sets for one task on each of two hosts."""
    usual = {"SLURM_STEP_TASKS_PER_NODE": "1(x2)", "SLURM_LOCALID": "0"}
    return [slurm(rank, 2, port, **usual, SLURM_NODEID=str(rank), **extra) for rank in (0, 1)]


@contextmanager
def started(
    folder: Path, environments: list[dict[str, str]], *arguments: str
) -> Iterator[list[subprocess.Popen[str]]]:
    """One pytest process for each environment; killed at the end."""
    processes = [
        subprocess.Popen(
            [sys.executable, *ARGUMENTS, *arguments],
            cwd=folder,
            env=inner_environment(**env),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for env in environments
    ]
    try:
        yield processes
    finally:
        for process in processes:
            process.kill()
            process.communicate()


def outputs(processes: list[subprocess.Popen[str]]) -> list[tuple[int, str]]:
    """Exit code and output of each, once all have ended."""
    ended = [process.communicate(timeout=PATIENCE_S)[0] for process in processes]
    return [(process.returncode, text) for process, text in zip(processes, ended, strict=True)]


def first_to_end(processes: list[subprocess.Popen[str]]) -> subprocess.Popen[str]:
    """The process that ends first; what it writes must fit into a pipe."""
    return wait_for(lambda: next((one for one in processes if one.poll() is not None), None))


def test_torchrun(project: Project, free_port: int) -> None:
    folder = project(conftest=FINISHED, test_inner=CASES)
    done = subprocess.run(
        [
            sys.executable,
            *("-m", "torch.distributed.run", "--nproc-per-node=2", f"--master-port={free_port}"),
            *ARGUMENTS,
        ],
        cwd=folder,
        env=inner_environment(),
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    output = done.stdout + done.stderr
    assert done.returncode != 0, output
    cases = read_junit(folder / "junit.xml")
    outcomes = {name: outcome for name, (outcome, _) in cases.items()}
    failing = {"test_fails": "failed", "test_killed": "failed"}
    assert outcomes == {"test_sum": "passed", "test_local": "passed", **failing, "test_again": "passed"}, (
        output
    )
    assert "ValueError: boom" in cases["test_fails"][1]
    assert cases["test_fails"][1].startswith("rank 1 of 2")
    assert "killed by SIGKILL" in cases["test_killed"][1]
    assert output.count("CASE test_sum {'ranks': 2, 'local': 0}") == 1
    assert output.count("LOCAL TEST RAN") == 1
    assert output.count("test session starts") == 1, "only rank 0 reports"
    assert "received SIGTERM" not in output


@pytest.mark.parametrize("says", ["MASTER_ADDR", "SLURM_STEP_NODELIST"])
def test_srun_passes_and_every_process_exits_alike(project: Project, free_port: int, says: str) -> None:
    folder = project(test_inner=LIGHT)
    environments = two_ranks(free_port, SLURM_STEP_NODELIST="localhost")
    for env in environments if says != "MASTER_ADDR" else ():
        del env["MASTER_ADDR"], env["MASTER_PORT"]
    with started(folder, environments) as processes:
        ended = outputs(processes)
    assert [code for code, _ in ended] == [0, 0], ended
    assert "2 passed" in ended[0][1]
    assert ended[1][1] == ""


ACROSS = """
    import pytest
    import torch
    import torch.distributed as dist
    from fixtures.ranks import current_rank

    @pytest.mark.distributed
    def test_sum(world):
        assert current_rank().meet.hosts, "a store and no file, which hosts do not share"
        group = dist.new_group([0, 1])
        x = torch.ones(4)
        dist.all_reduce(x, group=group)
        assert x[0] == world.size

    @pytest.mark.distributed
    def test_one_dies(world):
        import os
        if world.rank == 1:
            os.abort()
        dist.barrier()

    @pytest.mark.distributed
    def test_again(world):
        test_sum(world)
"""


@pytest.mark.parametrize("secret", [{}, {"REFIT_SECRET": "0123456789abcdef0123456789abcdef"}])
def test_across_hosts(project: Project, free_port: int, secret: dict[str, str]) -> None:
    folder = project(test_inner=ACROSS)
    with started(folder, two_hosts(free_port, **secret)) as processes:
        ended = outputs(processes)
    assert [code for code, _ in ended] == [1, 1], ended
    outcomes = {name: outcome for name, (outcome, _) in read_junit(folder / "junit.xml").items()}
    assert outcomes == {"test_sum": "passed", "test_one_dies": "failed", "test_again": "passed"}, ended
    assert not list((folder / "logs").glob(".launch-*")), "the letter goes when all have met"


def listening(pid: int) -> set[str]:
    """Addresses on which a process listens."""
    found = psutil.Process(pid).net_connections("tcp")
    return {one.laddr.ip for one in found if one.status == psutil.CONN_LISTEN}


@pytest.mark.parametrize("hosts", [1, 2])
def test_rank_0_listens_where_it_must_and_no_longer(project: Project, free_port: int, hosts: int) -> None:
    folder = project(test_inner=LIGHT)
    launch = two_hosts if hosts == 2 else two_ranks
    with started(folder, launch(free_port, PAUSE=str(2 * PATIENCE_S))) as processes:
        wait_for((folder / "logs" / "rank000.log").exists)
        assert listening(processes[0].pid) == ({"127.0.0.1"} if hosts == 2 else set())
        assert listening(processes[1].pid) == set()


@pytest.mark.parametrize("victim", [0, 1])
def test_a_process_killed_before_all_met_is_missed_at_once(
    project: Project, free_port: int, victim: int
) -> None:
    slow = """
        import os, pathlib, time
        def pytest_collection_modifyitems():
            if os.environ["SLURM_PROCID"] == os.environ["VICTIM"]:
                pathlib.Path("here").touch()
                time.sleep(3600)
    """
    folder = project(conftest=slow, test_inner=LIGHT)
    with started(folder, two_ranks(free_port, VICTIM=str(victim))) as processes:
        wait_for((folder / "here").exists)
        processes[victim].kill()
        code, text = outputs([processes[1 - victim]])[0]
    assert code != 0
    assert f"pytest process {processes[victim].pid} ended before all had met" in text


LOST = """
    import os, signal
    from fixtures.ranks import rank

    announce = rank._announce

    def sabotage(info):
        announce(info)
        if info.rank == 1:
            os.kill(os.getppid(), signal.SIGKILL)

    rank._announce = sabotage
"""


def test_an_agent_lost_while_the_gang_starts_costs_one_case(project: Project, free_port: int) -> None:
    folder = project(conftest=LOST, test_inner=LIGHT)
    with started(folder, two_ranks(free_port), "--deadline=start=600") as processes:
        ended = outputs(processes)
    assert all(code != 0 for code, _ in ended), ended
    assert "the run cannot go on: rank 1: its pytest process" in ended[0][1]
    outcomes = {name: outcome for name, (outcome, _) in read_junit(folder / "junit.xml").items()}
    assert outcomes == {"test_one": "error"}


@pytest.mark.parametrize("victim", [0, 1])
def test_a_killed_process_ends_the_run_everywhere(project: Project, free_port: int, victim: int) -> None:
    folder = project(test_inner=LIGHT)
    with started(folder, two_ranks(free_port, KILL=str(victim))) as processes:
        ended = outputs(processes)
    assert all(code != 0 for code, _ in ended), ended
    if victim == 1:
        assert "rank 1 of 2" in ended[0][1]
        assert f"its pytest process {processes[1].pid} on" in ended[0][1]
        assert "the run cannot go on" in ended[0][1]
    else:
        assert "the pytest process of rank 0 at 127.0.0.1 is gone" in ended[1][1]


def test_sigterm_ends_the_session_in_order(project: Project, free_port: int) -> None:
    folder = project(test_inner=LIGHT)
    with started(folder, two_ranks(free_port, PAUSE=str(2 * PATIENCE_S))) as processes:
        wait_for((folder / "paused").exists)
        processes[0].send_signal(signal.SIGTERM)
        ended = outputs(processes)
    assert [code for code, _ in ended] == [143, 143], ended
    assert "received SIGTERM" in ended[0][1]
    assert read_junit(folder / "junit.xml")["test_one"][0] == "passed"


def test_sigterm_after_the_exit_code_is_agreed_changes_no_process_code(
    project: Project, free_port: int
) -> None:
    """srun sends it to those that still report when the first process leaves with an error."""
    late = """
        import os, signal
        def pytest_sessionfinish():
            os.kill(os.getpid(), signal.SIGTERM)
    """
    folder = project(conftest=late, test_inner=LIGHT)
    with started(folder, two_ranks(free_port)) as processes:
        ended = outputs(processes)
    assert [code for code, _ in ended] == [0, 0], ended


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"SLURM_PROCID": "0"}, "rank 0 cannot listen on port"),
        ({"SLURM_STEP_NUM_TASKS": "3", "SLURM_STEP_TASKS_PER_NODE": "3"}, "says that there are 3 ranks"),
        ({"RANK": "0", "WORLD_SIZE": "2"}, "SLURM_PROCID says 1 but RANK says 0"),
    ],
)
def test_contradictory_ranks_are_named(
    project: Project, free_port: int, change: dict[str, str], sentence: str
) -> None:
    folder = project(test_inner=LIGHT)
    with started(folder, [slurm(0, 2, free_port), slurm(1, 2, free_port) | change]) as processes:
        code, text = outputs([first_to_end(processes)])[0]
    assert code != 0
    assert sentence in text


def test_ranks_that_collect_other_items_do_not_run(project: Project, free_port: int) -> None:
    folder = project(
        conftest="""
        import os
        def pytest_collection_modifyitems(items):
            if os.environ["SLURM_PROCID"] == "1":
                items.reverse()
        """,
        test_inner=LIGHT,
    )
    with started(folder, two_ranks(free_port)) as processes:
        ended = outputs(processes)
    assert [code for code, _ in ended] == [1, 1], ended
    reason = (
        "collected other items than rank 0: item 1 is test_inner.py::test_two, not test_inner.py::test_one"
    )
    assert f"rank 1 on {os.uname().nodename} {reason}" in ended[0][1]


def entry(rank: int, **change: Any) -> Enroll:
    """A pytest process as it presents itself."""
    usual = {"rank": rank, "world_size": 3, "host": f"node{rank}", "pid": 7, "items": ("a", "b")}
    return Enroll(**{**usual, **change})


@pytest.mark.parametrize(
    ("entries", "sentence"),
    [
        ([entry(0), entry(1), entry(2)], None),
        (
            [entry(0), entry(1), entry(1, host="node9", pid=8)],
            "rank 1 came twice: process 7 on node1 and process 8 on node9",
        ),
        (
            [entry(0), entry(1), entry(2, world_size=4)],
            "rank 2 on node2 says that there are 4 ranks, rank 0 on node0 says 3",
        ),
        (
            [entry(0), entry(1, trouble="1 error in collection"), entry(2)],
            "rank 1 on node1 could not collect: 1 error in collection",
        ),
        (
            [entry(0), entry(1, items=("a",)), entry(2)],
            "rank 1 on node1 collected 1 distributed items, rank 0 2: only rank 0 has b",
        ),
        (
            [entry(0), entry(1), entry(2, items=("a", "b", "c"))],
            "rank 2 on node2 collected 3 distributed items, rank 0 2: only it has c",
        ),
    ],
)
def test_misfits(entries: list[Enroll], sentence: str | None) -> None:
    assert find_misfit(entries) == sentence
