"""Binding refuses every model that is not the inventory's."""

from collections.abc import Callable

import pytest
import torch
from torch import nn

from fixtures.cases.layouts import Layout
from fixtures.models.bind import BindingError, bind, canonical_name
from tests.correctness.weights.made_up_shards import TINY, made_up_rank

LAYOUT, RANK = Layout(tp=2, ep=2), 3
FIRST_EXPERT = 3
NORM = "decoder.layers.1.input_layernorm.weight"
BIAS = "decoder.layers.1.mlp.router.expert_bias"


def local_name(canonical: str) -> str:
    """The name under which TE's grouped experts keep a parameter."""
    head, found, tail = canonical.partition(".experts.")
    if not found:
        return canonical
    expert, linear, _ = tail.split(".")
    return f"{head}.experts.{linear}.weight{int(expert) - FIRST_EXPERT}"


def tensors_of_a_rank() -> dict[str, torch.Tensor]:
    return {local_name(b.shard.param.name): b.tensor for b in made_up_rank(LAYOUT, RANK)}


def module(tensors: dict[str, torch.Tensor]) -> nn.Module:
    """A module tree with these parameters, and buffers where the name says so."""
    root = nn.Module()
    for name, tensor in tensors.items():
        *path, leaf = name.split(".")
        place = root
        for part in path:
            if part not in place._modules:
                place.add_module(part, nn.Module())
            place = place._modules[part]
        if leaf == "expert_bias":
            place.register_buffer(leaf, tensor)
        else:
            place.register_parameter(leaf, nn.Parameter(tensor, requires_grad=False))
    return root


def test_every_tensor_is_bound_to_its_shard() -> None:
    tensors = tensors_of_a_rank()
    bound = bind(module(tensors), TINY, LAYOUT, RANK)
    assert {one.local_name for one in bound} == set(tensors)
    for one in bound:
        assert one.tensor.data_ptr() == tensors[one.local_name].data_ptr()
        assert local_name(one.shard.param.name) == one.local_name


def remove(name: str) -> Callable[[dict[str, torch.Tensor]], None]:
    return lambda tensors: tensors.__delitem__(name)


def put(name: str, tensor: torch.Tensor) -> Callable[[dict[str, torch.Tensor]], None]:
    return lambda tensors: tensors.__setitem__(name, tensor)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (remove(NORM), f"layout rank 3 has no {NORM}"),
        (remove(BIAS), f"layout rank 3 has no {BIAS}"),
        (remove("decoder.layers.1.mlp.experts.linear_fc2.weight2"), "has no .*experts.5.linear_fc2.weight"),
        (put("decoder.layers.1.extra.weight", torch.zeros(3)), "does not know decoder.layers.1.extra.weight"),
        (put("decoder.layers.1.mlp.experts.linear_fc1.weight3", torch.zeros(2)), "does not know .*experts.6"),
        (put(NORM, torch.zeros(25, dtype=torch.bfloat16)), r"is \(25,\), the inventory says \(24,\)"),
        (put(NORM, torch.zeros(24)), "is torch.float32, the inventory says bf16"),
        (put(BIAS, torch.zeros(6, dtype=torch.bfloat16)), "is torch.bfloat16, the inventory says fp32"),
    ],
)
def test_what_differs_is_named(change: Callable[[dict[str, torch.Tensor]], None], words: str) -> None:
    tensors = tensors_of_a_rank()
    change(tensors)
    with pytest.raises(BindingError, match=words):
        bind(module(tensors), TINY, LAYOUT, RANK)


def test_another_ranks_model_is_refused() -> None:
    with pytest.raises(BindingError, match=r"has no|inventory says"):
        bind(module(tensors_of_a_rank()), TINY, Layout(tp=4, ep=1), 3)


def test_non_persistent_buffers_are_no_weights() -> None:
    model = module(tensors_of_a_rank())
    model.register_buffer("scratch", torch.zeros(3), persistent=False)
    assert len(bind(model, TINY, LAYOUT, RANK)) == len(tensors_of_a_rank())


@pytest.mark.parametrize(
    ("local", "canonical"),
    [
        ("decoder.layers.0.mlp.linear_fc1.layer_norm_weight", "decoder.layers.0.pre_mlp_layernorm.weight"),
        (
            "decoder.layers.4.self_attention.linear_q_up_proj.layer_norm_weight",
            "decoder.layers.4.self_attention.q_layernorm.weight",
        ),
        (
            "decoder.layers.4.self_attention.linear_kv_up_proj.layer_norm_weight",
            "decoder.layers.4.self_attention.kv_layernorm.weight",
        ),
        (
            "decoder.layers.2.mlp.experts.linear_fc2.weight11",
            "decoder.layers.2.mlp.experts.14.linear_fc2.weight",
        ),
        (
            "decoder.layers.2.mlp.shared_experts.linear_fc2.weight",
            "decoder.layers.2.mlp.shared_experts.linear_fc2.weight",
        ),
    ],
)
def test_local_names_become_the_inventorys(local: str, canonical: str) -> None:
    """Transformer Engine fuses norms into the linear layer after them and counts experts locally."""
    assert canonical_name(local, FIRST_EXPERT) == canonical
