"""The test file of a workload that reads each host's network card around a few warm refits (counted.py)."""

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest
import torch.distributed as dist

from fixtures.engines.base import Engine
from fixtures.plugins.refit import prepared_ms
from fixtures.ranks import agree, all_gather_object_oob
from fixtures.refit.case import RefitCase
from fixtures.refit.case_models import CaseModels
from fixtures.timing.stopwatch import Stopwatch

REFITS = 3
CARD = Path("/sys/class/net/eth0/statistics")


@pytest.mark.distributed
def test_cards(
    world: Any, refit_case: RefitCase, models: CaseModels, engine: Engine, stopwatch: Stopwatch
) -> None:
    """One line by host: its name, bytes out and in of a refit, and ms of a refit."""
    models.renew()
    prepared_ms(engine, models.pair, stopwatch)
    engine.refit()
    dist.barrier()
    before = read_card()
    dist.barrier()
    began = time.perf_counter()
    for _ in range(REFITS):
        engine.refit()
    dist.barrier()
    ms = 1e3 * (time.perf_counter() - began) / REFITS
    moved = [(b - a) / REFITS for a, b in zip(before, read_card(), strict=True)]
    check = models.verify()
    agree(check.ok, str(check))
    ranks = all_gather_object_oob((world.info.host, *moved, ms))
    if world.rank == 0:
        line = {"case": refit_case.id.test_id, "hosts": ranks}
        with Path(os.environ["CARDS"]).open("a") as file:
            file.write(json.dumps(line) + "\n")


def read_card() -> tuple[int, int]:
    """Bytes that the host's card has sent and received."""
    return int((CARD / "tx_bytes").read_text()), int((CARD / "rx_bytes").read_text())
