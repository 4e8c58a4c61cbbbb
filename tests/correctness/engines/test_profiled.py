"""Moved, reshaped and replaced tensors are told by name; an untouched pair is not."""

from collections.abc import Callable
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from fixtures.engines.profiled import FEW, TURNS, Addresses


def rebind(model: nn.Module) -> None:
    model[1].weight.data = model[1].weight.data.clone()


def replace(model: nn.Module) -> None:
    model[1].weight = nn.Parameter(model[1].weight.data.clone())


def replace_buffer(model: nn.Module) -> None:
    model[1].register_buffer("bias_fp32", torch.ones(3))


def restride(model: nn.Module) -> None:
    model[1].weight.data = model[1].weight.data.as_strided((4, 4), (1, 4))


def retype(model: nn.Module) -> None:
    model[1].weight.data = model[1].weight.data.view(torch.int32)


CHANGES: dict[str, tuple[Callable[[nn.Module], None], str]] = {
    "rebound": (rebind, "the target's 1.weight has moved"),
    "replaced": (replace, "the target's 1.weight has moved"),
    "buffer": (replace_buffer, "the target's 1.bias_fp32 has moved"),
    "strides": (restride, "the target's 1.weight has changed its strides or dtype"),
    "dtype": (retype, "the target's 1.weight has changed its strides or dtype"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_is_told_by_name(change: str) -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    model.requires_grad_(False)
    model[1].register_buffer("bias_fp32", torch.zeros(3))
    addresses = Addresses(SimpleNamespace(source=None, target=model))
    assert addresses.moved() == ""
    make, said = CHANGES[change]
    make(model)
    assert addresses.moved() == f"{said} since the engine was prepared (1 tensors in all)"


def test_of_many_tensors_strides_are_looked_at_in_turns() -> None:
    model = nn.ParameterList(nn.Parameter(torch.zeros(2, 2), requires_grad=False) for _ in range(FEW + 8))
    addresses = Addresses(SimpleNamespace(source=None, target=model))
    model[1001].data = model[1001].data.t()
    sentences = [addresses.moved() for _ in range(TURNS)]
    assert [bool(sentence) for sentence in sentences].count(True) == 1
    assert max(sentences).startswith("the target's .1001 has changed its strides or dtype")
    model[1001].data = model[1001].data.clone()
    assert addresses.moved().startswith("the target's .1001 has moved")


def test_the_memory_that_was_noted_stays_until_the_next_prepare() -> None:
    model = nn.Linear(4, 4)
    old = model.weight.data_ptr()
    addresses = Addresses(SimpleNamespace(source=model, target=None))
    model.weight.data = torch.empty(4, 4)
    others = [torch.empty(4, 4) for _ in range(100)]
    assert old not in {tensor.data_ptr() for tensor in others}
    assert addresses.moved()
