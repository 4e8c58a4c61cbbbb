"""A year of simulated nights: the gate is seldom wrong and finds what it should.

The nightly rule of docs/nightly.md: the newest 7 runs against the 30 before them.
"""

from typing import Any

import numpy as np
import pytest

from fixtures.gates.comparison import compare
from fixtures.records.reader import Path, Run
from tests.correctness.made_up_runs import case, environment

BASE, NEW = 30, 7
NIGHTS = 200


def _run(medians: dict[str, float]) -> Run:
    lines: tuple[dict[str, Any], ...] = tuple(
        case(key, [value], peak_extra_bytes=None, cold_ms=None, samples_ms=None)
        for key, value in medians.items()
    )
    return Run(path=Path("night.jsonl"), environment=environment(), cases=lines)


def _nights(
    noise: float, count: int, seed: int, keys: tuple[str, ...] = ("s6",), slower_from: int = 10**9
) -> list[Run]:
    """One run a night; from night `slower_from` on, the first case takes 10 % longer."""
    rng = np.random.default_rng(seed)
    factors = 1 + noise * rng.standard_normal((count, len(keys)))
    factors[slower_from:, 0] *= 1.10
    return [_run({key: 30.0 * f for key, f in zip(keys, row, strict=True)}) for row in factors]


def _outcomes(runs: list[Run], night: int) -> set[str]:
    base, new = runs[night - NEW - BASE : night - NEW], runs[night - NEW : night]
    return {row.word for row in compare(base, new).rows}


@pytest.mark.parametrize("noise", [0.01, 0.02, 0.05])
def test_200_quiet_nights_raise_at_most_one_percent_false_alarms(noise: float) -> None:
    runs = _nights(noise, NIGHTS + BASE + NEW, seed=2030)
    verdicts = [_outcomes(runs, night) for night in range(BASE + NEW, BASE + NEW + NIGHTS)]
    assert sum("worse" in verdict for verdict in verdicts) <= NIGHTS // 100
    assert sum("better" in verdict for verdict in verdicts) <= NIGHTS // 100
    assert sum("same" in verdict for verdict in verdicts) >= 0.95 * NIGHTS


@pytest.mark.parametrize(("noise", "trials"), [(0.01, 40), (0.02, 40), (0.05, 200)])
def test_a_ten_percent_regression_is_found_within_seven_runs(noise: float, trials: int) -> None:
    found = 0
    for seed in range(trials):
        runs = _nights(noise, BASE + 2 * NEW, seed=1000 + seed, slower_from=BASE + NEW)
        found += any("worse" in _outcomes(runs, BASE + NEW + k) for k in (7, 6, 5))
    assert found / trials >= 0.95


@pytest.mark.parametrize(("noise", "least"), [(0.02, 0.95), (0.05, 0.5)])
def test_seven_cases_at_once_keep_the_promise_for_the_whole_night(noise: float, least: float) -> None:
    """Holm: one false alarm in a hundred nights of the whole suite; at 5 % noise that costs power."""
    keys = ("s1", "s2", "s3", "s4", "s5", "s6", "s7")
    quiet = _nights(noise, BASE + NEW + 30, seed=7, keys=keys)
    assert sum("worse" in _outcomes(quiet, BASE + NEW + k) for k in range(0, 30, 3)) == 0
    found = 0
    for seed in range(12):
        runs = _nights(noise, BASE + 2 * NEW, seed=300 + seed, keys=keys, slower_from=BASE + NEW)
        found += "worse" in _outcomes(runs, BASE + 2 * NEW)
    assert found / 12 >= least


def test_iterations_of_one_run_would_have_cried_wolf() -> None:
    """Why runs and not iterations: 2 % between runs looks like a change to a test over iterations."""
    from fixtures.gates.statistics import p_greater

    rng, alarms = np.random.default_rng(0), 0
    for _ in range(100):
        base, new = (
            level * (1 + 0.005 * rng.standard_normal(20))
            for level in 30 * (1 + 0.02 * rng.standard_normal(2))
        )
        alarms += min(p_greater(list(new), list(base)), p_greater(list(base), list(new))) <= 0.01
    assert alarms >= 50
