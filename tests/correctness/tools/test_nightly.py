"""The documented night, run as a person would: verdicts, good runs, what is published, exit codes."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.correctness.made_up_runs import case, environment, write_run
from tests.correctness.patience import PATIENCE_S

ROOT = Path(__file__).resolve().parents[3]
SCRIPT = ROOT / "docs" / "examples" / "nightly.sh"


def _night(store: Path, number: int, ms: float) -> Path:
    env = environment(f"2030-{1 + number // 28:02d}-{1 + number % 28:02d}T02:00:00+00:00")
    return write_run(store / "all" / f"n{number:03d}.jsonl", [case(warm_ms=[ms] * 5)], env=env)


def _judge(store: Path, run: Path, suite: int = 0) -> subprocess.CompletedProcess[str]:
    environ = {**os.environ, "STORE": str(store), "PUBLISH": str(store / "page"), "PYTHON": sys.executable}
    command = [str(SCRIPT), str(run), str(suite)]
    return subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True, timeout=PATIENCE_S)


def test_a_slowdown_turns_the_night_red_and_keeps_the_baseline_clean(tmp_path: Path) -> None:
    noise = 1 + 0.01 * np.random.default_rng(0).standard_normal(26)
    first = _judge(tmp_path, _night(tmp_path, 0, 30.0))
    assert first.returncode == 0, first.stderr
    assert (
        "Every run of the base is one of the new runs." in first.stdout
        or "holds no result file" in first.stdout
    )
    for number in range(1, 20):
        run = _night(tmp_path, number, 30.0 * noise[number])
        (tmp_path / "good" / run.name).symlink_to(run)
    for number in range(20, 26):
        run = _night(tmp_path, number, 33.0 * noise[number])
        (tmp_path / "good" / run.name).symlink_to(run)
    last = _judge(tmp_path, _night(tmp_path, 26, 33.0))
    assert last.returncode == 1, last.stdout + last.stderr
    assert "| ▲ worse | s6 direct" in last.stdout
    assert not (tmp_path / "good" / "n026.jsonl").exists()
    assert {path.name for path in (tmp_path / "page").iterdir()} == {
        "page.html",
        "summary.md",
        "compare.md",
        "compare.json",
        "compare.err",
    }


def test_a_failed_suite_keeps_its_exit_code(tmp_path: Path) -> None:
    failed = _judge(tmp_path, _night(tmp_path, 0, 30.0), suite=3)
    assert failed.returncode == 3
    assert not list((tmp_path / "good").iterdir())


@pytest.mark.parametrize("name", ["nightly.sh", "nightly.sbatch"])
def test_scripts_parse(name: str) -> None:
    subprocess.run(["bash", "-n", str(SCRIPT.with_name(name))], check=True, timeout=PATIENCE_S)
