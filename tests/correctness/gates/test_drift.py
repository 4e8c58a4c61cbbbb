"""A run whose refits grow slower says so; noise, few refits and small changes say nothing."""

import numpy as np
import pytest

from fixtures.gates.drift import drift


def noisy(level: np.ndarray, seed: int = 1) -> list[float]:
    return list(level * np.random.default_rng(seed).normal(1, 0.01, len(level)))


def test_a_growing_run_is_told() -> None:
    found = drift(noisy(np.linspace(95, 135, 200)))
    assert found == "drift: the last 50 refits took 130 ms where the first 50 took 100"


def test_a_growing_run_is_told_from_twenty_refits_on() -> None:
    assert drift(noisy(np.linspace(95, 135, 20)))
    assert drift(noisy(np.linspace(95, 135, 12))) == ""


@pytest.mark.parametrize("seed", range(20))
def test_a_steady_or_a_faster_run_says_nothing(seed: int) -> None:
    assert drift(noisy(np.full(200, 25.0), seed)) == ""
    assert drift(noisy(np.linspace(30, 25, 200), seed)) == ""


def test_less_than_the_noise_floor_is_no_drift() -> None:
    """2 % is significant over 200 refits, and too little to speak of; so are 0.04 ms of 0.1."""
    assert drift(noisy(np.linspace(100, 102, 200))) == ""
    assert drift(noisy(np.linspace(0.1, 0.14, 200))) == ""


@pytest.mark.parametrize("count", range(8))
def test_too_few_refits_say_nothing(count: int) -> None:
    assert drift([1.0] * (count // 2) + [9.0] * (count - count // 2)) == ""
