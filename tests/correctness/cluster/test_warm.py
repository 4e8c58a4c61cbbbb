"""What a node starts in Python's place ends as Python would, with its own words, folder and signals."""

import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from fixtures.cluster.hosts import running_hosts, why_no_hosts
from fixtures.cluster.warm import warm_python

ACTS = """
import os, socket, sys, time
what = sys.argv[1]
if what == "say":
    print(os.environ["WORD"], os.getcwd(), socket.gethostname(), sys.stdin.read(), "json" in sys.modules)
elif what == "die":
    os.kill(os.getpid(), 9)
elif what == "wait":
    print(os.getpid(), flush=True)
    time.sleep(600)
else:
    sys.exit(int(what))
"""


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    if reason := why_no_hosts():
        pytest.skip(reason)
    with warm_python(tmp_path_factory.mktemp("warm"), modules=("json",)) as program:
        yield program


@pytest.fixture
def command(python: Path, tmp_path: Path) -> tuple[str, ...]:
    (tmp_path / "acts.py").write_text(ACTS)
    return str(python), "-m", "acts"


def test_a_task_has_its_own_words_folder_and_exit_code(command: tuple[str, ...], tmp_path: Path) -> None:
    def run(what: str) -> subprocess.CompletedProcess[str]:
        environ = os.environ | {"WORD": "mine"}
        return subprocess.run(
            (*command, what), cwd=tmp_path, env=environ, input="told", capture_output=True, text=True
        )

    assert run("say").stdout.split() == ["mine", str(tmp_path), os.uname().nodename, "told", "True"]
    assert [run(what).returncode for what in ("0", "3", "die")] == [0, 3, -signal.SIGKILL]


def test_a_task_runs_on_its_own_host(command: tuple[str, ...], tmp_path: Path) -> None:
    with running_hosts(1) as hosts:
        inside = hosts["node1"].command("env", "WORD=mine", *command, "say", cwd=tmp_path)
        said = subprocess.run(inside, input="", capture_output=True, text=True)
    assert said.stdout.split()[:3] == ["mine", str(tmp_path), "node1"], said


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_signal_ends_the_task_and_its_fork(
    command: tuple[str, ...], tmp_path: Path, number: signal.Signals
) -> None:
    with subprocess.Popen((*command, "wait"), cwd=tmp_path, stdout=subprocess.PIPE, text=True) as task:
        assert task.stdout is not None
        fork = os.pidfd_open(int(task.stdout.readline()))
        task.send_signal(number)
        assert task.wait(60) == -number
        assert _ended(fork)


def _ended(pidfd: int) -> bool:
    """A pidfd can be read once its process has ended."""
    return bool(select.select([pidfd], [], [], 60)[0])


def test_other_arguments_are_pythons_own(python: Path) -> None:
    done = subprocess.run((python, "-c", "import sys; print(sys.executable)"), capture_output=True, text=True)
    assert done.stdout.strip() == sys.executable
