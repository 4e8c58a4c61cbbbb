"""A time against an expected range."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fixtures.cases.limits import judge_range, middle, range_text

times = st.floats(0.001, 1e5, allow_nan=False)


@pytest.mark.parametrize(
    ("ms", "word"),
    [(19.999, "below"), (20.0, "within"), (33.0, "within"), (40.0, "within"), (40.001, "above")],
)
def test_both_ends_belong_to_the_range(ms: float, word: str) -> None:
    assert judge_range(ms, (20, 40)).word == word
    assert judge_range(ms, (20, 40)).reason == ""


@given(times, times, times, times)
def test_a_longer_time_is_never_judged_shorter(a: float, b: float, low: float, width: float) -> None:
    order = ("below", "within", "above").index
    judged = [order(judge_range(ms, (low, low + width)).word) for ms in sorted((a, b))]
    assert judged == sorted(judged)


@pytest.mark.parametrize(
    ("ms", "expected", "obstacle", "reason"),
    [
        (30.0, None, "", "no expected range"),
        (None, (20, 40), "", "nothing was timed"),
        (30.0, (20, 40), "a CPU says nothing", "a CPU says nothing"),
        (30.0, None, "a CPU says nothing", "no expected range"),
    ],
)
def test_what_cannot_be_compared_says_why(
    ms: float | None, expected: tuple[float, float] | None, obstacle: str, reason: str
) -> None:
    verdict = judge_range(ms, expected, obstacle)
    assert verdict.word == "not comparable"
    assert reason in verdict.reason


def test_a_range_has_one_text_and_one_middle() -> None:
    assert (range_text((30, 60)), range_text((0.5, 1.25)), range_text(None)) == ("30-60", "0.5-1.25", "-")
    assert middle((25, 50)) == 37.5
