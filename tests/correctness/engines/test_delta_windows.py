"""Windows in mapped memory: what ranks say where one cannot map another's, with a stub of the driver."""

from types import SimpleNamespace
from typing import Any
from unittest import mock

import numpy as np
import torch
import torch.distributed as dist

from fixtures.engines import delta_windows, mapped
from fixtures.engines.base import EngineError
from fixtures.engines.delta_windows import MappedWindows
from fixtures.engines.kernel import DriverError
from fixtures.engines.lanes import Lanes
from fixtures.engines.peers import ALLOCATION_WIDTH, Mapping
from tests.correctness.engines.gang import run_ranks
from tests.correctness.engines.synthetic import CPU


class Mappings:
    """Stands where IpcMappings maps memory, which rank 1's GPU cannot."""

    def __init__(self, device: torch.device) -> None:
        del device

    def open(self, rows: np.ndarray[Any, Any]) -> Mapping:
        if dist.get_rank() == 1:
            raise DriverError("planted")
        return Mapping(theirs=rows[:, 0], nbytes=rows[:, 1], ours=rows[:, 0])


def one_way() -> str:
    plan: Any = SimpleNamespace(
        rounds=1,
        outgoing=SimpleNamespace(wanted={1 - dist.get_rank(): None}),
        incoming=SimpleNamespace(tiles={}),
    )

    def exported(addresses: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        return np.array([[addresses.min(), 1 << 20, *[0] * (ALLOCATION_WIDTH - 2)]])

    with (
        mock.patch.object(torch.cuda, "synchronize"),
        mock.patch.object(mapped, "IpcMappings", Mappings),
        mock.patch.object(mapped, "exported", exported),
        mock.patch.object(delta_windows, "incoming_windows", return_value={}),
    ):
        try:
            MappedWindows(plan, Lanes(), CPU)
        except EngineError as error:
            return str(error)
    return ""


def test_the_rank_that_cannot_map_says_why_on_every_rank() -> None:
    assert run_ranks(one_way, 2) == ["rank 1: rank 0's memory cannot be mapped: planted"] * 2
