"""Each kind of mistake, planted in the destination, is found and named."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from fixtures.cases.layouts import Layout
from fixtures.models.bind import BoundTensor
from fixtures.weights.chunks import rows_and_columns
from fixtures.weights.fill import fill, poison
from fixtures.weights.pattern import BIT_VIEW
from fixtures.weights.verify import Fault, Verification, verify
from tests.correctness.weights.made_up_shards import TINY, made_up_rank

LAYOUT, RANK, GENERATION = Layout(tp=2, ep=2), 3, 5
LAYER = "decoder.layers.1."
FC1 = LAYER + "mlp.experts.4.linear_fc1.weight"
FC2 = LAYER + "mlp.experts.4.linear_fc2.weight"
BIAS = LAYER + "mlp.router.expert_bias"
PROJ = LAYER + "self_attention.linear_proj.weight"
NORM = LAYER + "input_layernorm.weight"


def good_rank() -> list[BoundTensor]:
    tensors = made_up_rank(LAYOUT, RANK)
    poison(tensors)
    fill(tensors, GENERATION)
    return tensors


def bits(bound: BoundTensor) -> torch.Tensor:
    return bound.tensor.view(BIT_VIEW[bound.tensor.dtype])


def find(tensors: list[BoundTensor], name: str) -> BoundTensor:
    return next(bound for bound in tensors if bound.shard.param.name == name)


def check(tensors: list[BoundTensor]) -> Verification:
    return verify(tensors, GENERATION, TINY, RANK)


def only_fault(tensors: list[BoundTensor], name: str) -> Fault:
    """The fault of the one tensor that is wrong; all others must be found right."""
    checked = check(tensors)
    assert [fault.param for fault in checked.faults] == [name], str(checked)
    assert checked.mismatches == checked.faults[0].count
    return checked.faults[0]


def take_bits_of(bound: BoundTensor, name: str, generation: int = GENERATION) -> None:
    """Overwrite a tensor with what another parameter (or generation) holds in the same place."""
    param = replace(bound.shard.param, name=name)
    fill([replace(bound, shard=replace(bound.shard, param=param))], generation)


def swap_in(tensors: list[BoundTensor], bound: BoundTensor, tensor: torch.Tensor) -> None:
    """Put another tensor in a bound one's place."""
    index = next(i for i, other in enumerate(tensors) if other is bound)
    tensors[index] = replace(bound, tensor=tensor)


def test_good_weights_pass_and_are_counted() -> None:
    tensors = good_rank()
    checked = check(tensors)
    assert checked.ok
    assert checked.tensors == len(tensors)
    assert checked.elements == sum(bound.tensor.numel() for bound in tensors)
    assert checked.bytes == sum(bound.tensor.nbytes for bound in tensors)
    assert "are exact" in str(checked)


@settings(max_examples=40)
@given(st.data())
def test_one_flipped_bit_anywhere(data: st.DataObject) -> None:
    tensors = good_rank()
    bound = data.draw(st.sampled_from(tensors), label="tensor")
    place = tuple(data.draw(st.integers(0, size - 1)) for size in bound.tensor.shape)
    width = 8 * bound.tensor.element_size()
    bit = data.draw(st.integers(0, width - 1), label="bit")
    before = int(bits(bound)[place])
    bits(bound)[place] ^= (1 << bit) - (1 << width if bit == width - 1 else 0)
    fault = only_fault(tensors, bound.shard.param.name)
    assert fault.count == 1
    assert fault.likely == "a single bit is flipped"
    rows, cols, _ = rows_and_columns(bound.shard, bound.tensor.device)
    assert fault.coordinate == tuple(int(ids[i]) for ids, i in zip((rows, cols), place, strict=False))
    mask = (1 << width) - 1
    assert int(fault.expected_bits, 16) == before & mask
    assert int(fault.found_bits, 16) == int(bits(bound)[place]) & mask
    assert int(fault.expected_bits, 16) ^ int(fault.found_bits, 16) == 1 << bit


