"""What a record says, from layouts and from what the ranks measured."""

import json
from typing import Any

import pytest

from fixtures.bounds.delta import encoded_share
from fixtures.bounds.fabric import parse_fabric
from fixtures.cases.scenarios import SCENARIOS, Scenario, find_scenario
from fixtures.cases.shards import local_bytes
from fixtures.cases.twins import Twin
from fixtures.cases.updates import Update
from fixtures.placement.orders import placed
from fixtures.records.record import Arriving, CaseRecord
from fixtures.records.schema import line_problems
from fixtures.refit.case import RefitCase, RunSettings, resolve
from fixtures.refit.devices import Devices
from fixtures.refit.facts import (
    RankFacts,
    RankTiming,
    arriving,
    checked,
    new_record,
    rate_and_verdict,
    timed,
    wrong_weights,
)

CPUS = Devices(kind="cpu", ranks=8)


def fitted(key: str, **settings: Any) -> RefitCase:
    return resolve(find_scenario(key), "megatron", "gloo", RunSettings(**settings), CPUS)


def rank(number: int, mismatches: int = 0, **more: Any) -> RankFacts:
    return RankFacts(rank=number, host="h", tensors=2, elements=100, bytes=200, mismatches=mismatches, **more)


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda s: s.key)
def test_a_case_that_never_started_has_a_valid_line(scenario: Scenario) -> None:
    for settings in (RunSettings(), RunSettings(twin=Twin(a=2), model="kimi-k2-mini", num_layers=2)):
        case = resolve(scenario, "megatron", "nccl", settings, CPUS)
        record = new_record(case, settings).having(status="skipped", reason="no GPUs")
        line = {"type": "case", **json.loads(json.dumps(record.line()))}
        assert line_problems(line) == []
        assert CaseRecord.of_line(line) == record


@pytest.mark.parametrize("key", [s.key for s in SCENARIOS])
def test_bytes_of_the_fullest_rank(key: str) -> None:
    fit = fitted(key)
    facts = arriving(fit, {})
    assert facts.dst_bytes == local_bytes(fit.model, fit.scenario.target)
    moved, kept = facts.bytes["in"], facts.bytes["kept"]
    assert len(moved) == len(kept) == fit.scenario.world_size
    assert facts.moved_bytes == max(moved)
    for world_rank in range(fit.scenario.world_size):
        here = fit.scenario.target_rank(world_rank) is not None
        assert moved[world_rank] + kept[world_rank] == (facts.dst_bytes if here else 0)
    assert any(kept) == fit.scenario.collocated


def test_checks_of_all_ranks_are_added_up() -> None:
    facts = checked([rank(0), rank(1, 7, faults=("rank 1: w",)), rank(2)], {})
    assert (facts.elements_verified, facts.mismatches, facts.verified_bytes) == (300, 7, 600)
    assert facts.verification["tensors"] == 6
    assert facts.verification["diagnosis"] == ["rank 1: w"]


def test_exact_weights_leave_nothing_to_say() -> None:
    assert wrong_weights([rank(0), rank(1)]) == ""


def test_wrong_weights_are_counted_by_kind_and_shown_for_the_first_ranks() -> None:
    ranks = [rank(0)] + [
        rank(n, 10, faults=(f"rank {n}: a", f"rank {n}: b"), kinds=(("stale", 3), ("poison left", n)))
        for n in range(1, 7)
    ]
    first, *rest = wrong_weights(ranks).splitlines()
    assert first == (
        "60 of 700 elements are wrong on 6 of 7 target ranks: poison left (21 tensors); stale (18 tensors)"
    )
    assert rest[:2] == ["  rank 1: a", "  rank 1: b"]
    assert rest[-1] == "  and more on ranks 5, 6"
    assert len(rest) == 2 * 4 + 1


def measured(*times: float, throttled: tuple[int, ...] = ()) -> RankTiming:
    return RankTiming(samples_ms=times, peak_extra_bytes=1, throttled=throttled, throttle_reasons=())


def test_an_iteration_lasts_as_long_as_its_slowest_rank() -> None:
    assert timed([measured(1.0, 9.0, 2.0), measured(3.0, 1.0, 2.5)]).warm_ms == (3.0, 9.0, 2.5)
    with pytest.raises(ValueError, match="shorter"):
        timed([measured(1.0, 2.0), measured(1.0)])


def timed_case(fit: RefitCase, times: list[float], *throttled: int) -> CaseRecord:
    record = new_record(fit, RunSettings()).having(arriving(fit, {}))
    record = record.having(timed([measured(*times, throttled=throttled)] * 8))
    return record.having(**rate_and_verdict(fit, record))


def test_rates_come_from_the_layouts_and_the_median() -> None:
    record = timed_case(fitted("s6"), [4.0, 2.0, 30.0])
    assert record.gbps == pytest.approx(record.moved_bytes / 0.004 / 1e9)
    assert record.verdict == "not comparable"
    assert "CPU" in record.verdict_reason


def test_throttled_iterations_count_neither_for_the_rate_nor_for_the_verdict() -> None:
    record = timed_case(full_on_gpus(), [30.0, 31.0, 90.0, 91.0], 2, 3)
    assert (record.warm_median, record.verdict) == (30.5, "within")
    assert record.gbps == pytest.approx(record.moved_bytes / 0.0305 / 1e9)


