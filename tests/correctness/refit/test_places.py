"""Moved tensors and shared memory are seen."""

from dataclasses import replace

import pytest
import torch

from fixtures.cases.layouts import Layout
from fixtures.models.bind import BoundTensor
from fixtures.refit.places import moved, places_of, shared
from tests.correctness.weights.made_up_shards import made_up_rank

NAME = "output_layer.weight"


def with_tensor(tensors: list[BoundTensor], tensor: torch.Tensor) -> list[BoundTensor]:
    return [replace(b, tensor=tensor) if b.shard.param.name == NAME else b for b in tensors]


def output(tensors: list[BoundTensor]) -> torch.Tensor:
    return next(b.tensor for b in tensors if b.shard.param.name == NAME)


def test_tensors_that_stay_are_not_told() -> None:
    tensors = made_up_rank(Layout(tp=2, ep=2), 3)
    places = places_of(tensors)
    output(tensors).zero_()
    assert moved(places, places_of(tensors)) == []
    assert shared(places, {}) == []


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (torch.clone, "another address"),
        (lambda t: t.as_strided(t.shape, (1, len(t))), "another strides"),
        (lambda t: t.view(torch.float16), "another dtype"),
    ],
    ids=["storage", "strides", "dtype"],
)
def test_a_moved_tensor_is_named(change: object, words: str) -> None:
    tensors = made_up_rank(Layout(tp=2, ep=2), 3)
    after = with_tensor(tensors, change(output(tensors)))  # type: ignore[operator]
    (sentence,) = moved(places_of(tensors), places_of(after))
    assert sentence == f"the refit moved 1 of {len(tensors)} target tensors: {NAME} has {words}"


def test_memory_of_two_tensors_is_named() -> None:
    """Within the target, with the source, and where one lies inside of another."""
    target, source = (made_up_rank(Layout(tp=2, ep=2), 3) for _ in range(2))
    assert shared(places_of(target), places_of(source)) == []
    (sentence,) = shared(places_of(with_tensor(target, output(source))), places_of(source))
    assert sentence.count(NAME) == 2
    other = next(b.tensor for b in target if b.tensor.numel() > 48)
    (sentence,) = shared(places_of(with_tensor(target, other[1:3])), places_of(source))
    assert sentence.startswith("the target's ")
    assert "and the target's " in sentence
