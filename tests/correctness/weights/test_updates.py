"""What a generation changes: the share asked for, really, and nothing else."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fixtures.cases.errors import CaseError
from fixtures.cases.layouts import Layout
from fixtures.cases.updates import DENSE, Update, parse_update
from fixtures.weights.fill import fill
from fixtures.weights.pattern import changes, hash_bits, seeds
from fixtures.weights.verify import verify
from tests.correctness.weights.made_up_shards import TINY, made_up_rank

COUNT = 30_000


def bits_at(generation: int, update: Update, name: str = "w") -> torch.Tensor:
    return hash_bits(torch.arange(COUNT, dtype=torch.int32), name, generation, torch.int16, update)


def spread(share: float) -> float:
    """Six standard deviations of the share that COUNT elements show."""
    return 6 * math.sqrt(share * (1 - share) / COUNT)


@settings(max_examples=40)
@given(st.floats(0.0003, 1), st.integers(1, 300))
def test_a_generation_changes_the_share_asked_for(share: float, generation: int) -> None:
    update = Update(share=share)
    changed = bits_at(generation, update) != bits_at(generation - 1, update)
    assert abs(float(changed.double().mean()) - share) <= spread(share) + 1e-6
    predicted = changes(torch.arange(COUNT, dtype=torch.int32), seeds("w")[2], generation, update)
    assert torch.equal(changed, predicted)


@pytest.mark.parametrize("share", [0.3, 0.01])
def test_elements_are_chosen_anew(share: float) -> None:
    """What a generation changes says nothing about another name's elements, nor about a later window."""
    update = Update(share=share)
    index = torch.arange(COUNT, dtype=torch.int32)
    mine, others = (changes(index, seeds(name)[2], 7, update) for name in ("w", "v"))
    later = changes(index, seeds("w")[2], 7 + 3 * (update.window + 1), update)
    for other in (others, later):
        both = float((mine & other).double().mean())
        assert abs(both - share**2) <= spread(share**2) + 0.05 * share**2


def test_dense_changes_every_element_of_every_generation() -> None:
    for generation in range(1, 20):
        assert bool((bits_at(generation, DENSE) != bits_at(generation - 1, DENSE)).all())


def test_an_old_generation_fails_by_the_elements_that_changed() -> None:
    update, tensors = Update(share=0.3), made_up_rank(Layout(tp=2, ep=2), 3)
    fill(tensors, 4, update)
    assert verify(tensors, 4, TINY, 3, update).ok
    check = verify(tensors, 5, TINY, 3, update)
    assert abs(check.mismatches / check.elements - 0.3) < 0.05
    assert {fault.kind for fault in check.faults if fault.count > 40} == {"stale"}


@pytest.mark.parametrize(("text", "share"), [("dense", 1), ("1", 1), ("0.01", 0.01), ("3e-4", 0.0003)])
def test_a_share_is_read(text: str, share: float) -> None:
    assert parse_update(text) == Update(share=share)


@pytest.mark.parametrize("text", ["", "sparse", "0", "-1", "1.5", "nan", "inf", "1e-9"])
def test_no_other_share_is_taken(text: str) -> None:
    with pytest.raises(CaseError, match="update"):
        parse_update(text)