@pytest.mark.parametrize(
    ("median_ms", "verdict"), [(19.0, "below"), (20.0, "within"), (40.0, "within"), (41.0, "above")]
)
def test_the_full_scenario_on_gpus_gets_a_verdict(median_ms: float, verdict: str) -> None:
    record = timed_case(full_on_gpus(), [median_ms] * 3)
    assert (record.verdict, record.verdict_reason) == (verdict, None)


def full_on_gpus() -> RefitCase:
    devices = Devices(kind="cuda", ranks=128, ranks_per_gpu=1, gpus=8)
    settings = RunSettings(model="kimi-k2", twin=Twin())
    return resolve(find_scenario("s6"), "direct", "nvshmem", settings, devices)


def test_no_measured_rate_means_no_floor() -> None:
    fit = fitted("s6")
    for nothing in ({}, {"put_gbps": None}, {"device_copy_gbps": 3000.0}, {"put_gbps": 390.0}):
        assert arriving(fit, nothing).floor_ms is None


@pytest.mark.parametrize("key", [s.key for s in SCENARIOS])
def test_the_records_floor_is_the_plans_at_the_measured_rates(key: str) -> None:
    fit = fitted(key)
    facts = arriving(fit, {"put_gbps": 390.0, "device_copy_gbps": 4270.0})
    assert facts.floor_ms == pytest.approx(facts.moved_bytes / 390e6)
    assert facts.floor_basis == "NVLink in at 390.0 GB/s, measured in this run"
    whole = parse_fabric(["nvlink4"])
    assert facts.floor_ms == pytest.approx(placed(fit.scenario, fit.model, whole).bound.ms)
    memory = arriving(fit, {"put_gbps": 1e6, "device_copy_gbps": 10.0})
    assert memory.floor_basis == "device copy at 10.0 GB/s, measured in this run"


def test_ranks_that_share_a_gpu_have_its_floor_and_no_link() -> None:
    devices = Devices(kind="shared", ranks=8, ranks_per_gpu=4, gpus=2)
    fit = resolve(find_scenario("s6"), "direct", "gloo", RunSettings(model="kimi-k2-mini"), devices)
    held = [local_bytes(fit.model, fit.scenario.target)] * 8
    facts = arriving(fit, {"device_copy_gbps": 3000.0, "put_gbps": 390.0})
    assert facts.floor_ms == pytest.approx(2 * max(sum(held[0::2]), sum(held[1::2])) / 3000e6)
    record = timed_case(fit, [1.0])
    assert record.gbps is None
    assert record.verdict_reason == "4 ranks share a GPU"


def test_one_rank_has_the_floor_of_its_memory() -> None:
    """Nothing crosses a link: all is read and written once on its GPU, by delta too."""
    scenario = find_scenario("1:1:1:1:collocated:nccl:local")
    settings = RunSettings(model="kimi-k2-mini", update=Update(share=0.01))
    fit = resolve(scenario, "direct", "nvshmem", settings, Devices(kind="cuda", ranks=1, gpus=1))
    facts = arriving(fit, RATES)
    assert facts.bytes["in"] == (0,)
    assert facts.floor_ms == pytest.approx(2 * facts.bytes["kept"][0] / 3000e6)
    assert facts.floor_basis == "device copy at 3000.0 GB/s, measured in this run"
    assert facts.delta_floor_ms == pytest.approx(facts.floor_ms)


RATES = {"delta_scan_gbps": 1000.0, "delta_apply_gbps": 4000.0, "device_copy_gbps": 3000.0}


def delta_facts(kind: str, rates: dict[str, float], share: float = 0.01) -> Arriving:
    gpus = 1 if kind == "shared" else 2
    devices = Devices(kind=kind, ranks=2, ranks_per_gpu=2 // gpus, gpus=gpus)
    settings = RunSettings(model="kimi-k2-mini", update=Update(share=share))
    return arriving(resolve(find_scenario("s6"), "direct", "gloo", settings, devices), rates)


def test_an_update_of_a_part_has_a_delta_floor_beside_the_dense_one() -> None:
    facts = delta_facts("cuda", RATES | {"put_gbps": 390.0})
    moved, kept = facts.bytes["in"][0], facts.bytes["kept"][0]
    device = moved / 1000e6 + moved / 4000e6 + 2 * kept / 3000e6
    assert facts.delta_floor_ms == pytest.approx(max(device, facts.floor_ms * encoded_share(0.01)), rel=0.01)
    assert facts.delta_floor_basis.startswith("one GPU's scan")
    slow = delta_facts("cuda", RATES | {"put_gbps": 1.0})
    assert slow.delta_floor_ms == pytest.approx(slow.floor_ms * encoded_share(0.01))
    assert slow.delta_floor_basis.startswith("the wire")


def test_ranks_that_share_a_gpu_share_its_delta_floor() -> None:
    alone, together = delta_facts("cuda", RATES | {"put_gbps": 390.0}), delta_facts("shared", RATES)
    assert together.delta_floor_ms == pytest.approx(2 * alone.delta_floor_ms, rel=0.01)


@pytest.mark.parametrize("missing", [*RATES, "put_gbps"])
def test_without_a_measured_rate_there_is_no_delta_floor(missing: str) -> None:
    rates = RATES | {"put_gbps": 390.0}
    assert delta_facts("cuda", rates).delta_floor_ms
    del rates[missing]
    assert delta_facts("cuda", rates).delta_floor_ms is None
    assert delta_facts("cuda", RATES | {"put_gbps": 390.0}, share=1).delta_floor_ms is None
