"""The fault matrix: whatever one rank does wrong in whatever stage, the case ends and names it.

No verdict here depends on the clock: only a case whose fault leaves the others waiting has a short deadline,
which starts once all ranks stand before the fault; every other case has the generous ones of every day.
"""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

Inner = Callable[..., Any]

FAULTS = (
    "exception",
    "SIGKILL",
    "hang in Python",
    "hang in C",
    "MemoryError",
    "wrong order",
    "missing",
    "abort",
)
STAGES = ("setup", "cold", "warm", "verify", "teardown")
WAITING = ("hang in Python", "hang in C", "wrong order", "missing")
"""Faults that only a deadline ends."""
WAITING_S = 2.5
GRACE_S = 0.3

LOCK_TWICE = """
    def lock_twice():
        mutex = ctypes.create_string_buffer(64)
        for _ in range(2):
            ctypes.PyDLL(None).pthread_mutex_lock(mutex)  # for ever, holding the interpreter's lock
"""

MATRIX = (
    f"""
    import ctypes, os, signal, time
    import pytest
    import torch
    import torch.distributed as dist
    from fixtures.ranks import publish_record, stage

    pytestmark = pytest.mark.distributed
    FAULTS, STAGES, WAITING = {FAULTS!r}, {STAGES!r}, {WAITING!r}
{LOCK_TWICE}"""
    + """
    def collective(world):
        x = torch.ones(4) * world.rank
        dist.all_reduce(x)
        assert x[0] == 6

    def misbehave(world, fault):
        if fault == "exception":
            raise ValueError("a bug in one rank")
        if fault == "SIGKILL":
            os.kill(os.getpid(), signal.SIGKILL)
        if fault == "hang in Python":
            while True:
                time.sleep(0.01)
        if fault == "hang in C":
            lock_twice()
        if fault == "MemoryError":
            bytearray(1 << 60)
        if fault == "wrong order":
            dist.broadcast(torch.ones(3), src=1)
        if fault == "abort":
            ctypes.CDLL(None).abort()

    def act(world, now, at, fault):
        if fault in WAITING:
            stage(f"waits_{now}")
        if now == at and world.rank == 1:
            misbehave(world, fault)
            if fault == "missing":
                return
        collective(world)

    @pytest.fixture
    def cell(world, request):
        fault, at = request.param
        act(world, "setup", at, fault)
        yield fault, at
        act(world, "teardown", at, fault)

    CELLS = [(fault, at) for fault in FAULTS for at in STAGES]
    ORDERED = [entry for cell in CELLS for entry in ((cell, True), (cell, False))]

    @pytest.mark.parametrize(
        ("cell", "faulty"),
        [pytest.param((f if faulty else "", at), faulty, id=f"{f}-{at}-{'cell' if faulty else 'next'}")
         for (f, at), faulty in ORDERED],
        indirect=["cell"],
    )
    def test_cell(world, cell, faulty):
        fault, at = cell
        for now in STAGES[1:-1]:
            stage(now)
            act(world, now, at, fault)
        publish_record({"fault": fault, "at": at, "rank": world.rank})
"""
)

WATCH = """
    import json, pathlib

    def pytest_refit_case_finished(item, record, reports):
        children = pathlib.Path("/proc/self/task").glob("*/children")
        line = {
            "name": item.name,
            "record": record,
            "children": sum(len(path.read_text().split()) for path in children),
        }
        with pathlib.Path("cases.jsonl").open("a") as file:
            file.write(json.dumps(line) + "\\n")
"""


def left_behind(folder: Path) -> list[str]:
    """Processes that still work in the folder of an inner project."""
    found = []
    for process in psutil.process_iter():
        try:
            if Path(process.cwd()) == folder:
                found.append(f"{process.pid} {process.cmdline()}")
        except (psutil.Error, OSError):
            continue
    return found


