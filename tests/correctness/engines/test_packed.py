"""The packed engine over gloo: bit-exact on every scenario's twin, in rounds; planted faults are found."""

from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist

from fixtures.cases.scenarios import SCENARIOS, Scenario, find_scenario
from fixtures.engines.base import EngineError
from fixtures.engines.packed import PackedEngine
from fixtures.engines.plan import RankPlan
from fixtures.engines.rounds import plan_rounds
from tests.correctness.engines.gang import run_ranks
from tests.correctness.engines.synthetic import fill, mismatches, poison, refitted, synthetic_plan, twin_pair

MEMORY = 192 * 1024


def refit_twice(scenario: Scenario, ranks: int) -> dict[str, Any]:
    return refitted(PackedEngine(memory_bytes=MEMORY, planner=synthetic_plan), scenario, ranks, times=2)


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda s: s.key)
def test_every_twin_is_exact(scenario: Scenario) -> None:
    for answer in run_ranks(refit_twice, 8, scenario, 8):
        assert answer["wrong"] == [0, 0]
        assert answer["same"]
        assert answer["facts"]["buffer_bytes"] <= MEMORY
        assert answer["facts"]["rounds"] > 3


def test_idle_ranks_and_phases() -> None:
    """A twin of 3 ranks in a world of 4: rank 3 holds nothing and still takes part."""
    answers = run_ranks(refit_twice, 4, find_scenario("s1"), 3)
    assert [a["wrong"] for a in answers] == [[0, 0]] * 4
    for answer in answers[:3]:
        explained = sum(ms for phase, ms in answer["phases"].items() if phase != "total")
        assert 0 < explained <= 1.001 * answer["phases"]["total"]
        assert {e["name"] for e in answer["events"]} & {"pack", "unpack"}
    assert answers[3]["facts"]["paths"] == {}


def two_pairs_and_again() -> list[int]:
    pairs = [twin_pair("s6", 4) for _ in range(2)]
    engines = [PackedEngine(memory_bytes=MEMORY, planner=synthetic_plan) for _ in pairs]
    wrong = []
    for number, (engine, pair) in enumerate(zip(engines, pairs, strict=True)):
        engine.prepare(pair)
        fill(pair, number)
        poison(pair)
    for engine in engines:
        engine.refit()
    wrong += [mismatches(pair, number) for number, pair in enumerate(pairs)]
    engines[0].close()
    engines[0].prepare(pairs[1])
    fill(pairs[1], 5)
    engines[0].refit()
    wrong.append(mismatches(pairs[1], 5))
    for engine in engines:
        engine.close()
    return wrong


def test_two_pairs_at_once_and_prepare_again() -> None:
    assert run_ranks(two_pairs_and_again, 4) == [[0, 0, 0]] * 4


def faulty(fault: str) -> int:
    pair = twin_pair("s6")
    engine = PackedEngine(memory_bytes=MEMORY, planner=synthetic_plan)
    engine.prepare(pair)
    table = engine._ring._unpack
    if fault == "skipped chunk":
        first, end = table.bounds[2], table.bounds[3]
        table.entries._rows[first:end, 3] = 0
    else:
        rows = table.entries._rows
        rows[np.argmax(rows[:, 2]), 5] -= 2
    fill(pair, 1)
    poison(pair)
    engine.refit()
    return mismatches(pair, 1)


@pytest.mark.parametrize("fault", ["skipped chunk", "wrong stride"])
def test_planted_faults_are_found(fault: str) -> None:
    assert min(run_ranks(faulty, 2, fault)) > 0


def swapped_buffers() -> int:
    pair = twin_pair("s6")
    engine = PackedEngine(memory_bytes=MEMORY, planner=synthetic_plan)
    engine.prepare(pair)
    one, two = engine._receive[0], engine._receive[1]
    for operations in engine._batches[0][0], engine._batches[1][0]:
        for operation in operations:
            if operation.op is dist.irecv:
                other = two if operation.tensor.data_ptr() == one.data_ptr() else one
                operation.tensor = other[: operation.tensor.numel()]
    fill(pair, 1)
    poison(pair)
    engine.refit()
    return mismatches(pair, 1)


def test_swapped_buffers_are_found() -> None:
    assert min(run_ranks(swapped_buffers, 2)) > 0


def disagreeing(change: str) -> str:
    pair = twin_pair("s6")

    def planner(pair: Any) -> RankPlan:
        plan = synthetic_plan(pair)
        if dist.get_rank() == 1 and change == "missing":
            plan.sends.pop(next(i for i, t in enumerate(plan.sends) if t.peer == 0))
        if dist.get_rank() == 1 and change == "type":
            first = next(i for i, t in enumerate(plan.sends) if t.peer == 0)
            t = plan.sends[first]
            plan.sends[first] = type(t)(task=t.task, peer=t.peer, view=t.view.view(torch.float16))
        return plan

    try:
        PackedEngine(memory_bytes=MEMORY, planner=planner).prepare(pair)
    except EngineError as error:
        return str(error)
    return ""


@pytest.mark.parametrize(("change", "words"), [("missing", "plans to send"), ("type", "sizes or types")])
def test_ranks_that_disagree_fail_alike(change: str, words: str) -> None:
    answers = run_ranks(disagreeing, 2, change)
    assert answers[0] == answers[1]
    assert words in answers[0]


def test_too_little_memory_is_one_sentence() -> None:
    with pytest.raises(EngineError, match="600 bytes are too few for 6 buffers among 8 peers"):
        plan_rounds(1 << 20, 600, 3, 8)
