"""Bytes and floors against the figures that were counted before this code, and against brute force."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fixtures.bounds.cells import cells_of
from fixtures.bounds.fabric import PRESETS, Fabric
from fixtures.bounds.floor import floor, schedule_loads
from fixtures.cases.errors import CaseError
from fixtures.cases.inventory import KIMI_K2, KIMI_K2_MINI, inventory
from fixtures.cases.layouts import Layout
from fixtures.cases.scenarios import SCENARIOS, Scenario, find_scenario
from fixtures.cases.shards import local_bytes
from fixtures.cases.twins import Twin
from fixtures.placement.orders import best_placed, placed
from fixtures.placement.sources import megatron_sources, traffic_matrix
from tests.correctness.strategies import TINY, scenarios, spread_sources
from tests.correctness.traffic import counted

COUNTED = {
    "s1": (68.3, 175, 1365),
    "s2": (68.3, 175, 1365),
    "s3": (66.9, 172, 1339),
    "s4": (34.6, 89, 691),
    "s5": (35.2, 90, 704),
    "s6": (9.3, 24, 185),
    "s7": (8.6, 22, 172),
}
"""GB that must reach the fullest GPU in the best order, floor in ms at 390 GB/s, floor in ms at 50 GB/s."""
TARGET_GB = {"s6": 20.7, "s7": 19.4}


@pytest.mark.parametrize("key", COUNTED)
def test_full_kimi_k2_equals_the_figures_counted_by_hand(key: str) -> None:
    gb, nvlink_ms, nic_ms = COUNTED[key]
    on_nvlink = best_placed(find_scenario(key), KIMI_K2, PRESETS["nvlink4"])
    on_nic = best_placed(find_scenario(key), KIMI_K2, PRESETS["nic400"])
    assert round(on_nvlink.cells.moved.max() / 1e9, 1) == gb
    assert round(on_nvlink.bound.ms) == nvlink_ms
    assert round(on_nic.bound.ms) == nic_ms
    assert round(on_nvlink.cells.target_bytes.max() / 1e9, 1) == TARGET_GB.get(key, gb)


@pytest.mark.parametrize("key", ["s1", "s4", "s6", "s7"])
def test_cells_equal_a_count_of_elements(key: str) -> None:
    scenario = find_scenario(key)
    cells = cells_of(KIMI_K2_MINI, scenario)
    for rank in (0, 1, 9, 63, 64, scenario.world_size - 1):
        assert (cells.target_bytes[rank], cells.kept[rank]) == counted(KIMI_K2_MINI, scenario, rank)


def test_twin_of_scenario_6_moves_what_the_full_scenario_moves_at_best() -> None:
    twin = Twin(a=8, b=8)
    cells = cells_of(twin.model(KIMI_K2), twin.scenario(find_scenario("s6")))
    assert round(cells.target_bytes.max() / 1e9, 1) == 20.4
    assert round(cells.moved.max() / 1e9, 1) == 9.3


def test_binding_resource_is_named() -> None:
    assert floor(cells_of(KIMI_K2, SCENARIOS[0]), PRESETS["8xH100"]).binding.resource == "NIC in"
    assert floor(cells_of(KIMI_K2, SCENARIOS[0]), PRESETS["nvlink4"]).binding.resource == "NVLink in"
    still = replace(SCENARIOS[5], target=SCENARIOS[5].source)
    bound = floor(cells_of(KIMI_K2, still), PRESETS["8xH100"])
    assert bound.binding.resource == "device copy"
    capped = replace(PRESETS["8xH100"], node_nic_gbs=100)
    assert floor(cells_of(KIMI_K2, SCENARIOS[0]), capped).binding.resource == "node NIC in"


def test_an_order_that_keeps_bytes_in_their_node_saves_the_nic() -> None:
    for key in ("s6", "s7"):
        plain = placed(find_scenario(key), KIMI_K2, PRESETS["8xH200"])
        best = best_placed(find_scenario(key), KIMI_K2, PRESETS["8xH200"])
        assert plain.nic_bytes > 0
        assert best.nic_bytes == 0
        assert best.bound.ms < plain.bound.ms / 10
        assert best.tp_group_domains > 1


def test_the_best_order_is_a_permutation_and_never_worse() -> None:
    for scenario in SCENARIOS:
        for fabric in (PRESETS["8xH100"], PRESETS["GB200-NVL72"]):
            best = best_placed(scenario, KIMI_K2_MINI, fabric)
            assert sorted(best.scenario.target_world_ranks()) == sorted(scenario.target_world_ranks())
            assert best.bound.ms <= placed(scenario, KIMI_K2_MINI, fabric).bound.ms + 1e-9


def test_too_small_a_fabric_is_refused() -> None:
    with pytest.raises(CaseError, match="has 2 x 8 GPUs, the scenario needs 96"):
        floor(cells_of(KIMI_K2, SCENARIOS[0]), replace(PRESETS["8xH100"], nodes=2))


def test_a_layout_that_does_not_divide_is_refused() -> None:
    odd = replace(SCENARIOS[0], target=Layout(tp=3, ep=4))
    with pytest.raises(CaseError, match="64 is not divisible by TP 3"):
        cells_of(KIMI_K2, odd)


@st.composite
def fabrics(draw: st.DrawFn) -> Fabric:
    """Small nodes with any rates."""
    rate = st.floats(1, 1000)
    return Fabric(
        name="any", nvlink_gbs=draw(rate), nic_gbs=draw(rate), copy_gbs=draw(rate), gpu_memory_gb=80,
        gpus_per_node=draw(st.integers(1, 5)), nvlink_domain=draw(st.integers(1, 9)),
    )  # fmt: skip


@settings(max_examples=40)
@given(scenarios())
def test_any_layouts_conserve_bytes_and_cover_every_target(scenario: Scenario) -> None:
    cells = cells_of(TINY, scenario)
    assert cells.bytes.sum() == sum(p.bytes for p in inventory(TINY))
    for sources in (megatron_sources(cells), spread_sources(cells, PRESETS["8xH100"])):
        assert ((sources >= 0) == cells.target).all()
        ranks, needed = np.nonzero(sources >= 0)
        assert cells.source[sources[ranks, needed], needed].all(), "a rank was asked for what it lacks"
        matrix = traffic_matrix(cells, sources)
        assert (matrix.sum(axis=0) == cells.target_bytes).all()
    assert set(cells.source_bytes[: scenario.source.gpus]) == {local_bytes(TINY, scenario.source)}
    for rank in range(scenario.world_size):
        assert (cells.target_bytes[rank], cells.kept[rank]) == counted(TINY, scenario, rank)


@settings(max_examples=60)
@given(scenarios(), fabrics(), st.randoms(use_true_random=False))
def test_no_schedule_beats_the_floor(scenario: Scenario, fabric: Fabric, random: object) -> None:
    cells = cells_of(TINY, scenario)
    bound = floor(cells, fabric)
    anywhere = np.full(cells.target.shape, -1, dtype=np.int64)
    for rank, cell in np.argwhere(cells.target):
        anywhere[rank, cell] = random.choice(np.flatnonzero(cells.source[:, cell]).tolist())  # type: ignore[attr-defined]
    for sources in (anywhere, megatron_sources(cells), spread_sources(cells, fabric)):
        loads = schedule_loads(traffic_matrix(cells, sources), fabric)
        assert bound.ms <= max(load.ms for load in loads) * (1 + 1e-9)
    assert bound.relay_ms <= bound.ms * (1 + 1e-9)
