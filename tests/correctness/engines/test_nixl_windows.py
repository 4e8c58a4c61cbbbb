"""The direct engine over NIXL: exact between CPU ranks, with every planted fault found and named."""

import importlib.util
import os
from datetime import timedelta
from typing import Any

import pytest
import torch
import torch.distributed as dist

import fixtures.engines.direct as direct
import fixtures.engines.nixl_windows as nixl_windows
from fixtures.cases.scenarios import Scenario, find_scenario
from fixtures.engines.base import EngineError
from fixtures.engines.direct import DirectEngine
from tests.correctness.engines.gang import run_ranks
from tests.correctness.engines.synthetic import (
    fill,
    mismatches,
    poison,
    refitted,
    refusal,
    synthetic_plan,
    twin_pair,
)
from tests.correctness.patience import PATIENCE_S

NEEDS_NIXL = pytest.mark.skipif(importlib.util.find_spec("nixl") is None, reason="nixl is not installed")
SMALL = 1 << 19
"""Bytes of buffers that make several rounds of a mini twin, so that slots are used again."""


KEPT: list[DirectEngine] = []
"""Engines that are not closed: NIXL must not tear down what a peer may still write to."""


def engine_for(*, forced: bool = True) -> DirectEngine:
    return DirectEngine(method="nixl", peer_mapping=not forced, memory_bytes=SMALL, planner=synthetic_plan)


def prepared() -> tuple[Any, DirectEngine, Any]:
    """A pair with new weights in its source, its engine, and the engine's windows."""
    pair = twin_pair("s7")
    engine = engine_for()
    KEPT.append(engine)
    engine.prepare(pair)
    fill(pair, 1)
    return pair, engine, engine._windows


def refit_thrice(scenario: Scenario, ranks: int) -> dict[str, Any]:
    return refitted(engine_for(), scenario, ranks, times=3)


@NEEDS_NIXL
@pytest.mark.parametrize("key", ["s2", "s6"])
def test_twins_are_exact_over_nixl_alone(key: str) -> None:
    for answer in run_ranks(refit_thrice, 8, find_scenario(key), 8):
        assert answer["wrong"] == [0, 0, 0]
        assert answer["same"]
        assert set(answer["facts"]["paths"].values()) <= {"nixl"}
        assert (answer["facts"]["buffer_bytes"] > 0) == bool(answer["facts"]["paths"])
        assert answer["facts"]["buffer_bytes"] <= SMALL


def on_two_hosts(scenario: Scenario) -> dict[str, Any]:
    """Ranks 0-3 say that they are on one host, 4-7 on another."""
    direct.host_id = lambda: f"host {dist.get_rank() // 4}"  # type: ignore[attr-defined]
    return refitted(engine_for(forced=False), scenario, 8, times=3)


@NEEDS_NIXL
def test_within_a_host_memory_is_mapped_and_nixl_goes_between() -> None:
    answers = run_ranks(on_two_hosts, 8, find_scenario("s6"))
    paths = [answer["facts"]["paths"] for answer in answers]
    assert [answer["wrong"] for answer in answers] == [[0, 0, 0]] * 8
    for rank, by_peer in enumerate(paths):
        assert {p: int(p) // 4 == rank // 4 for p in by_peer} == {
            p: path == "process-vm" for p, path in by_peer.items()
        }
    assert {path for by_peer in paths for path in by_peer.values()} == {"process-vm", "nixl"}


