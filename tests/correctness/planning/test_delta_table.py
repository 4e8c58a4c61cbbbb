"""Bounds of delta refits: the encoding's size is the codec's, and every stage is the resource it names."""

import io
import json

import numpy as np
import pytest
from rich.console import Console

from fixtures.bounds.delta import (
    MEASURED,
    DeltaRates,
    delta_bound,
    encoded_share,
    rates_at,
)
from fixtures.bounds.fabric import PRESETS
from fixtures.bounds.floor import Bound, Load, wire_ms
from fixtures.cases.inventory import find_model
from fixtures.cases.scenarios import find_scenario
from fixtures.documents.tables import deltas
from fixtures.engines.delta_codec import Shape, encode
from fixtures.planning.delta_table import bound_of, holds_up_to, print_deltas
from fixtures.planning.summary import ScenarioPlan, plan_scenario
from fixtures.views.units import share_text
from tools.__main__ import main as run

H100 = PRESETS["8xH100"]


@pytest.fixture(scope="module")
def plan() -> ScenarioPlan:
    return plan_scenario(find_scenario("s1"), find_model("kimi-k2"), H100)


@pytest.mark.parametrize("share", [0.0003, 0.01, 0.03, 0.1, 0.33, 0.6, 1])
def test_the_encoded_size_is_the_codecs(share: float) -> None:
    rng = np.random.default_rng(3)
    shape = Shape(words=np.full(64, 16384))
    old = rng.integers(0, 1 << 16, int(shape.words.sum()), dtype=np.uint16)
    which = rng.random(len(old)) < share
    new = np.where(which, old ^ rng.integers(1, 1 << 16, len(old), dtype=np.uint16), old)
    encoded = encode(new, old, shape)
    padded = (-(-encoded.lengths // 16) * 16).sum() + 8 * len(encoded.lengths)
    assert encoded_share(share) == pytest.approx(padded / new.nbytes, rel=0.03)


def one_link(ms: float) -> Bound:
    loads = (
        Load(resource="NIC in", place="rank 1", ms=ms, bytes=0),
        Load(resource="device copy", place="rank 1", ms=1e6, bytes=0),
    )
    return Bound(loads=loads, relay_ms=ms)


def test_stages_are_scaled_to_the_fabric_and_one_gpus_add_up() -> None:
    gb = 10**9
    matrix = np.array([[2 * gb, 3 * gb], [0, 0]])
    rates = rates_at(0.01, H100.copy_gbs)
    bound = delta_bound(wire_ms(one_link(100).loads), matrix, np.array([4 * gb, 0]), rates, 0.01)
    ((scan, apply),) = [
        (scan * 3001 / H100.copy_gbs, apply * 3001 / H100.copy_gbs)
        for share, scan, apply in MEASURED[3001]
        if share == 0.01
    ]
    assert bound.scan_ms == pytest.approx(3 * scan)
    assert bound.apply_ms == pytest.approx(3 * apply)
    assert bound.wire_ms == pytest.approx(100 * encoded_share(0.01))
    assert bound.device_ms == pytest.approx(3 * scan + 4 / H100.copy_gbs * 1e3)
    assert bound.ms == bound.device_ms


@pytest.mark.parametrize(("fabric", "measured"), [("8xH100", 3001), ("8xH200", 4246), ("GB200-NVL72", 4246)])
def test_rates_are_those_of_the_gpu_with_the_nearest_device_copy(fabric: str, measured: int) -> None:
    copy = PRESETS[fabric].copy_gbs
    for share, scan, apply in MEASURED[measured]:
        rates = rates_at(share, copy)
        assert (rates.scan_ms, rates.apply_ms) == pytest.approx(
            (scan * measured / copy, apply * measured / copy)
        )


def test_a_source_is_read_once_for_several_targets() -> None:
    matrix = np.array([[0, 10**9, 10**9], [0, 0, 0], [0, 0, 0]])
    bound = delta_bound(1, matrix, np.array([10**9, 0, 0]), rates_at(0.01, H100.copy_gbs), 0.01)
    assert bound.scan_ms == pytest.approx(rates_at(0.01, H100.copy_gbs).scan_ms)


def test_ranks_on_one_gpu_add_up() -> None:
    gb = 10**9
    matrix = np.array([[0, 0, gb, 0], [0, 0, 0, gb], [0, 0, 0, 0], [0, 0, 0, 0]])
    rates = DeltaRates(scan_ms=2, apply_ms=3, copy_gbs=1000)
    alone, together = (
        delta_bound(0, matrix, np.array([gb, gb, 0, 0]), rates, 0.01, gpus=g) for g in (None, 2)
    )
    assert (alone.scan_ms, alone.apply_ms, alone.device_ms) == (2, 3, 3)
    assert (together.scan_ms, together.apply_ms, together.device_ms) == (2, 3, 5)
    assert delta_bound(0, matrix, np.array([gb, gb, 0, 0]), rates, 0.01, gpus=1).ms == 10


def test_a_range_holds_exactly_up_to_its_share(plan: ScenarioPlan) -> None:
    held = holds_up_to(plan, plan.best)
    assert held is not None
    assert 0.02 < held < 0.03
    assert plan.expected_ms is not None
    assert bound_of(plan.best, held).ms <= plan.expected_ms[1] < bound_of(plan.best, 1.03 * held).ms


def test_table_and_texts(plan: ScenarioPlan) -> None:
    out = io.StringIO()
    print_deltas([plan], 0.02, Console(file=out, width=220))
    (row,) = [line for line in out.getvalue().splitlines() if "s1" in line]
    assert "1,365" in row
    assert share_text(holds_up_to(plan, plan.best)) in row
    assert [share_text(s) for s in (None, 0, 0.0003, 0.027, 1)] == ["-", "never", "0.03 %", "2.7 %", "100 %"]


def test_the_document_has_a_row_for_each_order_and_marks_what_is_out_of_reach(plan: ScenarioPlan) -> None:
    rows = [line.split(" | ") for line in deltas().splitlines()]
    assert len(rows) == 2 + 3 * (7 + 2)
    (row,) = [cells for cells in rows if cells[0] == "| 8xH100" and cells[1] == "s1"]
    assert row[4] == "**1,365**"
    for cell, share in zip(row[5:8], (0.01, 0.02, 0.03), strict=True):
        ms = bound_of(plan.best, share).ms
        assert cell == (f"**{ms:,.0f}**" if ms > 60 else f"{ms:,.0f}")
    assert row[8] == f"{share_text(holds_up_to(plan, plan.best))} |"


def test_the_command_gives_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["plan", "s1", "--fabric", "8xH100", "--update", "0.02", "--json"]) == 0
    (delta,) = json.loads(capsys.readouterr().out)["deltas"]
    assert delta["share"] == 0.02
    assert delta["orders"]["megatron"]["dense_floor_ms"] > 20 * delta["orders"]["megatron"]["wire_ms"]
    assert run(["plan", "s1", "--update", "2"]) == 2
    assert "an update changes a share" in capsys.readouterr().err