def test_several_flipped_bits() -> None:
    tensors = good_rank()
    bits(find(tensors, FC1))[::5, 3] ^= 0x10
    assert only_fault(tensors, FC1).likely == "single bits are flipped"


@settings(max_examples=40)
@given(st.data())
def test_a_transfer_that_never_came(data: st.DataObject) -> None:
    """Any block of any tensor left poisoned, up to the whole tensor."""
    tensors = good_rank()
    bound = data.draw(st.sampled_from(tensors), label="tensor")
    block = []
    for size in bound.tensor.shape:
        start = data.draw(st.integers(0, size - 1))
        block.append(slice(start, data.draw(st.integers(start + 1, size))))
    bits(bound)[tuple(block)] = -1
    fault = only_fault(tensors, bound.shard.param.name)
    left = bits(bound)[tuple(block)].numel()
    whole = left == bound.tensor.numel()
    assert fault.count == left
    assert fault.likely == (
        "poison left: never written" if whole else "poison left: a part was never written"
    )
    assert fault.kind == "poison left"


def test_an_untouched_model() -> None:
    tensors = good_rank()
    poison(tensors)
    checked = check(tensors)
    assert len(checked.faults) == len(tensors)
    assert checked.mismatches == checked.elements
    assert {fault.likely for fault in checked.faults} == {"poison left: never written"}
    assert f"and {len(tensors) - 5} more tensors" in str(checked)


@settings(max_examples=40)
@given(st.data(), st.integers(1, 4))
def test_an_older_generation_is_called_stale(data: st.DataObject, back: int) -> None:
    tensors = good_rank()
    bound = data.draw(st.sampled_from(tensors), label="tensor")
    assume(bound.tensor.numel() > 4)
    fill([bound], GENERATION - back)
    ago = f"{back} generation{'s' * (back > 1)} ago"
    assert only_fault(tensors, bound.shard.param.name).likely == f"stale: these are the weights of {ago}"


def test_swapped_experts() -> None:
    tensors = good_rank()
    other = LAYER + "mlp.experts.5.linear_fc1.weight"
    a, b = find(tensors, FC1).tensor, find(tensors, other).tensor
    a[:], b[:] = b.clone(), a.clone()
    said = {fault.param: fault.likely for fault in check(tensors).faults}
    assert said == {
        FC1: f"these are another expert's weights: {other}",
        other: f"these are another expert's weights: {FC1}",
    }


def test_an_expert_of_another_layer_and_of_another_rank() -> None:
    spec = replace(TINY, num_layers=3)
    tensors = good_rank()
    for name in (FC2.replace("layers.1", "layers.2"), FC2.replace("experts.4", "experts.0")):
        take_bits_of(find(tensors, FC2), name)
        (fault,) = verify(tensors, GENERATION, spec, RANK).faults
        assert fault.likely == f"these are another expert's weights: {name}"


@pytest.mark.parametrize(
    ("name", "other"),
    [
        (NORM, LAYER + "pre_mlp_layernorm.weight"),
        (NORM, "decoder.final_layernorm.weight"),
        ("output_layer.weight", "embedding.word_embeddings.weight"),
        (PROJ, PROJ.replace("layers.1", "layers.0")),
    ],
)
def test_another_parameters_weights(name: str, other: str) -> None:
    tensors = good_rank()
    take_bits_of(find(tensors, name), other)
    assert only_fault(tensors, name).likely == f"these are another parameter's weights: {other}"


