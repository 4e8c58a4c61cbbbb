"""The model as data against the numbers that are known of Kimi K2."""

from collections import Counter

import pytest

from fixtures.cases.errors import CaseError
from fixtures.cases.inventory import (
    DEEPSEEK_V3,
    FULL_MODELS,
    KIMI_K2,
    KIMI_K2_MINI,
    ModelSpec,
    ParamSpec,
    alike,
    find_model,
    inventory,
    titles,
)
from fixtures.cases.layouts import Layout
from fixtures.cases.scenarios import SCENARIOS
from fixtures.cases.shards import local_bytes, shards_of
from fixtures.cases.twins import Twin


def kind(param: ParamSpec) -> str:
    if param.expert is not None:
        return "routed experts"
    return "cut" if param.cut_dim is not None else "replicated"


def test_kimi_k2_counts_its_parameters() -> None:
    params = [param for param in inventory(KIMI_K2) if not param.buffer]
    counts: Counter[str] = Counter()
    for param in params:
        counts[kind(param)] += param.elements
    in_billions = {name: round(count / 1e9, 1) for name, count in counts.items()}
    assert in_billions == {"routed experts": 1014.7, "cut": 10.6, "replicated": 1.1}
    assert round(counts.total() / 1e9, 1) == 1026.4
    assert round(sum(param.bytes for param in params) / 1e12, 3) == 2.053


@pytest.mark.parametrize(
    ("model", "heads", "experts", "vocab", "dense", "billions"),
    [(KIMI_K2, 64, 384, 163840, 1, 1026.4), (DEEPSEEK_V3, 128, 256, 129280, 3, 671.0)],
    ids=lambda value: getattr(value, "name", str(value)),
)
def test_a_model_counts_the_same_from_the_architecture(
    model: ModelSpec, heads: int, experts: int, vocab: int, dense: int, billions: float
) -> None:
    """Written out a second time from the published sizes, without the inventory's code."""
    query = 7168 * 1536 + 1536 * heads * (128 + 64)
    key_value = 7168 * (512 + 64) + 512 * heads * (128 + 128)
    layer = query + key_value + heads * 128 * 7168 + 2 * 7168 + 1536 + 512
    moe = (experts + 1) * 3 * 7168 * 2048 + experts * 7168
    total = 2 * vocab * 7168 + 7168 + 61 * layer + dense * 3 * 7168 * 18432 + (61 - dense) * moe
    assert model.parameters == total
    assert round(total / 1e9, 1) == billions


@pytest.mark.parametrize("model", FULL_MODELS, ids=lambda model: model.name)
def test_every_model_brings_its_mini(model: ModelSpec) -> None:
    small = find_model(f"{model.name}-mini")
    assert (small.mini_of, small.full_name, model.full_name) == (model.name,) * 3
    assert small.dense_layers == model.dense_layers == small.num_layers - 2
    assert small.parameters < 1e7


@pytest.mark.parametrize(
    ("scenario", "gigabytes"),
    list(zip(SCENARIOS[:7], (68.3, 68.3, 66.9, 34.6, 35.2, 20.7, 19.4), strict=True)),
    ids=lambda value: getattr(value, "key", str(value)),
)
def test_bytes_of_a_destination_gpu(scenario: object, gigabytes: float) -> None:
    target: Layout = scenario.target  # type: ignore[attr-defined]
    everywhere = {local_bytes(KIMI_K2, target, rank) for rank in (0, target.tp, target.gpus - 1)}
    assert [round(count / 1e9, 1) for count in everywhere] == [gigabytes]


def test_two_gpu_twin_of_scenario_6() -> None:
    twin = Twin(a=8, b=8)
    scenario, model = twin.scenario(SCENARIOS[5]), twin.model(KIMI_K2)
    assert (str(scenario.source), str(scenario.target)) == ("TP2,EP1", "TP1,EP2")
    assert round(local_bytes(model, scenario.target) / 1e9, 1) == 20.4
    held = list(shards_of(model, scenario.target, 0))
    assert sum(not shard.param.buffer for shard in held) == 3614


@pytest.mark.parametrize(
    ("layout", "words"),
    [
        (Layout(tp=3, ep=1), ["attention heads 64", "TP 3"]),
        (Layout(tp=128, ep=1), ["attention heads 64", "TP 128"]),
        (Layout(tp=1, ep=5), ["384 experts", "EP 5"]),
        (Layout(tp=1, ep=768), ["384 experts", "EP 768"]),
    ],
)
def test_a_layout_that_does_not_divide_is_named(layout: Layout, words: list[str]) -> None:
    with pytest.raises(CaseError) as caught:
        KIMI_K2.check_layout(layout)
    assert all(word in str(caught.value) for word in words), caught.value


def test_names_are_unique_and_say_what_they_are() -> None:
    for model in (KIMI_K2, KIMI_K2_MINI):
        params = inventory(model)
        assert len({param.name for param in params}) == len(params)
        for param in params:
            assert (param.expert is not None) == (".experts." in param.name)
            assert param.expert is None or f".experts.{param.expert}." in param.name
            assert param.buffer == param.name.endswith("router.expert_bias") == (param.dtype == "fp32")
            assert (param.blocks == 2) == param.name.endswith("linear_fc1.weight")
            assert param.cut_dim is not None or "norm" in param.name or "router" in param.name or (
                "_down_proj" in param.name
            )  # fmt: skip


def test_what_repeats_from_layer_to_layer_is_counted_once() -> None:
    kinds = alike(KIMI_K2)
    assert len(kinds) == 783
    assert sum(count for _, count in kinds) == len(inventory(KIMI_K2))
    assert sum(param.bytes * count for param, count in kinds) == sum(p.bytes for p in inventory(KIMI_K2))


@pytest.mark.parametrize("model", [KIMI_K2_MINI, KIMI_K2.with_layers(3)], ids=lambda model: model.name)
def test_bytes_of_a_rank_are_those_of_its_shards(model: ModelSpec) -> None:
    for scenario in SCENARIOS:
        for rank in (0, scenario.target.gpus - 1):
            held = sum(shard.bytes for shard in shards_of(model, scenario.target, rank))
            assert local_bytes(model, scenario.target, rank) == held


def test_fewer_layers_are_the_first_ones() -> None:
    cut = {param for param in inventory(find_model("kimi-k2", 2)) if ".layers." in param.name}
    assert cut == {
        param for param in inventory(KIMI_K2) if ".layers.0." in param.name or ".layers.1." in param.name
    }
    assert find_model("kimi-k2", 61) == KIMI_K2


@pytest.mark.parametrize("layers", [0, -1, 62, 1.5])
def test_impossible_layers_are_named(layers: int) -> None:
    with pytest.raises(CaseError, match=str(layers)):
        find_model("kimi-k2", layers)


def test_unknown_model_is_named_with_the_known_ones() -> None:
    with pytest.raises(CaseError, match="unknown model 'kimi-k3'; known: kimi-k2, kimi-k2-mini"):
        find_model("kimi-k3")


@pytest.mark.parametrize(
    ("models", "title"),
    [
        (["kimi-k2-mini"], "Kimi K2"),
        (["deepseek-v3", "deepseek-v3-mini"], "DeepSeek-V3"),
        (["deepseek-v3", "one-from-elsewhere"], "DeepSeek-V3 and one-from-elsewhere"),
    ],
)
def test_a_heading_names_the_models(models: list[str], title: str) -> None:
    assert titles(models) == title
