"""Bytes that a refit must bring, against a count of single elements."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fixtures.cases.inventory import ITEM_BYTES, KIMI_K2_MINI, ModelSpec, inventory
from fixtures.cases.layouts import Layout
from fixtures.cases.scenarios import SCENARIOS, Scenario
from fixtures.cases.shards import Shard, local_bytes, shard_of
from fixtures.cases.twins import largest_twin
from tests.correctness.traffic import received

TINY = replace(
    KIMI_K2_MINI, num_layers=2, hidden=4, heads=12, q_lora=3, kv_lora=2, qk_nope=1, qk_rope=1, v_head=1,
    ffn=12, moe_ffn=12, shared_ffn=12, experts=12, topk=2, vocab=24,
)  # fmt: skip


def held(shard: Shard | None, shape: tuple[int, ...]) -> np.ndarray:
    """True where a rank holds an element of the uncut tensor."""
    mask = np.zeros(shape, dtype=bool)
    if shard is not None:
        rows = [np.concatenate([np.arange(s.start, s.start + s.length) for s in d]) for d in shard.spans]
        mask[np.ix_(*rows)] = True
    return mask


def count_by_element(model: ModelSpec, scenario: Scenario, world_rank: int) -> tuple[int, int]:
    """Bytes wanted, and bytes of them that lie on this rank already, element by element."""
    total = kept = 0
    target, source = scenario.target_rank(world_rank), scenario.source_rank(world_rank)
    for param in inventory(model) if target is not None else ():
        wanted = held(shard_of(param, scenario.target, target or 0, model.experts), param.shape)
        have = None if source is None else shard_of(param, scenario.source, source, model.experts)
        total += int(wanted.sum()) * ITEM_BYTES[param.dtype]
        kept += int((wanted & held(have, param.shape)).sum()) * ITEM_BYTES[param.dtype]
    return total, kept


layouts = st.builds(Layout, tp=st.sampled_from((1, 2, 3, 4)), ep=st.sampled_from((1, 2, 3)))


@settings(max_examples=25)
@given(layouts, layouts)
def test_non_collocated_bytes_by_element(source: Layout, target: Layout) -> None:
    scenario = replace(SCENARIOS[0], source=source, target=target)
    for rank in {0, scenario.target_offset, scenario.world_size - 1, scenario.world_size}:
        counted = received(TINY, scenario, rank)
        assert (counted.total, counted.kept) == count_by_element(TINY, scenario, rank)
        assert counted.kept == 0


@settings(max_examples=25)
@given(st.sampled_from((1, 2, 3, 4, 6)), st.sampled_from((1, 2, 3, 4, 6)), st.permutations(range(12)))
def test_collocated_bytes_by_element(source_tp: int, target_tp: int, order: list[int]) -> None:
    source, target = Layout(tp=source_tp, ep=12 // source_tp), Layout(tp=target_tp, ep=12 // target_tp)
    scenario = replace(SCENARIOS[5], source=source, target=target, placement=tuple(order))
    for rank in (0, 5, 11):
        counted = received(TINY, scenario, rank)
        assert (counted.total, counted.kept) == count_by_element(TINY, scenario, rank)
        assert counted.moved == counted.total - counted.kept


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda s: s.key)
def test_every_target_rank_gets_its_whole_shard(scenario: Scenario) -> None:
    twin = largest_twin(scenario, KIMI_K2_MINI, 8)
    assert twin is not None
    model, small = twin.model(KIMI_K2_MINI), twin.scenario(scenario)
    for rank in range(small.world_size):
        counted = received(model, small, rank)
        target = small.target_rank(rank)
        assert counted.total == (0 if target is None else local_bytes(model, small.target, target))
        assert (counted.total, counted.kept) == count_by_element(model, small, rank)


def test_nothing_moves_between_equal_layouts_of_one_placement() -> None:
    layout = Layout(tp=4, ep=3)
    scenario = replace(SCENARIOS[5], source=layout, target=layout)
    assert {received(TINY, scenario, rank).moved for rank in range(layout.gpus)} == {0}
