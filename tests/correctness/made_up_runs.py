"""Result files with made-up numbers, for tests of what reads them."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fixtures.cases.scenarios import SCENARIOS, Scenario
from fixtures.records.record import CaseRecord
from fixtures.records.writer import RunWriter

IDENTITY = {
    "device": "NVIDIA H200",
    "devices_per_host": 8,
    "host_count": 1,
    "nvlink": "NV18",
    "driver": "580.1",
    "cuda": "13.0",
    "nccl": "2.28.9",
    "torch": "2.11.0",
    "megatron_core": "0.19.2",
    "python": "3.12",
    "process_group": "nccl",
    "host_class": "Xeon, 128 cores, 2000 GiB",
    "settings": {},
}
CALIBRATION = {
    "put_gbps": 390.0,
    "nccl_both_ways_gbps": 363.0,
    "device_copy_gbps": 4270.0,
    "on": ["NVIDIA H200"],
}


def environment(started: str = "2030-01-01T00:00:00+00:00", **identity: object) -> dict[str, Any]:
    """An environment line of a made-up machine; `identity` overrides facts."""
    observation = {"started": started, "hosts": ["node01"], "git_commit": "0123456789ab", "load": 0.5}
    return {
        "type": "environment",
        "schema": "2.0",
        "run": "night",
        "identity": {**IDENTITY, **identity},
        "observation": observation,
    }


def scenario_of(key: str) -> Scenario:
    """The scenario with this key."""
    return next(scenario for scenario in SCENARIOS if scenario.key == key)


def case(*args: Any, **fields: Any) -> CaseRecord:
    """A passed case, as `case_line` makes its line."""
    return CaseRecord.of_line(case_line(*args, **fields))


def case_line(
    key: str = "s6",
    warm_ms: Sequence[float] = (30.0, 31.0, 29.0, 30.5, 30.2),
    *,
    engine: str = "direct",
    ranks: int = 8,
    cold_ms: float | None = 1600.0,
    **fields: object,
) -> dict[str, Any]:
    """The line of a passed case; each rank is a little faster than the next."""
    scenario = scenario_of(key)
    rows = [[round(ms * (1 - 0.001 * (ranks - 1 - rank)), 6) for ms in warm_ms] for rank in range(ranks)]
    slowest = [max(column) for column in zip(*rows, strict=True)]
    line = {
        "type": "case",
        "schema": "2.0",
        "scenario": scenario.id,
        "placement": "megatron",
        "twin": [4, 4],
        "model": "kimi-k2",
        "num_layers": 61,
        "engine": engine,
        "method": "nvshmem" if engine != "megatron" else scenario.method,
        "options": {},
        "transport": "nvshmem" if engine != "megatron" else scenario.method,
        "ranks": ranks,
        "status": "passed",
        "reason": None,
        "cold_ms": cold_ms,
        "warm_ms": slowest,
        "samples_ms": rows,
        "floor_ms": 26.1,
        "dst_bytes": 20_400_000_000,
        "moved_bytes": 10_200_000_000,
        "elements_verified": 80_000_000_000,
        "mismatches": 0,
        "expected_ms": list(scenario.expected.get("kimi-k2", (1, 2))),
        "source": {"tp": scenario.source.tp, "ep": scenario.source.ep},
        "target": {"tp": scenario.target.tp, "ep": scenario.target.ep},
        "mode": scenario.mode,
        "scenario_method": scenario.method,
        "purpose": scenario.purpose,
        "peak_extra_bytes": 2_600_000_000,
        "verdict": "not comparable",
        "verdict_reason": "a made-up number says nothing about a GPU",
    }
    return {**line, **fields}


def skipped(
    key: str = "s1", engine: str = "direct", reason: str = "needs 3 GPUs, has 2", **fields: object
) -> CaseRecord:
    """A case that was not run."""
    empty = dict.fromkeys(
        ("floor_ms", "cold_ms", "dst_bytes", "moved_bytes", "peak_extra_bytes", "samples_ms")
    )
    none = {"elements_verified": 0, "mismatches": 0, "warm_ms": [], "verdict_reason": "nothing was timed"}
    return case(key, engine=engine, **{**empty, **none, "status": "skipped", "reason": reason, **fields})


def write_run(
    path: Path,
    cases: Iterable[CaseRecord],
    *,
    env: dict | None = None,
    calibration: dict | None = None,
    end: bool = True,
) -> Path:
    """Write a result file through the real writer and return its path."""
    with RunWriter(path, env or environment()) as writer:
        if calibration is not None:
            writer.calibration(calibration)
        for line in cases:
            writer.case(line)
        if end:
            writer.end("completed", 0)
    assert not writer.messages, writer.messages
    assert not writer.faults, writer.faults
    return writer.path


def noisy_nights(
    medians: Iterable[float], folder: Path, key: str = "s6", engine: str = "direct", seed: int = 0
) -> list[Path]:
    """One result file per median, a night apart, with five iterations scattered by 1 % around it."""
    rng = np.random.default_rng(seed)
    paths = []
    for night, value in enumerate(medians):
        warm = [float(value * (1 + 0.01 * x)) for x in rng.standard_normal(5)]
        day = f"2030-{1 + night // 28:02d}-{1 + night % 28:02d}T02:00:00+00:00"
        paths.append(
            write_run(
                folder / f"night{night:03d}.jsonl", [case(key, warm, engine=engine)], env=environment(day)
            )
        )
    return paths
