"""Runs a small project of its own under a pytest of its own, and reads back what that one reported."""

import subprocess
import sys
import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.correctness.patience import PATIENCE_S
from tests.correctness.surroundings import clean_environment, read_junit

ROOT = Path(__file__).resolve().parents[3]
PLUGIN = 'pytest_plugins = ["fixtures.plugins.ranks"]\n'


@dataclass(frozen=True, kw_only=True)
class InnerRun:
    """What an inner pytest did: exit code, output, and outcome and message of each case by name."""

    code: int
    output: str
    cases: dict[str, tuple[str, str]]

    def outcome(self, name: str) -> str:
        """'passed', 'failed', 'skipped' or 'error'."""
        return self.cases[name][0]

    def message(self, name: str) -> str:
        """What the report says about a case that did not pass."""
        return self.cases[name][1]


def inner_environment(**env: str) -> dict[str, str]:
    """The environment of an inner pytest."""
    return clean_environment(PYTHONPATH=str(ROOT), **env)


Inner = Callable[..., InnerRun]


@pytest.fixture
def project(tmp_path: Path) -> Callable[..., Path]:
    """Writes the files of an inner project: `project(test_x="...", conftest="...")`."""

    def write(conftest: str = "", **files: str) -> Path:
        (tmp_path / "conftest.py").write_text(PLUGIN + textwrap.dedent(conftest))
        (tmp_path / "pytest.ini").write_text(
            "[pytest]\naddopts = --import-mode=importlib -p no:cacheprovider\n"
        )
        for name, text in files.items():
            (tmp_path / f"{name}.py").write_text(textwrap.dedent(text))
        return tmp_path

    return write


@pytest.fixture
def inner(project: Callable[..., Path]) -> Inner:
    """Runs an inner project: `inner("test code", "--ranks", "2", conftest="...", ulimit="-n 256")`."""

    def run(code: str, *arguments: str, conftest: str = "", ulimit: str = "", **env: str) -> InnerRun:
        folder = project(conftest=conftest, test_inner=code)
        shell = ["bash", "-c", f'ulimit {ulimit}; exec "$@"', "bash"] if ulimit else []
        command = [sys.executable, "-m", "pytest", "--junitxml=junit.xml", "--rank-logs=logs", *arguments]
        done = subprocess.run(
            [*shell, *command],
            cwd=folder,
            env=inner_environment(**env),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=PATIENCE_S,
            start_new_session=True,
        )
        return InnerRun(
            code=done.returncode,
            output=done.stdout,
            cases=read_junit(folder / "junit.xml"),
        )

    return run
