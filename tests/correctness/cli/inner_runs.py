"""Runs the suite as a user does, and reads back everything that the run left."""

import contextlib
import json
import os
import pty
import select
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.correctness.patience import PATIENCE_S
from tests.correctness.surroundings import clean_environment, read_junit

ROOT = Path(__file__).resolve().parents[3]

type Record = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class SuiteRun:
    """One run: exit code, terminal output, and the files under `folder` (results, junit.xml, bench.json)."""

    code: int
    output: str
    folder: Path

    @property
    def lines(self) -> list[Record]:
        """Every line of the result file."""
        text = (self.folder / "results" / "inner.jsonl").read_text()
        return [json.loads(line) for line in text.splitlines()]

    @property
    def cases(self) -> list[Record]:
        """The result file's case lines."""
        return [line for line in self.lines if line["type"] == "case"]

    def case(self, scenario: str, engine: str = "megatron") -> Record:
        """The one case of a scenario's key and an engine."""
        found = [c for c in self.cases if c["engine"] == engine and c["scenario"].startswith(scenario)]
        assert len(found) == 1, f"{len(found)} cases of {scenario} {engine}\n{self.output}"
        return found[0]

    @property
    def junit(self) -> dict[str, str]:
        """Case name -> the text of its failure or skip in JUnit's file, empty for a pass."""
        return {name: text for name, (_, text) in read_junit(self.folder / "junit.xml").items()}

    @property
    def benchmarks(self) -> list[Record]:
        """Entries of pytest-benchmark's JSON."""
        return json.loads((self.folder / "bench.json").read_text())["benchmarks"]


def run_suite(
    folder: Path, *arguments: str, launcher: Sequence[str] = (), results: Path | None = None
) -> SuiteRun:
    """`pytest tests/perf` in a process of its own, with `launcher` (torchrun ...) in front."""
    start = list(launcher) or [sys.executable, "-m"]
    done = subprocess.run(
        [*start, "pytest", *_arguments(folder, results), *arguments],
        cwd=ROOT,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    return SuiteRun(code=done.returncode, output=done.stdout, folder=folder)


def _arguments(folder: Path, results: Path | None) -> list[str]:
    return [
        "tests/perf",
        "-p",
        "no:cacheprovider",
        "--run-name=inner",
        f"--results={results or folder / 'results'}",
        f"--junitxml={folder / 'junit.xml'}",
        f"--benchmark-json={folder / 'bench.json'}",
    ]


def environment() -> dict[str, str]:
    """Of this process, without what a launcher or pytest set in it, and without GPUs."""
    return clean_environment(OMP_NUM_THREADS="1")


def fork_suite(
    folder: Path,
    *arguments: str,
    results: Path | None = None,
    before: Callable[[], object] = lambda: None,
) -> SuiteRun:
    """The same in a fork of this process, which has imported torch and megatron-core already.

    `before` is called in the fork first.
    """
    output = folder / "output.txt"
    child = os.fork()
    if child == 0:
        before()
        os._exit(_child(output, [*_arguments(folder, results), *arguments]))
    code = _wait(child)
    return SuiteRun(code=code, output=output.read_text(errors="replace"), folder=folder)


def suite_on_a_terminal(folder: Path, *arguments: str, **variables: str) -> SuiteRun:
    """The same on a terminal of 80 columns, with `variables` in its environment; its output holds what the
    terminal was sent."""
    child, terminal = pty.fork()
    if child == 0:
        known = {"TERM": "xterm", "COLUMNS": "80", **variables}
        os._exit(_child(Path("/dev/tty"), [*_arguments(folder, None), *arguments], known))
    output = _sent(terminal)
    return SuiteRun(code=_wait(child), output=output, folder=folder)


def _sent(terminal: int) -> str:
    """All that is written to a terminal until its last writer leaves, or patience ends."""
    parts = list[bytes]()
    with contextlib.suppress(OSError):  # how the last writer's leaving is told
        while select.select([terminal], [], [], PATIENCE_S)[0] and (part := os.read(terminal, 1 << 16)):
            parts.append(part)
    os.close(terminal)
    return b"".join(parts).decode(errors="replace")


def _child(output: Path, arguments: list[str], variables: Mapping[str, str] | None = None) -> int:
    import pytest

    descriptor = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for number in (1, 2):
        os.dup2(descriptor, number)
    sys.stdout = sys.__stdout__ = open(1, "w", buffering=1, closefd=False)  # noqa: SIM115
    sys.stderr = sys.__stderr__ = open(2, "w", buffering=1, closefd=False)  # noqa: SIM115
    os.environ.clear()
    os.environ.update({**environment(), **(variables or {})})
    os.chdir(ROOT)
    try:
        return int(pytest.main(arguments))
    except BaseException:
        traceback.print_exc()
        return 70
    finally:
        sys.stdout.flush()
        sys.stderr.flush()


def _wait(child: int) -> int:
    """The child's exit code; it is killed when patience ends."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() > deadline:
            os.kill(child, 9)
            deadline = float("inf")
        time.sleep(0.02)