@pytest.mark.parametrize("name", [FC1, LAYER + "mlp.shared_experts.linear_fc1.weight"])
def test_gate_and_up_exchanged(name: str) -> None:
    tensors = good_rank()
    tensor = find(tensors, name).tensor
    tensor[:] = tensor.roll(tensor.shape[0] // 2, 0)
    assert only_fault(tensors, name).likely == "gate and up are exchanged"


def test_gate_and_up_interleaved() -> None:
    """What upstream's stride of 1 does: the piece is cut from gate and up as if they were one block."""
    tensors = good_rank()
    tensor = find(tensors, FC1).tensor
    gate, up = tensor.clone().chunk(2)
    tensor[:] = torch.stack((gate, up), 1).reshape(tensor.shape)
    said = only_fault(tensors, FC1).likely
    assert said.startswith("gate and up rows are scrambled: gate row ")


@pytest.mark.parametrize(
    ("name", "damage", "word"),
    [
        (PROJ, lambda t: t.flip(0), "rows are scrambled: row"),
        (PROJ, lambda t: t.roll(1, 1), "columns are scrambled: column"),
        (NORM, lambda t: t.roll(1, 0), "rows are scrambled: row"),
        (FC2, lambda t: t[:, torch.arange(t.shape[1] - 1, -1, -1)], "columns are scrambled: column"),
    ],
    ids=["rows", "columns", "vector", "expert columns"],
)
def test_scrambled_lines(name: str, damage: Callable[[torch.Tensor], torch.Tensor], word: str) -> None:
    tensors = good_rank()
    bound = find(tensors, name)
    bound.tensor[:] = damage(bound.tensor.clone())
    likely = only_fault(tensors, name).likely
    if name != NORM:  # a single element a row says too little to trace it
        assert likely.startswith(word), likely


def test_another_ranks_piece_is_traced_to_its_rows() -> None:
    tensors = good_rank()
    neighbour = made_up_rank(LAYOUT, RANK - 1)
    fill(neighbour, GENERATION)
    name = "output_layer.weight"
    find(tensors, name).tensor[:] = find(neighbour, name).tensor
    assert only_fault(tensors, name).likely == "rows are scrambled: row 20 holds row 0"


def test_a_buffer_rounded_to_bf16() -> None:
    tensors = good_rank()
    tensor = find(tensors, BIAS).tensor
    tensor[:] = tensor.bfloat16().float()
    assert only_fault(tensors, BIAS).likely == "rounded to bf16 on the way"


@pytest.mark.parametrize("name", [BIAS, FC1])
def test_wrong_dtype(name: str) -> None:
    tensors = good_rank()
    wrong = find(tensors, name)
    other = torch.bfloat16 if wrong.tensor.dtype == torch.float32 else torch.float16
    swap_in(tensors, wrong, wrong.tensor.to(other))
    fault = only_fault(tensors, name)
    assert fault.likely == "the tensor has the wrong dtype or shape"
    assert str(other) in fault.found_bits
    assert fault.count == wrong.shard.elements


def test_wrong_shape() -> None:
    tensors = good_rank()
    wrong = find(tensors, PROJ)
    swap_in(tensors, wrong, wrong.tensor[:-1])
    assert only_fault(tensors, PROJ).likely == "the tensor has the wrong dtype or shape"


def test_noise_is_not_explained_away() -> None:
    tensors = good_rank()
    tensor = find(tensors, FC1).tensor
    noise = torch.Generator().manual_seed(3)
    tensor.view(torch.int16).random_(0, 0x3FFF, generator=noise)
    assert only_fault(tensors, FC1).likely == "no known mistake explains the bits"


@settings(max_examples=40)
@given(st.data())
def test_no_change_of_any_size_goes_unseen(data: st.DataObject) -> None:
    """Mutate elements of one tensor to other bits, at random places: exactly those are counted."""
    tensors = good_rank()
    bound = data.draw(st.sampled_from(tensors), label="tensor")
    flat = bits(bound).view(-1)
    places = data.draw(st.sets(st.integers(0, flat.numel() - 1), min_size=1, max_size=9), label="places")
    for place in places:
        flat[place] ^= data.draw(st.integers(1, 0x7FFF), label="change")
    fault = only_fault(tensors, bound.shard.param.name)
    assert fault.count == len(places)
    assert f"{len(places)} of {bound.tensor.numel():,} elements wrong" in str(fault)
    assert fault.likely
