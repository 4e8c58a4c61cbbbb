"""megatron-core's real plan at the scenarios' exact layouts, and proofs that a wrong plan is found."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from fixtures.bounds.cells import cells_of
from fixtures.bounds.fabric import PRESETS
from fixtures.cases.inventory import KIMI_K2_MINI
from fixtures.cases.scenarios import SCENARIOS, Scenario, find_scenario
from fixtures.megatron_plan.exact_topology import PlannedCopy, narrow_model, planned_transfers, replay
from fixtures.megatron_plan.ops import planned_ops
from fixtures.megatron_plan.rosters import build_rosters
from fixtures.placement.orders import best_placed
from fixtures.placement.sources import megatron_sources, traffic_matrix

CHANGE_ETP = {"s2", "s4", "s5", "s6", "s7"}
NARROW = narrow_model()


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda s: s.id)
def test_the_repaired_plan_is_exact_at_every_rank(scenario: Scenario) -> None:
    outcome = replay(scenario, NARROW)
    assert outcome.exact, outcome.first_wrong
    assert outcome.elements == cells_elements(scenario)


def cells_elements(scenario: Scenario) -> int:
    """Target elements of all ranks, from bytes: fp32 buffers count twice in bf16's two bytes."""
    buffers = NARROW.experts * (NARROW.num_layers - NARROW.dense_layers) * scenario.target.gpus
    return int(cells_of(NARROW, scenario).target_bytes.sum()) // 2 - buffers


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda s: s.id)
def test_the_plan_as_shipped_scrambles_gate_and_up_wherever_etp_changes(scenario: Scenario) -> None:
    outcome = replay(scenario, NARROW, repairs=False)
    assert outcome.exact == (scenario.key not in CHANGE_ETP)
    assert all(".experts.linear_fc1." in name for name in outcome.params_at_fault)
    assert (outcome.unwritten, outcome.repeated) == (0, 0)


def test_the_plan_is_exact_in_the_best_order() -> None:
    for key in ("s6", "s7"):
        outcome = replay(best_placed(find_scenario(key), NARROW, PRESETS["8xH200"]).scenario, NARROW)
        assert outcome.exact, outcome.first_wrong


def changed(
    index: int, change: Callable[[PlannedCopy], list[PlannedCopy]]
) -> Callable[..., Iterator[PlannedCopy]]:
    """A fault in one transfer of the plan: what it becomes."""

    def fault(transfers: Iterable[PlannedCopy]) -> Iterator[PlannedCopy]:
        for number, op in enumerate(transfers):
            yield from change(op) if number == index else [op]

    return fault


def swapped(transfers: Iterable[PlannedCopy]) -> Iterator[PlannedCopy]:
    """The first two equal-sized slices of one target tensor trade their sources."""
    plan = list(transfers)
    for number, (a, b) in enumerate(pairwise(plan)):
        if (a.target_rank, a.target_name) == (b.target_rank, b.target_name):
            plan[number] = replace(a, target_slice=b.target_slice)
            plan[number + 1] = replace(b, target_slice=a.target_slice)
            return iter(plan)
    raise AssertionError("no two transfers to swap")


def from_wrong_rank(op: PlannedCopy) -> list[PlannedCopy]:
    return [replace(op, source_rank=op.source_rank ^ 1)]


FAULTS = {
    "swapped slice": (swapped, "wrong"),
    "dropped": (changed(7, lambda _op: []), "unwritten"),
    "doubled": (changed(7, lambda op: [op, op]), "repeated"),
    "wrong rank": (changed(0, from_wrong_rank), "wrong"),
}


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("key", ["s4", "s6"])
def test_a_planted_fault_is_found(key: str, fault: str) -> None:
    plant, kind = FAULTS[fault]
    outcome = replay(find_scenario(key), NARROW, fault=plant)
    assert not outcome.exact
    assert getattr(outcome, kind) > 0
    assert outcome.first_wrong.startswith("rank ")
    assert len(outcome.params_at_fault) == 1


@pytest.mark.parametrize("key", ["s1", "s4", "s5", "s6", "s7"])
@pytest.mark.parametrize("repairs", [True, False])
def test_counted_transfers_and_bytes_equal_megatrons_plan(key: str, repairs: bool) -> None:
    scenario = find_scenario(key)
    cells = cells_of(NARROW, scenario)
    counts, moved = plan_matrices(scenario, repairs)
    planned = planned_ops(NARROW, cells, repairs=repairs)
    assert (sum(op.counts for op in planned) == counts).all()
    assert (sum(op.counts * op.bytes for op in planned) == moved).all()
    if repairs:
        assert (traffic_matrix(cells, megatron_sources(cells)) == moved).all()


def plan_matrices(scenario: Scenario, repairs: bool) -> tuple[np.ndarray, np.ndarray]:
    """[source, target] number and bytes of the transfers that megatron-core plans."""
    rosters = build_rosters(scenario, NARROW, repairs=repairs)
    sizes = [{m.name: m for m in target} for _, target in rosters]
    counts = np.zeros((scenario.world_size, scenario.world_size), dtype=np.int64)
    moved = np.zeros_like(counts)
    for op in planned_transfers(rosters):
        meta = sizes[op.target_rank][op.target_name]
        lengths = [len(range(*s.indices(n))) for s, n in zip(op.target_slice, meta.shape, strict=True)]
        counts[op.source_rank, op.target_rank] += 1
        moved[op.source_rank, op.target_rank] += int(np.prod(lengths)) * meta.element_size
    return counts, moved


def test_rosters_equal_what_megatron_extracts_from_real_modules_at_the_exact_size() -> None:
    """In a process of its own: it joins worlds of 96 and 128 ranks, as five of their ranks in turn."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.correctness.megatron_plan.extracted_rosters"],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[3],
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    checked = json.loads(done.stdout.splitlines()[-1])
    assert sorted({key for key, _, _ in checked}) == [scenario.key for scenario in SCENARIOS]
    assert len(checked) >= 30
    assert [case for case in checked if case[2]] == []


def test_a_different_roster_is_told_apart() -> None:
    from tests.correctness.megatron_plan.extracted import differences

    mine = build_rosters(SCENARIOS[5], KIMI_K2_MINI.with_layers(2))[3][0]
    shipped = build_rosters(SCENARIOS[5], KIMI_K2_MINI.with_layers(2), repairs=False)[3][0]
    assert differences(mine, mine) == []
    assert any(
        "partition_stride is 2 here, 1 in megatron-core" in text for text in differences(mine, shipped)
    )
    assert "order differs" in differences(mine, mine[::-1])[0]
    assert "names differ" in differences(mine, mine[1:])[0]
