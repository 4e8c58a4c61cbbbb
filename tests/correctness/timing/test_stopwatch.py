"""The stopwatch: what is inside an iteration, and whose time counts."""

import gc
import time

import pytest
import torch
import torch.distributed as dist

from fixtures.ranks import agree, all_gather_object_oob
from fixtures.ranks.world import World
from fixtures.timing.memory import MemoryMeter
from fixtures.timing.stopwatch import Stopwatch


@pytest.mark.distributed
def test_ranks_start_together_and_only_the_operation_is_timed(world: World) -> None:
    """Rank 3 comes late to each iteration: no rank's clock starts before rank 3 is there.

    The monotonic clock is one for all processes of a host.
    """
    stopwatch, clock = Stopwatch(torch.device("cpu")), time.perf_counter
    mine: list[tuple[float, float, float]] = []
    for _ in range(3):
        if world.rank == 3:
            time.sleep(0.1)
        arrived = clock()
        ms = stopwatch.iteration(lambda: (time.sleep(0.02), dist.barrier()))
        started = clock() - ms / 1e3
        mine.append((arrived, started, ms))
    for iteration in zip(*all_gather_object_oob(mine), strict=True):
        assert min(ms for _, _, ms in iteration) >= 20
        last = max(arrived for arrived, _, _ in iteration)
        assert min(started for _, started, _ in iteration) > last - 1e-6


@pytest.mark.distributed
def test_warm_up_iterations_run_but_do_not_count(world: World) -> None:
    calls: list[int] = []
    stopwatch = Stopwatch(world.device)
    samples = stopwatch.repeat(lambda: calls.append(1), warmup=2, iterations=5)
    assert (len(calls), len(samples)) == (7, 5)
    assert stopwatch.wall(lambda: time.sleep(0.01)) >= 10


@pytest.mark.distributed
def test_no_garbage_is_collected_in_the_time_of_an_operation(world: World) -> None:
    """A collection of what the checks leave took 70 ms of a refit's 25 on two H100s."""
    collections: list[str] = []
    gc.callbacks.append(lambda phase, _: collections.append(phase))
    try:
        Stopwatch(world.device).iteration(lambda: [[number] for number in range(100_000)])
        during = len(collections)
        _ = [[number] for number in range(100_000)]
    finally:
        gc.callbacks.pop()
    agree(during == 0 and len(collections) > 0 and gc.isenabled(), f"{during} of {len(collections)}")


class Diary:
    """What happened around, in order, and a clock on which it takes 50 ms each time."""

    def __init__(self) -> None:
        self.lines: list[object] = []
        self.seconds = 0.0

    def before(self, _number: int | None) -> None:
        self.lines.append("before")
        self.seconds += 0.05

    def refit(self) -> None:
        self.lines.append("refit")
        self.seconds += 0.002

    def at_once(self) -> None:
        self.lines.append("at once")
        self.seconds += 0.05

    def after(self, number: int | None) -> None:
        self.lines.append(number)


@pytest.mark.distributed
def test_what_is_around_an_operation_is_outside_of_its_time(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    diary = Diary()
    monkeypatch.setattr("fixtures.timing.stopwatch._now", lambda: diary.seconds)
    samples = Stopwatch(torch.device("cpu")).repeat(diary.refit, warmup=1, iterations=2, around=diary)
    once = ["before", "refit", "at once"]
    agree(diary.lines == [*once, None, *once, 0, *once, 1], str(diary.lines))
    agree(samples == [pytest.approx(2)] * 2, str(samples))


def test_memory_that_is_taken_is_seen() -> None:
    meter = MemoryMeter(torch.device("cpu"))
    held = torch.ones(64 * 2**20, dtype=torch.uint8)
    assert meter.peak_extra() > 32 * 2**20
    assert held.numel()
