"""megatron-core's method nixl between CPU ranks: right with its two repairs, and its defects without."""

import importlib.util
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch

from fixtures.engines.megatron import MegatronEngine
from fixtures.engines.repairs import apply_repairs, keep_receive_buffers, register_once
from fixtures.ranks.world import World
from tests.correctness.cli.inner_runs import ROOT
from tests.correctness.small_pairs import (
    agree_on,
    everyones,
    mended,
    refit_and_verify,
    small_case,
    small_pair,
)

NEEDS_NIXL = pytest.mark.skipif(importlib.util.find_spec("nixl") is None, reason="nixl is not installed")


@contextmanager
def as_shipped(*repairs: Any) -> Iterator[None]:
    """The copy service with these repairs only, whatever earlier tests have repaired in this process."""
    undo = [repair() for repair in (keep_receive_buffers, register_once)]
    for mend in undo:
        mend()
    undo = [repair() for repair in repairs]
    yield
    for mend in undo:
        mend()


@NEEDS_NIXL
@pytest.mark.distributed
@pytest.mark.parametrize("key", ["s2", "s6"])
def test_repaired_it_is_exact_refit_after_refit(key: str, world: World) -> None:
    """s2: a tensor for several ranks, and pieces that are staged; s6: copies within ranks too."""
    scenario, spec = small_case(key, world.size)
    engine = MegatronEngine("nixl")
    with small_pair(scenario, spec, world) as pair:
        apply_repairs(pair)
        engine.prepare(pair)
        checks = [refit_and_verify(pair, engine, world.rank, generation=g) for g in (1, 2, 3)]
        facts = (engine.transport, engine.describe())
        agree_on([str(check) for check in checks if not check.ok])  # all stay until then: nixl-leaves-early
        engine.close()
    assert facts == ("nixl", {"service": "NixlCopyService"})


@NEEDS_NIXL
@pytest.mark.distributed
@pytest.mark.defect("nixl-receive-buffers")
def test_the_second_refit_fails_where_pieces_are_staged(world: World) -> None:
    scenario, spec = small_case("s6", world.size)
    engine, said, received = MegatronEngine("nixl"), "", []
    with as_shipped(register_once), small_pair(scenario, spec, world) as pair:
        engine.prepare(pair)
        submit = engine._service.submit_recv

        def keeping(tensor: torch.Tensor, *place: int, **task: int) -> None:
            received.append(tensor)  # what is alive cannot be the next refit's memory
            submit(tensor, *place, **task)

        engine._service.submit_recv = keeping
        engine.refit()
        try:
            engine.refit()
        except RuntimeError as error:
            said = str(error)
        everyone = everyones([said])
        engine.close()
    assert all("recv tensor addresses changed after setup" in text for text in everyone), mended(
        "nixl-receive-buffers"
    )


TWICE = """
import torch
from megatron.core.resharding.copy_services.nixl_copy_service import NixlCopyService
from nixl._api import nixl_agent, nixl_agent_config
from fixtures.engines.repairs import register_once
{repair}
service = object.__new__(NixlCopyService)
service.agent, service._reg = nixl_agent("alone", nixl_agent_config(backends=["UCX"])), {{}}
sent = [torch.zeros(1000) for _ in range(20)]
for _ in range(20):
    service._register("send", sent * 2)
    service._register("send", [])
"""


@NEEDS_NIXL
@pytest.mark.parametrize("repair", ["", "register_once()"])
@pytest.mark.defect("nixl-registered-twice")
def test_deregistering_what_goes_to_two_ranks_ends_the_process(repair: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", TWICE.format(repair=repair)], cwd=ROOT, capture_output=True, check=False
    )
    if repair:
        assert done.returncode == 0, done.stderr.decode()
    else:
        assert done.returncode == -signal.SIGSEGV, mended("nixl-registered-twice")
