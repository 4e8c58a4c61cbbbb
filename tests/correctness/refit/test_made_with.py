"""`--resume` counts a case as done only when it was run as asked."""

from typing import Any

import pytest

from fixtures.cases.twins import Twin
from fixtures.refit.case import RunSettings
from fixtures.refit.facts import made_with

RECORD: dict[str, Any] = {
    "repairs": ["gated-expert-stride"],
    "placement": None,
    "model": "kimi-k2-mini",
    "twin": [4, 4],
    "num_layers": 3,
}


@pytest.mark.parametrize(
    "settings",
    [
        RunSettings(),
        RunSettings(model="kimi-k2-mini", num_layers=3, twin=Twin(a=4, b=4)),
    ],
)
def test_the_same_settings_and_those_left_open_count_as_done(settings: RunSettings) -> None:
    assert made_with(RECORD, settings)


@pytest.mark.parametrize(
    "settings",
    [
        RunSettings(repairs=False),
        RunSettings(placement="best"),
        RunSettings(model="kimi-k2"),
        RunSettings(num_layers=2),
        RunSettings(twin=Twin(a=2, b=2)),
    ],
)
def test_other_settings_run_again(settings: RunSettings) -> None:
    assert not made_with(RECORD, settings)


def test_a_record_that_does_not_tell_its_repairs_counts_as_done() -> None:
    assert made_with({**RECORD, "repairs": None}, RunSettings(repairs=False))


def test_a_placed_case_is_not_the_plain_one() -> None:
    placed = {**RECORD, "placement": [1, 0]}
    assert made_with(placed, RunSettings(placement="best"))
    assert not made_with(placed, RunSettings())
