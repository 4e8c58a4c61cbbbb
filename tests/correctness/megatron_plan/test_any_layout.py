"""megatron-core's plan over random valid layouts, against the suite's counts and a count of elements."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from fixtures.bounds.cells import cells_of
from fixtures.cases.inventory import ITEM_BYTES
from fixtures.cases.layouts import Layout
from fixtures.cases.scenarios import Scenario
from fixtures.cases.shards import shards_of
from fixtures.megatron_plan.exact_topology import _Pieces, planned_transfers, replay
from fixtures.megatron_plan.ops import planned_ops
from fixtures.megatron_plan.rosters import build_rosters
from fixtures.placement.sources import megatron_sources, traffic_matrix
from tests.correctness.strategies import TINY, scenarios


@settings(max_examples=30)
@given(scenarios())
def test_the_repaired_plan_is_exact(scenario: Scenario) -> None:
    outcome = replay(scenario, TINY)
    assert outcome.exact, outcome.first_wrong


@settings(max_examples=30)
@given(scenarios(), st.booleans())
def test_counted_transfers_equal_the_plan(scenario: Scenario, repairs: bool) -> None:
    cells = cells_of(TINY, scenario)
    planned = planned_ops(TINY, cells, repairs=repairs)
    counts = np.zeros((scenario.world_size, scenario.world_size), dtype=np.int64)
    for op in planned_transfers(build_rosters(scenario, TINY, repairs=repairs)):
        counts[op.source_rank, op.target_rank] += 1
    assert (sum(op.counts for op in planned) == counts).all()
    if repairs:
        matrix = traffic_matrix(cells, megatron_sources(cells))
        assert (sum(op.counts * op.bytes for op in planned) == matrix).all()


@settings(max_examples=30)
@given(scenarios(), st.data())
def test_kept_and_moved_bytes_equal_a_count_of_elements(scenario: Scenario, data: st.DataObject) -> None:
    cells = cells_of(TINY, scenario)
    rank = data.draw(st.integers(0, scenario.world_size - 1))
    pieces = _Pieces()
    held = elements(scenario.source, scenario.source_rank(rank), pieces)
    wanted = elements(scenario.target, scenario.target_rank(rank), pieces)
    kept = sum(size for element, size in wanted.items() if element in held)
    assert (sum(held.values()), sum(wanted.values())) == (cells.source_bytes[rank], cells.target_bytes[rank])
    assert (kept, sum(wanted.values()) - kept) == (cells.kept[rank], cells.moved[rank])


def elements(layout: Layout, rank: int | None, pieces: _Pieces) -> dict[int, int]:
    """Every element that a rank holds, by its number in the whole model, with its bytes."""
    held: dict[int, int] = {}
    for shard in shards_of(TINY, layout, rank) if rank is not None else ():
        held |= dict.fromkeys(pieces.of(shard).ravel().tolist(), ITEM_BYTES[shard.param.dtype])
    return held
