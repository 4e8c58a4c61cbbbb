"""The bits of the oracle against a second implementation, and what they promise."""

import hashlib
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fixtures.cases.inventory import KIMI_K2, inventory
from fixtures.cases.layouts import Layout
from fixtures.cases.updates import DENSE, Update
from fixtures.models.bind import BoundTensor
from fixtures.weights.chunks import global_index
from fixtures.weights.fill import fill, poison
from fixtures.weights.pattern import BIT_VIEW, POISON_BITS, hash_bits
from fixtures.weights.verify import verify
from tests.correctness.weights.made_up_shards import TINY, made_up_rank

names = st.text(min_size=1, max_size=40)
generations = st.integers(0, 1000)
shares = st.sampled_from((1.0, 0.7, 0.5, 0.3, 0.01, 0.0003))
indices = st.lists(st.integers(0, 2**31 - 1), min_size=1, max_size=50)


WORD = 0xFFFFFFFF


def mixed(x: int, second: int) -> int:
    """lowbias32 with a second seed, in Python's unbounded integers."""
    x = ((x ^ x >> 16) * 0x7FEB352D) & WORD
    x = x ^ x >> 15 ^ second
    x = (x * 0x846CA68B) & WORD
    return x ^ x >> 16


def version_of(index: int, change: int, generation: int, share: float) -> int:
    """Walk back from a generation to the one in which the element changed, and count its windows."""
    if share == 1:
        return generation
    short = math.floor(1 / share + 1e-9)
    some = round((share * (short + 1) - 1) * short * 2**23)
    x = mixed((index + change) & WORD, change)
    length = short if x % 2**23 < some else short + 1
    for past in range(generation, generation - 2 * length, -1):
        window = past // length
        if (mixed((x + window * 0x9E3779B1) & WORD, change) % 2**31) % length == past % length:
            return window
    raise AssertionError("an element must change once in two windows")


def second_opinion(index: int, name: str, generation: int, bits: int, share: float = 1) -> int:
    """The pattern in Python's unbounded integers, as an unsigned number of `bits` bits."""
    seed = hashlib.blake2b(name.encode(), digest_size=12).digest()
    first, second, change = (int.from_bytes(seed[i : i + 4], "little") for i in (0, 4, 8))
    version = version_of(index, change, generation, share)
    x = (index + first) & WORD
    lowest = (x * 0x9E3779B1 & WORD) >> 31 ^ version & 1
    value = mixed((x + version * 0x9E3779B1) & WORD, second)
    return value & (0xBFFE if bits == 16 else 0xBFFFFFFE) | lowest


@given(indices, names, generations, shares)
def test_bits_agree_with_a_second_implementation(
    index: list[int], name: str, generation: int, share: float
) -> None:
    for dtype, bits, unsigned in ((torch.int16, 16, np.uint16), (torch.int32, 32, np.uint32)):
        places = torch.tensor(index, dtype=torch.int32)
        found = hash_bits(places, name, generation, dtype, Update(share=share))
        wanted = [second_opinion(i, name, generation, bits, share) for i in index]
        assert found.numpy().view(unsigned).tolist() == wanted


@given(indices, names, generations)
def test_values_are_finite_and_poison_never_passes(index: list[int], name: str, generation: int) -> None:
    for dtype, bits in BIT_VIEW.items():
        found = hash_bits(torch.tensor(index, dtype=torch.int32), name, generation, bits)
        assert found.view(dtype).isfinite().all()
        assert (found != POISON_BITS).all()
        assert torch.full_like(found, POISON_BITS).view(dtype).isnan().all()


@pytest.mark.parametrize("bits", [torch.int16, torch.int32])
@pytest.mark.parametrize(
    ("name", "generation", "shift"), [("other", 1, 0), ("w", 2, 0), ("w", 0, 0), ("w", 1, 1), ("w", 1, 4096)]
)
def test_another_name_generation_or_place_has_other_bits(
    bits: torch.dtype, name: str, generation: int, shift: int
) -> None:
    """Of 2**15 bf16 patterns one in 32,768 elements agrees by chance; ten of 10,000 would not be chance."""
    index = torch.arange(10_000, dtype=torch.int32)
    mine = hash_bits(index.clone(), "w", 1, bits)
    other = hash_bits(index + shift, name, generation, bits)
    assert int((mine == other).sum()) < 10


def test_bits_are_spread_evenly() -> None:
    """Each free bit is set in half of the elements (within six standard deviations)."""
    count = 100_000
    found = hash_bits(torch.arange(count, dtype=torch.int32), "w", 1, torch.int16).to(torch.int32)
    for bit in (*range(14), 15):
        share = int(((found >> bit) & 1).sum())
        assert abs(share - count / 2) < 6 * math.sqrt(count) / 2, f"bit {bit}"


def test_every_index_of_kimi_k2_fits_the_hash() -> None:
    assert max(param.elements for param in inventory(KIMI_K2)) < 2**31


@pytest.mark.parametrize("update", [DENSE, Update(share=0.3), Update(share=0.01)], ids=str)
@pytest.mark.parametrize("layout", [Layout(tp=2, ep=1), Layout(tp=4, ep=2), Layout(tp=1, ep=3)], ids=str)
def test_any_part_is_made_alone(layout: Layout, update: Update) -> None:
    """Each rank's shard equals that part of the uncut tensor."""
    whole = {bound.shard.param.name: bound.tensor for bound in filled(Layout(tp=1, ep=1), 0, 3, update)}
    for rank in range(layout.gpus):
        for bound in filled(layout, rank, 3, update):
            part = whole[bound.shard.param.name]
            for dim, spans in enumerate(bound.shard.spans):
                part = part.index_select(dim, global_index(spans, part.device).long())
            assert torch.equal(part.view(torch.uint8), bound.tensor.view(torch.uint8))


def filled(layout: Layout, rank: int, generation: int = 3, update: Update = DENSE) -> list[BoundTensor]:
    tensors = made_up_rank(layout, rank)
    poison(tensors)
    fill(tensors, generation, update)
    return tensors


@pytest.mark.parametrize("chunk", [1, 7, 100, 10**6])
def test_chunks_of_any_size_fill_and_check_the_same(chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    layout = Layout(tp=2, ep=2)
    wanted = filled(layout, 3)
    monkeypatch.setattr("fixtures.weights.chunks.CHUNK_ELEMENTS", chunk)
    found = filled(layout, 3)
    for a, b in zip(wanted, found, strict=True):
        assert torch.equal(a.tensor.view(torch.uint8), b.tensor.view(torch.uint8))
    assert verify(found, 3, TINY, 0).ok
    victim = found[0].tensor
    victim.view(torch.int16)[-1, -1] ^= 1
    check = verify(found, 3, TINY, 0)
    assert (check.mismatches, len(check.faults)) == (1, 1)
    assert check.faults[0].coordinate == (39, 23)
