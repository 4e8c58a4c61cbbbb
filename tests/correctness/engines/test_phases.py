"""Exclusive phase times, traces, rounds and calibration figures: arithmetic without ranks."""

import gc
import json
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fixtures.engines.calibration import figures, joined
from fixtures.engines.lanes import Interval
from fixtures.engines.packed import PackedEngine
from fixtures.engines.plan import ALIGNMENT
from fixtures.engines.profiled import exclusive_times, trace_events
from fixtures.engines.registry import ENGINES
from fixtures.engines.rounds import plan_rounds

PHASES = ENGINES["direct"].phases


def span(phase: str, begin: float, end: float) -> Interval:
    return Interval(phase=phase, lane=phase, begin=begin, end=end)


def test_no_garbage_is_collected_while_an_engine_prepares() -> None:
    """A plan of tens of thousands of transfers takes almost twice as long with the collector on."""
    engine = PackedEngine()
    with engine.cold("plan"):
        assert not gc.isenabled()
    assert gc.isenabled()
    assert list(engine._cold) == ["plan"]


def test_overlap_counts_once_for_the_wire() -> None:
    spans = [span("local", 0, 10), span("pack", 0, 2), span("wire", 1, 6), span("unpack", 5, 8)]
    times = exclusive_times(spans, PHASES)
    assert times == {"wire": 5, "unpack": 2, "pack": 1, "local": 2, "wait": 0}
    assert sum(times.values()) == 10


def test_idle_time_is_nobodys() -> None:
    assert sum(exclusive_times([span("pack", 0, 1), span("wire", 3, 4)], PHASES).values()) == 2
    assert sum(exclusive_times([], PHASES).values()) == 0


@given(st.lists(st.tuples(st.sampled_from(["wire", "pack", "local"]), st.integers(0, 50), st.integers(1, 9))))
def test_exclusive_times_are_the_covered_time(raw: list[tuple[str, int, int]]) -> None:
    covered = {t for _, begin, length in raw for t in range(begin, begin + length)}
    times = exclusive_times([span(phase, begin, begin + length) for phase, begin, length in raw], PHASES)
    assert sum(times.values()) == len(covered)


def test_trace_is_chromes() -> None:
    events = json.loads(
        json.dumps(trace_events([span("wire", 1.5, 2.0), span("pack", 0.0, 1.0)], 3, "packed"))
    )
    wire = next(e for e in events if e["ph"] == "X" and e["name"] == "wire")
    assert (wire["ts"], wire["dur"], wire["pid"]) == (1500.0, 500.0, 3)
    assert {e["args"]["name"] for e in events if e["ph"] == "M"} == {"rank 3 packed", "pack", "wire"}


@given(
    most=st.integers(0, 40_000_000_000),
    memory=st.integers(1 << 20, 3_000_000_000),
    slots=st.integers(1, 5),
    peers=st.integers(1, 128),
    shares=st.lists(st.floats(0.01, 1), min_size=1, max_size=6),
)
def test_rounds_cover_streams_within_memory(
    most: int, memory: int, slots: int, peers: int, shares: list[float]
) -> None:
    if memory // (2 * slots) <= 2 * ALIGNMENT * peers + ALIGNMENT:
        return
    rounds = plan_rounds(most, memory, slots, peers)
    streams = [int(most * share / sum(shares)) for share in shares[:peers]]
    cuts = [rounds.cuts(nbytes) for nbytes in streams]
    for nbytes, cut in zip(streams, cuts, strict=True):
        assert cut[0] == 0
        assert cut[-1] == nbytes
        assert all(a <= b for a, b in pairwise(cut.tolist()))
        assert not (cut[1:-1] % ALIGNMENT).any()
    places = sum(-(-int(np.diff(cut).max()) // ALIGNMENT) * ALIGNMENT for cut in cuts)
    assert 2 * rounds.slots * places <= memory


def test_calibration_figures() -> None:
    rates = figures({"kernel_put": [10.0, 20.0, 10.0], "copy_engine": [5.0] * 3, "device_copy": [1.0]}, 10**9)
    assert rates["kernel_put_gbps"] == pytest.approx(100)
    assert rates["put_gbps"] == rates["copy_engine_gbps"] == pytest.approx(200)
    assert rates["device_copy_gbps"] == pytest.approx(2000)
    assert "put_gbps" not in figures({"device_copy": [1.0]}, 10**9)


def test_the_delta_kernels_figures_stand_beside_the_links() -> None:
    links = figures({"device_copy": [1.0]}, 10**9)
    deltas = figures({"delta_read": [2.0], "delta_scan": [1.0]}, 10**9)
    rates = joined(links, deltas, 0.01)
    assert rates["device_copy_gbps"] == pytest.approx(2000)
    assert rates["delta_read_gbps"] == rates["delta_scan_gbps"] == pytest.approx(1000)
    assert "put_gbps" not in rates
    assert set(rates["samples"]) == {"device_copy", "delta_read", "delta_scan"}
    assert "0.01 of the elements changed" in rates["method"]
