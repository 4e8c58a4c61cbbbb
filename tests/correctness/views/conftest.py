"""Two made-up nights that hold everything a page can show."""

from pathlib import Path

import pytest

from fixtures.records.reader import Run, read_run
from tests.correctness.made_up_runs import CALIBRATION, case, environment, skipped, write_run

TIMES = {"s1": 190.0, "s2": 195.0, "s3": 180.0, "s4": 97.0, "s5": 98.0, "s6": 28.0, "s7": 26.0}


def _cases(night: int) -> list[dict]:
    """Seven scenarios with everything a record may hold; one straggler, one failure, one skip."""
    found = []
    for key, ms in TIMES.items():
        times = [ms * (1 + 0.001 * ((i * 7 + night) % 5)) for i in range(5)]
        extra = {
            "verdict": "within" if key in ("s4", "s6", "s7") else "above" if key != "s5" else "below",
            "verdict_reason": None,
            "floor_ms": {"s1": 175.0, "s6": 26.1}.get(key),
            "phases_ms": {"copy": ms * 0.9, "barrier": ms * 0.1},
            "gbps": 300.0,
            "verification": {"tensors": 3614},
        }
        found.append(case(key, times, **extra))
    rows = [[30.0 * (1.2 if rank == 5 else 1.0)] * 5 for rank in range(8)]
    found.append(
        case(
            "s6",
            [36.0] * 5,
            engine="packed",
            transport="nccl",
            samples_ms=rows,
            verdict="within",
            verdict_reason=None,
        )
    )
    found.append(
        case(
            "s2",
            engine="megatron",
            status="failed",
            reason="gate & up <rows> are scrambled",
            verdict=None,
            mismatches=7,
        )
    )
    found.append(skipped("s3", engine="megatron"))
    return found


@pytest.fixture
def runs(tmp_path: Path) -> list[Run]:
    paths = []
    for night in range(2):
        env = environment(f"2030-01-0{night + 1}T02:00:00+00:00")
        path = tmp_path / f"night{night}.jsonl"
        paths.append(
            write_run(path, _cases(night), env={**env, "run": f"night-{night}"}, calibration=CALIBRATION)
        )
    return [read_run(path) for path in paths]
