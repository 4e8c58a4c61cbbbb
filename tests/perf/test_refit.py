"""The benchmark: every scenario with every engine, bit-exact and timed."""

from typing import Any

import pytest

from fixtures.engines.base import Engine
from fixtures.health.throttle import ThrottleWatch
from fixtures.plugins.refit import prepare_or_skip
from fixtures.ranks import stage
from fixtures.ranks.world import World
from fixtures.refit.case import RunSettings
from fixtures.refit.dossier import Dossier
from fixtures.refit.subject import Subject
from fixtures.refit.tracer import Tracer
from fixtures.timing.benchmarking import report_to_benchmark
from fixtures.timing.memory import MemoryMeter
from fixtures.timing.stopwatch import Stopwatch


@pytest.mark.distributed
def test_refit(
    world: World,
    settings: RunSettings,
    subject: Subject,
    engine: Engine,
    stopwatch: Stopwatch,
    dossier: Dossier,
    tracer: Tracer,
    benchmark: Any,
) -> None:
    """Cold refit and check, timed warm refits, then new weights, poison, one refit and the check again."""
    subject.renew()
    memory = MemoryMeter(world.device)

    stage("cold")
    cold_ms = stopwatch.wall(lambda: (prepare_or_skip(engine, subject.pair), engine.refit()))
    dossier.prepared(engine, cold_ms)
    memory.pause()
    stage("verify")
    dossier.verified(subject.verify(), subject.took_ms)

    stage("warm")
    memory.resume()
    throttle = ThrottleWatch(world.device)
    mine = stopwatch.repeat(
        engine.refit, warmup=settings.warmup, iterations=settings.iterations, after_each=throttle.note
    )
    samples = dossier.timed(mine, engine.profile(), memory.peak_extra(), throttle)
    tracer.save(engine)

    stage("verify")
    subject.renew()
    engine.refit()
    dossier.verified(subject.verify(), subject.took_ms)
    report_to_benchmark(benchmark, samples.slowest, dossier.summary)
