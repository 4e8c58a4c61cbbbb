"""How fast the suite itself is: figures without limits, in pytest-benchmark's table (`make bench-suite`).

Each case checks what it did, never how long that took: a busy machine gives other figures, not a failure.
"""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from fixtures.gates.index import Index
from tests.correctness.made_up_runs import case_line, environment, noisy_nights
from tests.correctness.patience import PATIENCE_S
from tests.correctness.ranks.test_crowd import CROWD
from tools import compare

ROOT = Path(__file__).resolve().parents[2]
Inner = Callable[..., Any]

TRIVIAL = """
    import pytest

    @pytest.mark.distributed
    @pytest.mark.parametrize("i", range(60))
    def test_trivial(i):
        pass
"""
TIMES = """
    import json, pathlib, time
    import pytest

    SPENT = []

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_protocol(item):
        start = time.perf_counter()
        answer = yield
        SPENT.append(time.perf_counter() - start)
        return answer

    def pytest_sessionfinish():
        pathlib.Path("times.json").write_text(json.dumps(SPENT))
"""


def test_an_item_on_8_local_ranks(inner: Inner, tmp_path: Path, benchmark: BenchmarkFixture) -> None:
    """What the control plane costs: the times of 59 items that do nothing; the first one forks the ranks."""
    run = inner(TRIVIAL, "--ranks=8", "-p", "no:terminal", conftest=TIMES)
    assert run.code == 0
    spent = json.loads((tmp_path / "times.json").read_text())[1:]
    assert len(spent) == 59
    benchmark.pedantic(lambda: None, rounds=1)
    if benchmark.enabled:  # not under pytest-xdist
        benchmark.stats.stats.data[:] = spent


def test_128_ranks_come_up_run_an_item_and_leave(inner: Inner, benchmark: BenchmarkFixture) -> None:
    run = benchmark.pedantic(inner, args=(CROWD, "--ranks=128", "--deadline=600"), rounds=1)
    assert run.code == 0, run.output


def test_plan_of_full_kimi_k2(benchmark: BenchmarkFixture) -> None:
    command = [sys.executable, "-m", "tools", "plan", "--json"]
    options: dict[str, Any] = {"cwd": ROOT, "capture_output": True, "timeout": PATIENCE_S, "check": True}
    done = benchmark.pedantic(subprocess.run, args=(command,), kwargs=options, rounds=3)
    assert len(json.loads(done.stdout)["scenarios"]) >= 7


@pytest.fixture
def nights(tmp_path: Path) -> list[Path]:
    """480 runs of 21 cases each."""
    keys = ("s1", "s2", "s3", "s4", "s5", "s6", "s7")
    lines = [
        json.dumps(case_line(key, [30.0] * 5, engine=engine)) for key in keys for engine in ("a", "b", "c")
    ]
    for night in range(480):
        first = json.dumps(environment(f"2030-01-01T00:{night // 60:02d}:{night % 60:02d}"))
        (tmp_path / f"n{night:03d}.jsonl").write_text("\n".join([first, *lines]) + "\n")
    return sorted(tmp_path.glob("*.jsonl"))


def test_index_of_10080_cases(nights: list[Path], tmp_path: Path, benchmark: BenchmarkFixture) -> None:
    assert benchmark.pedantic(Index(tmp_path / "index.sqlite").refresh, args=(nights,), rounds=1) == 480


def test_reopening_an_index_of_10080_cases(
    nights: list[Path], tmp_path: Path, benchmark: BenchmarkFixture
) -> None:
    Index(tmp_path / "index.sqlite").refresh(nights)

    def series() -> int:
        index = Index(tmp_path / "index.sqlite")
        assert index.refresh(nights) == 0
        return len(index.series()[0].points)

    assert benchmark.pedantic(series, rounds=3) == 480


def test_comparison_of_two_times_7_runs(tmp_path: Path, benchmark: BenchmarkFixture) -> None:
    medians = [ms + 0.1 * (i % 3) for ms in (30.0, 36.0) for i in range(7)]
    nights = [str(path) for path in noisy_nights(medians, tmp_path)]
    sides = [*nights[:7], "vs", *nights[7:]]
    assert benchmark.pedantic(compare.main, args=(sides,), rounds=3) == 1, "slower: worse"
