"""megatron-core's plan over random valid layouts, against the suite's counts."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from fixtures.bounds.cells import cells_of
from fixtures.cases.scenarios import Scenario
from fixtures.megatron_plan.exact_topology import planned_transfers, replay
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
