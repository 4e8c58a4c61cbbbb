"""A sample reads what is there when it is told to, in every tensor, and says what it looks like."""

import numpy as np
import pytest
import torch

from fixtures.cases.layouts import Layout
from fixtures.cases.updates import DENSE, Update
from fixtures.models.bind import BoundTensor
from fixtures.weights.fill import fill, poison
from fixtures.weights.sample import PER_TENSOR, Late, samples
from tests.correctness.weights.made_up_shards import made_up_rank

LAYOUTS = [(Layout(tp=2, ep=2), 3), (Layout(tp=1, ep=3), 1), (Layout(tp=4, ep=1), 2)]
UPDATES = [DENSE, Update(share=0.3), Update(share=0.01)]


def look(tensors: list[BoundTensor], update: Update = DENSE, then: object = None) -> list[Late]:
    """Samples of generation 7, read, then judged after `then`."""
    drawn = samples(tensors, 7, update, np.random.default_rng(5))
    for sample in drawn:
        sample.read()
    if callable(then):
        then()
    assert sum(len(sample) for sample in drawn) == PER_TENSOR * len(tensors)
    return [problem for sample in drawn if (problem := sample.problem())]


@pytest.mark.parametrize("update", UPDATES, ids=str)
@pytest.mark.parametrize(("layout", "rank"), LAYOUTS, ids=str)
def test_right_weights_pass_in_every_layout(layout: Layout, rank: int, update: Update) -> None:
    tensors = made_up_rank(layout, rank)
    fill(tensors, 7, update)
    assert look(tensors, update) == []


@pytest.mark.parametrize("update", UPDATES, ids=str)
def test_weights_of_the_generation_before_are_called_stale(update: Update) -> None:
    """Where a part changes, that part is looked for."""
    tensors = made_up_rank(*LAYOUTS[0])
    fill(tensors, 6, update)
    problems = look(tensors, update)
    assert problems
    assert {problem.likely for problem in problems} == {"stale: these are the weights of 1 generation ago"}


@pytest.mark.parametrize("update", UPDATES, ids=str)
def test_weights_that_are_there_before_the_refit_are_early(update: Update) -> None:
    tensors = made_up_rank(*LAYOUTS[0])
    early = tensors[3]
    fill(tensors, 6, update)
    drawn = samples(tensors, 7, update, np.random.default_rng(5))
    assert [sample.early() for sample in drawn] == [""] * len(drawn)
    if update.dense:
        poison(tensors)
        assert [sample.early() for sample in drawn] == [""] * len(drawn)
    fill([early], 7, update)
    assert early.shard.param.name in [sample.early() for sample in drawn]


def test_every_tensor_is_looked_at() -> None:
    tensors = made_up_rank(*LAYOUTS[0])
    for bound in tensors:
        fill(tensors, 7)
        poison([bound])
        (problem,) = look(tensors)
        assert (problem.param, problem.wrong) == (bound.shard.param.name, PER_TENSOR)
        assert problem.likely == "poison left: never written"


def test_what_comes_after_the_reading_is_late() -> None:
    tensors = made_up_rank(*LAYOUTS[0])
    poison(tensors)
    problems = look(tensors, then=lambda: fill(tensors, 7))
    assert {p.likely for p in problems} == {"late: the weights came after the refit had returned"}


def test_other_strides_are_read_where_their_elements_lie() -> None:
    tensors = made_up_rank(*LAYOUTS[0])
    fill(tensors, 7)
    for bound in tensors:
        if bound.tensor.dim() == 2:
            bound.tensor.data = bound.tensor.t().contiguous().t()
    assert look(tensors) == []


def test_another_value_is_no_known_mistake() -> None:
    tensors = made_up_rank(*LAYOUTS[0])
    fill(tensors, 7)
    tensors[0].tensor.view(torch.int16).bitwise_xor_(2)
    (problem,) = look(tensors)
    assert problem.likely == "these are not weights of this generation or the one before"
    assert str(problem).startswith(
        f"8 of {problem.sampled} sampled elements are wrong when the refit returns"
    )
