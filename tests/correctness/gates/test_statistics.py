"""The arithmetic of the gate, held against brute force and scipy."""

from itertools import combinations, product
from statistics import median

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from fixtures.gates.changes import change_points
from fixtures.gates.metrics import BY_NAME, PASSED, WARM, machine_rate, value_of
from fixtures.gates.new_baseline import bounds
from fixtures.gates.statistics import best_p, hodges_lehmann, holm, p_greater, runs_needed, shift_between
from tests.correctness.made_up_runs import CALIBRATION, case, skipped

VALUES = st.lists(st.integers(-20, 20).map(float), min_size=1, max_size=5)


def _brute_p(new: list[float], base: list[float]) -> float:
    """Share of all relabellings of distinct values whose U is at least the observed one."""
    values = [*new, *base]
    observed = sum(a > b for a, b in product(new, base))
    count = reached = 0
    for chosen in combinations(range(len(values)), len(new)):
        rest = [values[i] for i in range(len(values)) if i not in chosen]
        count += 1
        reached += sum(values[i] > b for i, b in product(chosen, rest)) >= observed
    return reached / count


@given(st.lists(st.integers(-100, 100), min_size=2, max_size=8, unique=True), st.data())
@settings(max_examples=40)
def test_mann_whitney_is_exact(values: list[int], data: st.DataObject) -> None:
    cut = data.draw(st.integers(1, len(values) - 1))
    new, base = [float(v) for v in values[:cut]], [float(v) for v in values[cut:]]
    assert p_greater(new, base) == pytest.approx(_brute_p(new, base))


@given(VALUES, VALUES)
@settings(max_examples=60)
def test_ties_never_help_a_finding(new: list[float], base: list[float]) -> None:
    jittered = [v + 1e-6 * (i + 1) for i, v in enumerate(new)]
    assert p_greater(new, base) >= p_greater(jittered, base) - 1e-12
    assert p_greater([1.0] * 7, [1.0] * 7) == 1.0


@given(VALUES, VALUES, st.integers(-50, 50))
@settings(max_examples=60)
def test_hodges_lehmann_is_the_median_difference_and_moves_with_the_data(
    new: list, base: list, by: int
) -> None:
    a, b = np.array(new), np.array(base)
    assert hodges_lehmann(a, b) == median(x - y for x, y in product(new, base))
    assert hodges_lehmann(a + by, b) == hodges_lehmann(a, b) + by
    assert hodges_lehmann(b, a) == -hodges_lehmann(a, b)


def test_bootstrap_interval_covers_the_truth() -> None:
    """95 % nominal; with 10 runs a side the percentile bootstrap is known to be a little narrow."""
    rng, hits, trials = np.random.default_rng(3), 0, 150
    for trial in range(trials):
        base, new = rng.normal(100, 2, 10), rng.normal(105, 2, 10)
        shift = shift_between(list(new), list(base), seed=trial)
        hits += shift.low <= 5 <= shift.high
        assert shift.low <= shift.change <= shift.high
    assert 0.88 <= hits / trials <= 0.99


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_is_never_below_the_raw_p_nor_above_bonferroni(ps: list[float]) -> None:
    for raw, adjusted in zip(ps, holm(ps), strict=True):
        assert raw <= adjusted <= min(1.0, len(ps) * raw) + 1e-12


def test_holm_example() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])


def test_minimum_runs() -> None:
    assert best_p(7, 7) == pytest.approx(1 / 3432)
    assert [runs_needed(p) for p in (0.05, 0.01, 0.001, 0.01 / 21)] == [3, 5, 7, 7]


def test_values_of_a_case() -> None:
    line = case(warm_ms=[10, 11, 50, 12, 60], throttled=[2, 4], cold_ms=7.0, floor_ms=None)
    assert value_of(WARM, line) == 11
    assert value_of(WARM, line.having(throttled=(0, 1, 2))) is None
    assert value_of(BY_NAME["cold_ms"], line) == 7.0
    assert value_of(BY_NAME["peak_extra_bytes"], line) == 2.6e9
    assert value_of(WARM, skipped()) is None
    assert [value_of(PASSED, c) for c in (line, skipped(), case(status="failed", reason="x"))] == [
        1.0,
        None,
        0.0,
    ]


def test_the_machine_is_held_against_what_bounds_the_transport() -> None:
    assert machine_rate(CALIBRATION, "packed", "nccl") == 363.0
    assert machine_rate(CALIBRATION, "direct", "nvshmem") == machine_rate(CALIBRATION, "x", "y") == 390.0
    assert machine_rate(CALIBRATION, "megatron", "gloo") is None
    assert machine_rate(None, "packed", "nccl") is None


def test_bounds_hold_the_next_run() -> None:
    """At most 0.2 % of the next runs of an unchanged system fall outside, whatever the noise."""
    rng, outside, trials = np.random.default_rng(5), 0, 3000
    for _ in range(trials):
        runs = rng.normal(100, 5, 8)
        low, high = bounds(list(runs[:7]), WARM)
        outside += not low <= runs[7] <= high
    assert outside / trials <= 0.005
    assert bounds([100.0, 100.0, 100.0], WARM) == pytest.approx((97.0, 103.0))
    assert bounds([0.0, 0.0, 0.0], BY_NAME["peak_extra_bytes"])[0] == 0.0


def _series(noise: float, *levels: tuple[float, int], seed: int = 0) -> list[float]:
    rng = np.random.default_rng(seed)
    return [level * (1 + noise * rng.standard_normal()) for level, count in levels for _ in range(count)]


@pytest.mark.parametrize("noise", [0.01, 0.02, 0.05])
def test_change_points_are_found_where_they_are(noise: float) -> None:
    found = change_points(_series(noise, (100, 30), (125, 30), (90, 30)))
    assert [abs(point.index - truth) <= 2 for point, truth in zip(found, (30, 60), strict=True)] == [
        True,
        True,
    ]
    assert found[0].change == pytest.approx(0.25, abs=0.06)
    assert found[1].change == pytest.approx(-0.28, abs=0.06)


def test_a_steady_history_has_no_change_point_and_one_wild_night_is_none() -> None:
    false = sum(bool(change_points(_series(0.05, (100, 60), seed=seed))) for seed in range(40))
    assert false <= 1
    wild = _series(0.01, (100, 40))
    wild[20] = 500.0
    assert change_points(wild) == []
    assert change_points([1.0] * 3) == []
    assert change_points([5.0] * 50) == []


def test_statistic_agrees_with_scipy_on_distinct_values() -> None:
    rng = np.random.default_rng(1)
    new, base = rng.normal(0, 1, 9), rng.normal(0, 1, 12)
    expected = stats.mannwhitneyu(new, base, alternative="greater", method="exact").pvalue
    assert p_greater(list(new), list(base)) == pytest.approx(expected)
