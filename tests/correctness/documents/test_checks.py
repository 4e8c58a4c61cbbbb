"""`make check` is what a change must pass: all of it, in order, wherever changes are checked."""

import shutil
import subprocess

import pytest

from tests.correctness.cli.inner_runs import ROOT


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
def test_make_check_runs_format_lint_types_and_tests_in_this_order() -> None:
    done = subprocess.run(["make", "-n", "check"], cwd=ROOT, capture_output=True, text=True, check=True)
    steps = [done.stdout.find(f"-m {step}") for step in
             ("ruff format --check", "ruff check", "mypy", "pytest tests/correctness")]  # fmt: skip
    assert -1 not in steps, done.stdout
    assert steps == sorted(steps)


@pytest.mark.parametrize("file", [".ci/run", ".github/workflows/check.yml", "CONTRIBUTING.md"])
def test_changes_are_checked_by_it(file: str) -> None:
    assert "make check" in (ROOT / file).read_text(encoding="utf-8")
