"""The JSON of a real run stays valid for `pytest-benchmark compare` and holds our facts."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from fixtures.records.reader import read_run
from fixtures.records.validate import check_run
from tests.correctness.patience import PATIENCE_S

ROOT = Path(__file__).resolve().parents[3]
RUN = "tests/perf --scenario s6 --engine packed --ranks 2 --iterations 3 --run-name bench -q"


def test_pytest_benchmark_compares_two_files_of_ours(tmp_path: Path) -> None:
    file = tmp_path / "bench.json"
    command = [
        sys.executable,
        "-m",
        "pytest",
        *RUN.split(),
        f"--results={tmp_path}",
        f"--benchmark-json={file}",
    ]
    # pytest-benchmark switches itself off under pytest-xdist, whose worker may be running this test.
    environment = {name: value for name, value in os.environ.items() if "XDIST" not in name}
    environment["CUDA_VISIBLE_DEVICES"] = ""
    run = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=PATIENCE_S
    )
    assert run.returncode == 0, run.stdout
    facts = json.loads(file.read_text())
    (case,) = read_run(tmp_path / "bench.jsonl").cases
    assert check_run(read_run(tmp_path / "bench.jsonl")) == []
    stats, info = facts["benchmarks"][0]["stats"], facts["benchmarks"][0]["extra_info"]
    assert [1000 * second for second in stats["data"]] == pytest.approx(case.warm_ms)
    for name in ("scenario", "engine", "transport", "cold_ms", "moved_bytes", "mismatches", "verdict"):
        assert info[name] == getattr(case, name), name
    later = tmp_path / "later.json"
    later.write_text(json.dumps(facts))
    shown = subprocess.run(
        [sys.executable, "-m", "pytest_benchmark", "compare", str(file), str(later), "--columns=min,median"],
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
    )
    assert shown.returncode == 0, shown.stderr
    assert shown.stdout.count("s6-collocated-tp16ep8-to-tp8ep16-packed") >= 2
