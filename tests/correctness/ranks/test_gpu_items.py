"""GPU items run in processes of their own, and an item that would keep ranks from being forked is named."""

import subprocess
import sys

import pytest

from tests.correctness.ranks.conftest import inner_environment
from tests.correctness.surroundings import read_junit

GPUS = """
import types, sys
torch = types.ModuleType("torch")
torch.cuda = types.SimpleNamespace(device_count=lambda: 1, is_initialized=lambda: bool(used))
used = []
sys.modules["torch"] = torch
pytest_plugins = ["fixtures.plugins.gpu"]
"""
TESTS = """
import os, signal, sys
import pytest

SESSION = os.getpid()
cuda = lambda: sys.modules["conftest"].used.append(1)

@pytest.mark.gpu
def test_passes():
    cuda()
    assert os.getpid() != SESSION

@pytest.mark.gpu
def test_fails():
    assert os.getpid() == SESSION, "in a process of its own"

@pytest.mark.gpu
def test_dies():
    os.kill(os.getpid(), signal.SIGKILL)

@pytest.mark.gpu(2)
def test_skipped():
    raise AssertionError

def test_before():
    pass

def test_initialises():
    cuda()

def test_after():
    pass
"""


@pytest.fixture(scope="module")
def outcome(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("gpu")
    (folder / "conftest.py").write_text(GPUS)
    (folder / "test_it.py").write_text(TESTS)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--junitxml=junit.xml"]
    done = subprocess.run(command, cwd=folder, env=inner_environment(), capture_output=True, check=False)
    cases = read_junit(folder / "junit.xml")
    assert cases, done.stdout.decode() + done.stderr.decode()
    return {name: f"{word}: {text}" for name, (word, text) in cases.items()}


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("test_passes", "passed"),
        ("test_fails", "in a process of its own"),
        ("test_dies", "killed by SIGKILL before it could report"),
        ("test_skipped", "needs 2 GPUs, and this machine has 1"),
        ("test_before", "passed"),
        ("test_initialises", "test_it.py::test_initialises has initialised CUDA in the session's process"),
        ("test_after", "passed"),
    ],
)
def test_each_item_ends_as_it_should(outcome: dict[str, str], name: str, said: str) -> None:
    assert said in outcome[name]