def one_refit(fault: str) -> tuple[int, str]:
    """Wrong elements of a refit of two ranks in which rank 0 has a fault, or what the engine says."""
    if dist.get_rank() == 0 and fault == "off by one":
        shipped = nixl_windows.NixlPeers.writes

        def writes(self: Any, peer: int, ours: list[int], theirs: list[int], nbytes: list[int]) -> Any:
            return shipped(self, peer, [a + 1 for a in ours], theirs, [n - 1 for n in nbytes])

        nixl_windows.NixlPeers.writes = writes  # type: ignore[method-assign]
    pair, engine, windows = prepared()
    windows._patience_s = 5.0
    poison(pair)
    if dist.get_rank() == 0 and fault == "a write is lost":
        windows._peers.post, windows._peers.is_done = (lambda *_: None), (lambda *_: True)
    if dist.get_rank() == 0 and fault == "a notification is lost":
        hear = windows._peers.listen
        windows._peers.listen = lambda: (hear(), windows._peers.heard.clear())
    if dist.get_rank() == 0 and fault == "no wait":
        leave = windows._leave
        windows._hear, windows._leave = (lambda *_: None), (lambda: (dist.barrier(), leave()))
    if dist.get_rank() == 1 and fault == "no wait":
        unpacked = dist.barrier(async_op=True)
        while not unpacked.is_completed():
            windows._peers.listen()
    try:
        engine.refit()
    except EngineError as error:
        return -1, str(error)
    return mismatches(pair, 1), ""


@NEEDS_NIXL
def test_a_descriptor_off_by_one_gives_wrong_weights() -> None:
    (_, _), (wrong, _) = run_ranks(one_refit, 2, "off by one")
    assert wrong > 0


@NEEDS_NIXL
def test_not_waiting_for_notifications_gives_wrong_weights() -> None:
    assert run_ranks(one_refit, 2, "no wait")[0][0] > 0


@NEEDS_NIXL
@pytest.mark.parametrize(
    ("fault", "waiting"), [("a write is lost", 1), ("a notification is lost", 0)], ids=str
)
def test_what_never_comes_ends_in_time_with_the_peers_name(fault: str, waiting: int) -> None:
    answers = run_ranks(one_refit, 2, fault)
    assert answers[waiting] == (-1, f"rank {1 - waiting} has not answered over NIXL for 5 s")


def leaving() -> int:
    """How often rank 0 turns at the end of a refit that rank 1 does not end before it has."""
    _, engine, windows = prepared()
    leave, turn, turns, signal = windows._leave, windows._turn, [0], torch.zeros(1)

    def turned(**how: bool) -> None:
        turn(**how)
        turns[0] += 1
        if turns[0] == 3:
            dist.isend(signal, 1)

    def leave_first() -> None:
        windows._turn = turned
        leave()

    def leave_last() -> None:
        dist.irecv(signal, 0).wait(timedelta(seconds=PATIENCE_S))
        leave()

    windows._leave = leave_last if dist.get_rank() else leave_first
    engine.refit()
    return turns[0]


@NEEDS_NIXL
def test_a_rank_that_has_everything_turns_until_all_have() -> None:
    assert run_ranks(leaving, 2)[0] >= 3


def bereaved() -> None:
    """Rank 1 is gone in the middle of a refit; rank 0's engine must say so."""
    _, engine, windows = prepared()
    engine.refit()
    windows._patience_s = 20.0
    if dist.get_rank() == 1:
        post, left = windows._peers.post, [2]

        def dies(peer: int, write: Any) -> None:
            left[0] -= 1
            if not left[0]:
                os._exit(0)
            post(peer, write)

        windows._peers.post = dies
    engine.refit()


@NEEDS_NIXL
def test_a_peer_that_dies_in_the_middle_is_named() -> None:
    with pytest.raises(AssertionError, match=r"rank 0 failed:[^$]*EngineError: .*rank 1"):
        run_ranks(bereaved, 2)


def unprepared(method: str) -> str:
    nixl_windows.importlib.util.find_spec = lambda _: None
    return refusal(DirectEngine(method=method, peer_mapping=False, planner=synthetic_plan))


def test_no_package_is_one_sentence_on_every_rank() -> None:
    sentence = (
        "rank 0: no direct path to rank 1: peer mapping is off, and NIXL windows need the package nixl "
        "(pip install '.[nixl]')"
    )
    assert run_ranks(unprepared, 2, "nixl") == [sentence, sentence]
