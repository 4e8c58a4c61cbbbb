"""Straggler, system-wide, scattered or even: each planted and told apart."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from fixtures.views.report.spread import rank_spread
from fixtures.views.report.svg import LinearScale, LogScale
from fixtures.views.units import amount, bytes_text, three, time_text
from tests.correctness.made_up_runs import case


def _rows(ranks: int = 8, seed: int = 0) -> np.ndarray:
    return 30 * (1 + 0.005 * np.random.default_rng(seed).standard_normal((ranks, 10)))


def _spread(rows: np.ndarray, **fields: object):  # noqa: ANN202
    return rank_spread(case(ranks=len(rows), samples_ms=rows.tolist(), **fields))


def test_even() -> None:
    found = _spread(_rows())
    assert (found.word, found.straggler) == ("even", None)


def test_a_straggler_is_named_with_its_host() -> None:
    rows = _rows()
    rows[5] *= 1.12
    found = _spread(rows, hosts=[f"node{rank}" for rank in range(8)])
    assert (found.word, found.straggler) == ("straggler", 5)
    assert found.sentence.startswith(
        "Straggler: rank 5 on node5 is slowest in 10 of 10 iterations, 12% above"
    )


def test_system_wide() -> None:
    rows = _rows()
    rows[:, 3] *= 1.4
    found = _spread(rows)
    assert found.word == "system-wide"
    assert "in iteration 3 the ranks rose together, by 40%" in found.sentence


def test_scattered() -> None:
    rows = _rows()
    for rank in range(8):
        rows[rank, rank] *= 1.3
    assert _spread(rows).word == "scattered"


def test_only_ranks_of_one_role_are_compared() -> None:
    """Sources wait less than targets: that is not a straggler."""
    rows = _rows(6)
    rows[:4] *= 0.5
    held = {"in": [0, 0, 0, 0, 9, 9], "kept": [0] * 6}
    assert _spread(rows, bytes=held).word == "even"
    rows[5] *= 1.2
    assert _spread(rows, bytes=held).straggler == 5


def test_nothing_to_compare() -> None:
    assert rank_spread(case(samples_ms=None)) is None
    assert rank_spread(case(samples_ms=[[1.0] * 5] + [[]] * 7)) is None


@given(st.lists(st.floats(1e-3, 1e6), min_size=1), st.data())
def test_log_scale_is_monotonic_and_holds_its_values(values: list[float], data: st.DataObject) -> None:
    scale = LogScale.around(values)
    places = [scale.at(value) for value in sorted(values)]
    assert places == sorted(places)
    assert all(0 <= place <= 100 for place in places)
    assert all(scale.low <= tick <= scale.high for tick in scale.ticks())
    assert 0 < len(scale.ticks()) <= 12


@given(st.lists(st.floats(0, 1e6), max_size=5))
def test_linear_scale_holds_its_values(values: list[float]) -> None:
    scale = LinearScale.around(values)
    assert all(0 <= scale.at(value) <= 100.0001 for value in values)


def test_units() -> None:
    assert [time_text(ms) for ms in (0.4123, 3.14159, 31.25, 312.4, 1649)] == [
        "412 us",
        "3.14 ms",
        "31.2 ms",
        "312 ms",
        "1.65 s",
    ]
    assert [bytes_text(n) for n in (512, 68.3e9, 2.053e12, 999_600)] == [
        "512 B",
        "68.3 GB",
        "2.05 TB",
        "1 MB",
    ]
    assert [three(x) for x in (0, 0.0312, 3.1299, 3120)] == ["0", "0.0312", "3.13", "3120"]
    assert amount(None, "ms") == ""
    assert amount(3, "GB/s") == "3 GB/s"
