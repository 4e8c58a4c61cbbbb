"""A case cut to the ranks and memory at hand, or one sentence with both numbers."""

import re
from dataclasses import replace

import pytest

from fixtures.bounds.fabric import Fabric
from fixtures.cases.inventory import KIMI_K2, ModelSpec
from fixtures.cases.scenarios import SCENARIOS, Scenario, find_scenario
from fixtures.cases.shards import local_bytes
from fixtures.cases.twins import Twin
from fixtures.refit.case import RESERVED_BYTES, RefitCase, RunSettings, rank_bytes, reserved, resolve
from fixtures.refit.devices import Devices

H200 = 150_000_000_000


def fit(key: str, ranks: int, device_bytes: int | None = None, **settings: object) -> RefitCase:
    device = "cpu" if device_bytes is None else "cuda"
    devices = Devices(kind=device, ranks=ranks, device_bytes=device_bytes, gpus=8 if device_bytes else 0)
    chosen = RunSettings(**settings)  # type: ignore[arg-type]
    method = "gloo" if device == "cpu" else "nccl"
    return resolve(find_scenario(key), "megatron", method, chosen, devices)


@pytest.mark.parametrize("key", [scenario.key for scenario in SCENARIOS])
def test_a_cpu_gets_the_small_model_and_gpus_the_full_one(key: str) -> None:
    assert fit(key, 8).model.name == "kimi-k2-mini"
    assert fit(key, 8, H200).model.name == "kimi-k2"
    assert fit(key, 8, H200, model="kimi-k2-mini").model.name == "kimi-k2-mini"
    assert fit(key, 8, model="kimi-k2", num_layers=1).model.name == "kimi-k2"


def test_scenario_6_on_two_gpus_keeps_all_layers() -> None:
    fitted = fit("s6", 2, H200)
    assert (fitted.twin, fitted.model.num_layers) == (Twin(a=8, b=8), 61)
    assert rank_bytes(fitted.model, fitted.scenario) + RESERVED_BYTES < H200


@pytest.mark.parametrize("gigabytes", [24, 40, 47, 64, 80, 141, 192, 288])
@pytest.mark.parametrize("key", ["s1", "s4", "s6"])
@pytest.mark.parametrize("snapshots", [False, True])
def test_as_many_layers_as_fit_into_memory(key: str, gigabytes: int, snapshots: bool) -> None:
    free = gigabytes * 10**9 - reserved(gigabytes * 10**9)
    fitted = fit(key, 8, gigabytes * 10**9, snapshots=snapshots)
    assert rank_bytes(fitted.model, fitted.scenario, snapshots=snapshots) <= free
    if fitted.model.num_layers < KIMI_K2.num_layers:
        more = fitted.twin.model(KIMI_K2).with_layers(fitted.model.num_layers + 1)
        assert rank_bytes(more, fitted.scenario, snapshots=snapshots) > free
    else:
        assert gigabytes > 40


def test_memory_for_not_even_one_layer_is_told_in_gigabytes() -> None:
    sentence = fit("s6", 2, 2 * 10**9).obstacle
    assert re.fullmatch(r"one layer needs \d+\.\d GB a rank and 0\.7 GB are free", sentence)


def test_collocated_ranks_hold_both_models() -> None:
    scenario, model = find_scenario("s6"), KIMI_K2.with_layers(2)
    source, target = local_bytes(model, scenario.source), local_bytes(model, scenario.target)
    assert rank_bytes(model, scenario) == source + target
    apart = find_scenario("s1")
    assert rank_bytes(model, apart) == local_bytes(model, apart.target)


@pytest.mark.parametrize(
    ("key", "ranks", "settings", "sentence"),
    [
        ("s1", 2, {}, "needs 3 ranks, 2 are available"),
        ("s6", 1, {}, "needs 2 ranks, 1 are available"),
        ("s6", 8, {"twin": Twin()}, "needs 128 ranks, 8 are available"),
        ("s4", 8, {"twin": Twin(a=4, b=2)}, "needs 16 ranks, 8 are available"),
        (
            "8:8:16:4:non-collocated:nccl:all",
            2,
            {},
            "needs 4 ranks, 2 are available",
        ),
    ],
)
def test_too_few_ranks_are_told_with_both_numbers(
    key: str, ranks: int, settings: dict[str, object], sentence: str
) -> None:
    assert fit(key, ranks, **settings).obstacle == sentence


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"twin": Twin(a=3)}, "twin 3,1 does not divide TP16,EP8"),
        ({"num_layers": 4}, "kimi-k2-mini has 3 layers, 4 were asked for"),
        ({"placement": "0,0,1,2,3,4,5,6"}, "must name each target rank 0..7 once"),
        ({"placement": "0,1"}, "must name each target rank 0..7 once"),
    ],
)
def test_impossible_settings_are_named(settings: dict[str, object], sentence: str) -> None:
    assert sentence in fit("s6", 8, **settings).obstacle


def test_a_placement_is_the_twins() -> None:
    assert fit("s6", 8).scenario.placement is None
    assert fit("s6", 8, placement="1,0,2,3,4,5,6,7").scenario.placement == (1, 0, 2, 3, 4, 5, 6, 7)


def test_a_twin_that_does_the_scenarios_work_goes_before_a_larger_one() -> None:
    """Scenario 1 on GPUs without NVLink: every twin brings the full scenario's bytes over the NICs."""
    alone = Devices(kind="cuda", ranks=96, ranks_per_gpu=1, device_bytes=10**12, gpus=1)
    settings = RunSettings(model="kimi-k2")
    full = resolve(find_scenario("s1"), "direct", "nvshmem", settings, alone)
    assert (full.twin, full.other_work) == (Twin(), "")
    few = resolve(find_scenario("s1"), "direct", "nvshmem", settings, replace(alone, ranks=12))
    assert (few.scenario.world_size, few.other_work) == (12, "")


def test_eight_gpus_of_a_node_do_other_work_than_128() -> None:
    node = Devices(kind="cuda", ranks=8, ranks_per_gpu=1, device_bytes=10**12, gpus=8)
    case = resolve(find_scenario("s6"), "direct", "nvshmem", RunSettings(model="kimi-k2"), node)
    assert case.other_work.startswith("the fullest rank takes 18.")
    assert case.other_work.endswith("over NICs in the full scenario")


@pytest.mark.parametrize(("per_node", "domains"), [(0, 1), (8, 1), (4, 2), (2, 4), (1, 8)])
def test_the_best_placement_is_sought_on_the_nodes_at_hand(
    per_node: int, domains: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Fabric] = []

    def seen(_: str, scenario: Scenario, __: ModelSpec, fabric: Fabric) -> Scenario:
        asked.append(fabric)
        return scenario

    monkeypatch.setattr("fixtures.refit.case.parse_placement", seen)
    devices = Devices(kind="cpu", ranks=8, ranks_per_node=per_node)
    resolve(find_scenario("s6"), "megatron", "gloo", RunSettings(placement="best"), devices)
    (fabric,) = set(asked)
    assert len({rank // fabric.gpus_per_node for rank in range(8)}) == domains
    assert len({rank // fabric.nvlink_domain for rank in range(8)}) == domains
