"""The benchmark: every scenario with every engine, bit-exact and timed."""

from typing import Any

import pytest

from fixtures.engines.base import Engine
from fixtures.health.throttle import ThrottleWatch
from fixtures.plugins.refit import prepared_ms
from fixtures.ranks import stage
from fixtures.ranks.world import World
from fixtures.refit.case import RunSettings
from fixtures.refit.case_models import CaseModels
from fixtures.refit.places import moved
from fixtures.refit.recorder import Recorder
from fixtures.refit.watch import Watch
from fixtures.timing.memory import MemoryMeter
from fixtures.timing.stopwatch import Stopwatch, report_to_benchmark


@pytest.mark.distributed
def test_refit(
    world: World,
    settings: RunSettings,
    models: CaseModels,
    engine: Engine,
    stopwatch: Stopwatch,
    recorder: Recorder,
    benchmark: Any,
) -> None:
    """Cold refit and check, then timed warm refits, each with new weights and checked, then a look inside."""
    models.renew()
    memory = MemoryMeter(world.device)

    stage("cold")
    before = models.places()
    cold_ms = prepared_ms(engine, models.pair, stopwatch) + stopwatch.wall(engine.refit)
    recorder.prepared(engine, cold_ms)
    memory.pause()
    stage("verify")
    recorder.verified(models.verify().but(moved(before, models.places())), models.took_ms)

    stage("warm")
    memory.resume()
    watch, throttle = Watch(models, settings.iterations, settings.between), ThrottleWatch(world.device)
    mine = stopwatch.repeat(
        engine.refit,
        warmup=settings.warmup,
        iterations=settings.iterations,
        around=watch,
        after_each=throttle.note,
    )
    warm_ms = recorder.timed(mine, memory.peak_extra(), throttle)
    recorder.verified(watch.check(), models.took_ms, **watch.facts)

    stage("profile")
    models.renew(poisoned=False)
    stopwatch.together()
    recorder.profiled(engine)
    report_to_benchmark(benchmark, warm_ms, recorder.summary)
