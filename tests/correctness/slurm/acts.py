"""The test file of a workload without Megatron, copied to a project of its own (conftest.py).

Each scenario does what the environment says: ACTS="s2=fail@1 s3=sleep@0"; all others run through.
"""

import os
import signal
import time
from typing import Any

import pytest
import torch
import torch.distributed as dist

from fixtures.plugins.options import SETTINGS
from fixtures.ranks import publish_record, stage
from fixtures.refit.case import RefitCase
from fixtures.refit.facts import new_record

ACTS = dict(word.split("=") for word in os.environ.get("ACTS", "").split())


@pytest.mark.distributed
def test_act(world: Any, refit_case: RefitCase, pytestconfig: pytest.Config) -> None:
    """All ranks add up their numbers; before, one may fail, die, end its pytest process, hang or sleep."""
    act, _, rank = ACTS.get(refit_case.full.key, "run@-1").partition("@")
    if world.rank == int(rank):
        perform(act)
    number = torch.tensor([world.rank])
    dist.all_reduce(number)
    assert number.item() == world.size * (world.size - 1) // 2
    record = new_record(refit_case, pytestconfig.stash[SETTINGS])
    if world.rank == 0:
        times = (1.0,) * (record.iterations or 1)
        timed = record.having(cold_ms=1.0, warm_ms=times, samples_ms=(times,) * (record.ranks or 0))
        publish_record(timed.having(elements_verified=1).line())


def perform(act: str) -> None:
    """One rank's misfortune."""
    if act == "fail":
        raise RuntimeError("planted failure")
    if act == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    if act == "kill-task":
        os.kill(os.getppid(), signal.SIGKILL)
    if act == "hang":
        stage("hang")
    if act in ("kill-task", "hang", "sleep"):
        time.sleep(600)
