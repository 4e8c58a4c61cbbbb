"""Shards cover every element exactly as often as a layout replicates it."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fixtures.cases.inventory import KIMI_K2, KIMI_K2_MINI, ModelSpec, ParamSpec, inventory
from fixtures.cases.layouts import Layout
from fixtures.cases.scenarios import SCENARIOS
from fixtures.cases.shards import Shard, shard_of, shards_of
from fixtures.cases.twins import largest_twin

EXPERTS = 12


def indices(shard: Shard) -> list[np.ndarray]:
    """Global indices of each dimension in local order."""
    return [np.concatenate([np.arange(s.start, s.start + s.length) for s in dim]) for dim in shard.spans]


def replicas(param: ParamSpec, layout: Layout) -> int:
    """How many ranks hold each element."""
    return (layout.tp if param.cut_dim is None else 1) * (layout.ep if param.expert is None else 1)


@st.composite
def cuts(draw: st.DrawFn) -> tuple[ParamSpec, Layout]:
    """Some parameter of one or two dimensions, and a layout that divides it."""
    layout = Layout(tp=draw(st.integers(1, 6)), ep=draw(st.sampled_from((1, 2, 3, 4, 6))))
    dims = draw(st.integers(1, 2))
    cut_dim = draw(st.sampled_from((None, *range(dims))))
    blocks = draw(st.integers(1, 3)) if cut_dim is not None else 1
    shape = [draw(st.integers(1, 5)) for _ in range(dims)]
    if cut_dim is not None:
        shape[cut_dim] *= blocks * layout.tp
    expert = draw(st.sampled_from((None, 0, 5, EXPERTS - 1)))
    param = ParamSpec(name="w", shape=tuple(shape), cut_dim=cut_dim, blocks=blocks, expert=expert)
    return param, layout


@given(cuts())
def test_every_element_is_held_as_often_as_the_layout_says(cut: tuple[ParamSpec, Layout]) -> None:
    param, layout = cut
    holders = np.zeros(param.shape, dtype=int)
    for rank in range(layout.gpus):
        shard = shard_of(param, layout, rank, EXPERTS)
        if shard is not None:
            holders[np.ix_(*indices(shard))] += 1
            assert shard.shape == tuple(len(i) for i in indices(shard))
            assert shard.elements == math.prod(shard.shape)
    assert (holders == replicas(param, layout)).all()


@given(cuts())
def test_local_pieces_put_back_together_are_the_whole(cut: tuple[ParamSpec, Layout]) -> None:
    param, layout = cut
    whole = np.arange(param.elements).reshape(param.shape)
    rebuilt = np.full(param.shape, -1)
    for rank in range(layout.gpus):
        shard = shard_of(param, layout, rank, EXPERTS)
        if shard is not None:
            where = np.ix_(*indices(shard))
            rebuilt[where] = whole[where].copy()
    assert (rebuilt == whole).all()


@given(cuts())
def test_each_stacked_block_is_cut_by_itself(cut: tuple[ParamSpec, Layout]) -> None:
    """Gate and up: the rank's piece of the first half, then its piece of the second."""
    param, layout = cut
    if param.cut_dim is None:
        return
    block = param.shape[param.cut_dim] // param.blocks
    piece = block // layout.tp
    for rank in range(layout.gpus):
        shard = shard_of(param, layout, rank, EXPERTS)
        if shard is None:
            continue
        first = layout.tp_rank(rank) * piece
        rows = [b * block + first + i for b in range(param.blocks) for i in range(piece)]
        assert indices(shard)[param.cut_dim].tolist() == rows


@given(st.sampled_from((1, 2, 3, 4, 6, 12)), st.integers(0, EXPERTS - 1))
def test_experts_are_dealt_in_contiguous_blocks(ep: int, expert: int) -> None:
    param = ParamSpec(name="w", shape=(2,), expert=expert)
    layout = Layout(tp=1, ep=ep)
    owners = [rank for rank in range(ep) if shard_of(param, layout, rank, EXPERTS)]
    assert owners == [expert * ep // EXPERTS]


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda s: s.key)
@pytest.mark.parametrize("model", [KIMI_K2_MINI, KIMI_K2.with_layers(2)], ids=lambda m: m.name)
def test_a_models_ranks_hold_it_whole(scenario: object, model: ModelSpec) -> None:
    twin = largest_twin(scenario, model, 8)  # type: ignore[arg-type]
    assert twin is not None
    small, cut = twin.model(model), twin.scenario(scenario)  # type: ignore[arg-type]
    for layout in (cut.source, cut.target):
        held = sum(s.elements for rank in range(layout.gpus) for s in shards_of(small, layout, rank))
        assert held == sum(p.elements * replicas(p, layout) for p in inventory(small))
