"""The cold time: what an engine's preparation takes, and nothing of what the ranks tell each other."""

from typing import Any

import pytest
import torch

from fixtures.engines.base import EngineError
from fixtures.plugins.refit import prepared_ms
from fixtures.timing.stopwatch import Stopwatch


class Preparing:
    """An engine that takes a quarter of a second of the test's clock to prepare, or cannot."""

    def __init__(self, problem: str = "") -> None:
        self.problem, self.seconds = problem, 0.0

    def prepare(self, _pair: Any) -> None:
        self.seconds += 0.25
        if self.problem:
            raise EngineError(self.problem)

    def exchange(self, mine: list[str]) -> list[list[str]]:
        """Between ranks, which takes long."""
        self.seconds += 10
        return [[], mine]


def cold_ms(engine: Any, monkeypatch: pytest.MonkeyPatch) -> float:
    monkeypatch.setattr("fixtures.timing.stopwatch._now", lambda: engine.seconds)
    monkeypatch.setattr("torch.distributed.barrier", lambda: None)
    monkeypatch.setattr("fixtures.plugins.refit.all_gather_object_oob", engine.exchange)
    return prepared_ms(engine, object(), Stopwatch(torch.device("cpu")))  # type: ignore[arg-type]


def test_what_the_ranks_tell_each_other_is_outside_of_the_cold_time(monkeypatch: pytest.MonkeyPatch) -> None:
    assert cold_ms(Preparing(), monkeypatch) == pytest.approx(250)


def test_an_engine_that_cannot_prepare_on_one_rank_is_skipped_on_all(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(pytest.skip.Exception, match="no window"):
        cold_ms(Preparing("no window"), monkeypatch)
