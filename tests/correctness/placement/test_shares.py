"""What each rank finds alone, against megatron-core's plan for the whole world."""

from collections import Counter
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings

from fixtures.bounds.cells import Bytes, cells_of
from fixtures.bounds.fabric import PRESETS
from fixtures.cases.errors import CaseError
from fixtures.cases.inventory import KIMI_K2, ModelSpec
from fixtures.cases.scenarios import SCENARIOS, Scenario, find_scenario
from fixtures.megatron_plan.exact_topology import narrow_model, planned_transfers
from fixtures.megatron_plan.rosters import Roster, build_rosters
from fixtures.placement.orders import best_placed
from fixtures.placement.shares import Cut, Shares, planned_bytes, tiles
from fixtures.placement.sources import megatron_sources, traffic_matrix
from tests.correctness.strategies import TINY, scenarios

NARROW = narrow_model()
Found = tuple[int, int, str, tuple[int, int, int] | None, tuple[int, int, int] | None]
"""(source rank, target rank, the weight's name, source and target (dimension, start, length))."""


def megatrons(scenario: Scenario, model: ModelSpec) -> Counter[Found]:
    """Every transfer of megatron-core's repaired plan, from its global schedule."""
    rosters = build_rosters(scenario, model)
    names = [{m.name: str(m.resolved_name) for m in target} for _, target in rosters]
    return Counter(
        (
            op.source_rank,
            op.target_rank,
            names[op.target_rank][op.target_name],
            place(op.source_slice),
            place(op.target_slice),
        )
        for op in planned_transfers(rosters)
    )


def place(slices: tuple[slice, ...]) -> tuple[int, int, int] | None:
    """The one dimension that is not taken whole."""
    cut = [(dim, s.start, s.stop - s.start) for dim, s in enumerate(slices) if s != slice(None)]
    assert len(cut) <= 1
    return cut[0] if cut else None


def alone(
    scenario: Scenario, model: ModelSpec, ranks_per_node: int | None = None
) -> tuple[Counter[Found], Counter[Found]]:
    """The same, of what all ranks send and of what all ranks receive; the other side's slice left out."""
    sent, received = Counter[Found](), Counter[Found]()
    for rank, (source, target) in enumerate(build_rosters(scenario, model)):
        shares = Shares(scenario=scenario, experts=model.experts, rank=rank, ranks_per_node=ranks_per_node)
        for name, cut, expert in weights(source, scenario.source.tp):
            for s in shares.outgoing(cut, expert):
                sent[rank, s.peer, name, (cut.dim, s.start, s.length) if cut else None, None] += 1
        for name, cut, expert in weights(target, scenario.target.tp):
            for s in shares.incoming(cut, expert):
                received[s.peer, rank, name, None, (cut.dim, s.start, s.length) if cut else None] += 1
    return sent, received


def weights(roster: Roster, tp: int) -> Iterator[tuple[str, Cut | None, int | None]]:
    for meta in roster:
        cut = None
        if meta.is_tp:
            cut = Cut(meta.partition_dim, meta.shape[meta.partition_dim] * tp, meta.partition_stride)
        name = str(meta.resolved_name)
        expert = int(name.rpartition("weight")[2]) if ".experts." in name else None
        yield name, cut, expert


def half(found: Counter[Found], side: int) -> Counter[Found]:
    """Without the slice on the other side."""
    halves = Counter[Found]()
    for (source, target, name, a, b), count in found.items():
        halves[source, target, name, a if side == 0 else None, b if side == 1 else None] += count
    return halves


def check(scenario: Scenario, model: ModelSpec) -> None:
    wanted, (sent, received) = megatrons(scenario, model), alone(scenario, model)
    assert received == half(wanted, 1)
    assert sent == half(wanted, 0)


@settings(max_examples=60)
@given(scenarios())
def test_random_layouts_equal_megatrons_plan(scenario: Scenario) -> None:
    check(scenario, TINY)


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda s: s.id)
def test_the_scenarios_equal_megatrons_plan_at_their_exact_size(scenario: Scenario) -> None:
    check(scenario, NARROW)


def test_the_best_order_equals_megatrons_plan() -> None:
    scenario = find_scenario("s6")
    check(best_placed(scenario, NARROW, PRESETS["8xH200"]).scenario, NARROW)


@settings(max_examples=60)
@given(scenarios())
def test_nearest_sources_bring_the_same_elements_from_no_farther(scenario: Scenario) -> None:
    """Both sides agree, every shard is filled as in megatron's plan, and nothing that was at home or on the
    node comes from beyond it."""
    _, usual = alone(scenario, TINY)
    sent, received = alone(scenario, TINY, ranks_per_node=4)
    assert Counter(k[:3] for k in sent.elements()) == Counter(k[:3] for k in received.elements())
    assert Counter((k[1], k[2], k[4]) for k in received) == Counter((k[1], k[2], k[4]) for k in usual)
    assert beyond(received) <= beyond(usual)


def beyond(received: Counter[Found]) -> int:
    """Transfers that come from another node of four ranks."""
    return sum(count for (source, target, *_), count in received.items() if source // 4 != target // 4)


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda s: s.id)
def test_bytes_between_ranks_are_those_of_megatrons_choice(scenario: Scenario) -> None:
    cells = cells_of(NARROW, scenario)
    usual, near = planned_bytes(scenario, NARROW), planned_bytes(scenario, NARROW, 8)
    assert (usual == traffic_matrix(cells, megatron_sources(cells))).all()
    assert (near.sum(axis=0) == usual.sum(axis=0)).all()
    assert over_nics(near) <= over_nics(usual)


def over_nics(matrix: Bytes) -> int:
    node = np.arange(len(matrix)) // 8
    return int(matrix[node[:, None] != node[None]].sum())


def test_the_nearest_sources_of_the_fourth_scenario_share_the_load() -> None:
    """Megatron's busiest rank sends 2 % more than arrives on any; with the nearest sources none does."""
    scenario = find_scenario("s4")
    sent = [planned_bytes(scenario, KIMI_K2, node).sum(axis=1).max() for node in (None, 8)]
    assert sent == [35_217_350_656, 34_552_815_616]


def test_readers_take_turns_where_replicas_are_equally_near() -> None:
    """Sixteen readers of eight replicas of a replicated weight, all on other nodes: two each."""
    scenario = find_scenario("4:2:4:4:non-collocated:gloo")
    read = Counter(
        Shares(scenario=scenario, experts=8, rank=rank, ranks_per_node=4).incoming(None, None)[0].peer
        for rank in range(8, 24)
    )
    assert read == dict.fromkeys(range(8), 2)


def test_a_dimension_that_does_not_divide_is_refused() -> None:
    with pytest.raises(CaseError, match="a dimension of 12 does not divide into 16 equal pieces"):
        tiles(Cut(0, 12, 2), 8, 2, 0)