def problems(cell: str, fault: str, run: Any, line: dict[str, Any]) -> list[str]:
    """What is not as it should be with one cell of the matrix."""
    outcome, message = run.cases[f"test_cell[{cell}-cell]"]
    found = []
    if outcome not in ("failed", "error"):
        found.append(f"{outcome}, though rank 1 went wrong")
    headline = message.splitlines()[0] if message else ""
    if "rank 1 of 4 (" not in headline:
        found.append(f"does not name rank 1: {headline!r}")
    if line["children"]:
        found.append(f"{line['children']} ranks were left alive")
    words = {
        "SIGKILL": "killed by SIGKILL",
        "abort": "killed by SIGABRT",
        "exception": "ValueError: a bug in one rank",
        "MemoryError": "MemoryError",
        **dict.fromkeys(WAITING, "deadline of waits_"),
        **dict.fromkeys(("missing",), "deadline of waits_|the ranks parted in"),
    }
    if not re.search(words[fault], headline):
        found.append(f"does not say {words[fault]!r}: {headline!r}")
    return [f"{cell}: {problem}" for problem in found]


def test_fault_matrix(inner: Inner, tmp_path: Path) -> None:
    deadlines = ",".join(f"waits_{name}={WAITING_S}" for name in STAGES)
    options = ("--ranks=4", f"--deadline={deadlines}", f"--rank-grace={GRACE_S}", "--native-stacks=off", "-q")
    run = inner(MATRIX, *options, conftest=WATCH)
    print(run.output[-6000:])
    lines = {
        line["name"]: line for line in map(json.loads, (tmp_path / "cases.jsonl").read_text().splitlines())
    }
    assert run.code == 1
    assert len(lines) == 2 * len(FAULTS) * len(STAGES)
    wrong: list[str] = []
    for fault in FAULTS:
        for at in STAGES:
            cell = f"{fault}-{at}"
            wrong += problems(cell, fault, run, lines[f"test_cell[{cell}-cell]"])
            innocent = f"test_cell[{cell}-next]"
            if run.outcome(innocent) != "passed" or lines[innocent]["record"] != {
                "fault": "",
                "at": at,
                "rank": 0,
            }:
                wrong.append(f"the case after {cell}: {run.cases[innocent]}")
    assert not wrong, "\n".join(wrong)
    assert not left_behind(tmp_path)


HANG = f"""
    import ctypes
    import pytest
    from fixtures.ranks import agree, current_rank, stage
{LOCK_TWICE}
    @pytest.mark.distributed
    def test_hangs():
        stage("cold")
        if current_rank().rank == 1:
            lock_twice()
        agree(True)
"""


def py_spy_works() -> bool:
    """Whether py-spy is installed and may look at a child of ours."""
    tool = shutil.which("py-spy") or shutil.which("py-spy", path=str(Path(sys.executable).parent))
    if tool is None:
        return False
    waits = "import time; print(flush=True); time.sleep(3600)"
    with subprocess.Popen([sys.executable, "-c", waits], stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.readline()
        done = subprocess.run([tool, "dump", "--pid", str(child.pid)], capture_output=True, check=False)
        child.kill()
    return done.returncode == 0


def test_a_hang_ends_and_leaves_every_ranks_stacks(inner: Inner, tmp_path: Path) -> None:
    run = inner(HANG, "--ranks=3", "--deadline=cold=5")
    assert run.code == 1
    message = run.message("test_hangs")
    assert "deadline of cold passed: rank 1 of 3" in message
    assert "ranks 0, 2 wait for rank 1" in message
    assert "ranks 0, 2: waiting in agree (cold)" in message
    for rank in range(3):
        assert "in test_hangs" in (tmp_path / "logs" / f"rank00{rank}.stacks").read_text()
    if py_spy_works():
        assert "pthread_mutex_lock" in (tmp_path / "logs" / "rank001.native").read_text()
        assert "Native stack of rank 1" in message
