"""The direct engine between CPU processes: one-sided, bit-exact on every scenario's twin."""

from typing import Any

import numpy as np
import pytest
import torch.distributed as dist

import fixtures.engines.mapped as mapped
from fixtures.cases.scenarios import SCENARIOS, Scenario, find_scenario
from fixtures.engines.copies import CopyTable
from fixtures.engines.direct import DirectEngine
from fixtures.engines.mapped import interleaved
from fixtures.engines.peers import ProcessTable
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


def refit_thrice(scenario: Scenario, ranks: int, direction: Any) -> dict[str, Any]:
    return refitted(DirectEngine(direction=direction, planner=synthetic_plan), scenario, ranks, times=3)


@pytest.mark.parametrize("direction", ["push", "pull"])
@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda s: s.key)
def test_every_twin_is_exact(scenario: Scenario, direction: str) -> None:
    for answer in run_ranks(refit_thrice, 8, scenario, 8, direction):
        assert answer["wrong"] == [0, 0, 0]
        assert answer["same"]
        assert answer["facts"]["direction"] == direction
        assert answer["facts"]["buffer_bytes"] == 0


def test_idle_ranks() -> None:
    answers = run_ranks(refit_thrice, 4, find_scenario("s1"), 3, "push")
    assert [a["wrong"] for a in answers] == [[0, 0, 0]] * 4
    assert set(answers[0]["facts"]["paths"].values()) == {"process-vm"}
    assert answers[3]["facts"]["paths"] == {}
    assert answers[0]["phases"]["wire"] > 0


def without(fault: str) -> int:
    pair = twin_pair("s7")
    engine = DirectEngine(planner=synthetic_plan)
    engine.prepare(pair)
    table: ProcessTable = engine._mapped._tables[0]
    middle = len(table._src) // 2
    if fault == "skipped":
        table._src, table._dst = table._src[:middle], table._dst[:middle]
    else:
        table._dst[[middle, middle + 1], 0] = table._dst[[middle + 1, middle], 0]
    fill(pair, 1)
    poison(pair)
    engine.refit()
    return mismatches(pair, 1)


@pytest.mark.parametrize("fault", ["skipped", "swapped"])
def test_planted_faults_are_found(fault: str) -> None:
    assert min(run_ranks(without, 2, fault)) > 0


def many_refits() -> tuple[int, int]:
    import psutil

    pair = twin_pair("s6")
    engine = DirectEngine(planner=synthetic_plan)
    engine.prepare(pair)
    wrong, sizes = 0, []
    for generation in range(50):
        fill(pair, generation)
        engine.refit()
        wrong += mismatches(pair, generation)
        sizes.append(psutil.Process().memory_info().rss)
    return wrong, sizes[-1] - sizes[9]


def test_fifty_refits_do_not_grow() -> None:
    for wrong, growth in run_ranks(many_refits, 2):
        assert wrong == 0
        assert growth < 8 << 20


def test_peers_are_interleaved() -> None:
    """A short table's pieces are spread over a long one's."""

    def table(first: int, count: int) -> CopyTable:
        rows = np.zeros((count, 6), dtype=np.int64)
        rows[:, 0] = first + 200_000 * np.arange(count)
        rows[:, 1], rows[:, 2], rows[:, 3:] = rows[:, 0], 1, 65536
        return CopyTable.from_rows(rows)

    order = interleaved([table(0, 9), table(10**9, 3)]).src
    assert np.flatnonzero(order >= 10**9).tolist() == [2, 6, 10] or len(np.flatnonzero(order >= 10**9)) == 3
    assert order[0] < 10**9 <= order[2]


def unmapped() -> str:
    return refusal(DirectEngine(peer_mapping=False, planner=synthetic_plan))


def test_no_path_is_one_sentence_on_every_rank() -> None:
    sentence = (
        "rank 0: no direct path to rank 1: peer mapping is off, and NVSHMEM windows need GPUs, not a CPU "
        "(--method nixl needs none)"
    )
    assert run_ranks(unmapped, 2) == [sentence, sentence]


def unreadable() -> str:
    """Rank 0 asks for an address that nobody may read."""
    readable = mapped.reading_obstacle
    if dist.get_rank() == 0:
        mapped.reading_obstacle = lambda pid, _address: readable(pid, 8)
    return refusal(DirectEngine(planner=synthetic_plan))


def test_unreadable_memory_is_one_sentence_on_every_rank() -> None:
    answers = run_ranks(unreadable, 2)
    assert answers[0] == answers[1]
    assert "rank 0: the system does not let one rank read another's memory (Bad address)" in answers[0]
