"""The delta codec: every share and shape of change comes back bit for bit, no corrupted stream passes."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fixtures.engines.delta_codec import (
    BLOCK,
    LENGTHS,
    DeltaError,
    Encoded,
    Shape,
    apply,
    chained,
    digest,
    encode,
)

SPECIAL = np.array([0x7FC0, 0xFFC1, 0x7F80, 0xFF80, 0x8000, 0x0000, 0x7FFF, 0xFFFF], dtype=np.uint16)
"""bf16 NaNs with payloads, infinities, -0.0 and 0.0."""


def laid_out(shape: Shape, words: np.ndarray) -> np.ndarray:
    """Tiles' words in whole blocks, the padding zero."""
    laid = np.zeros(shape.nbytes // 2, dtype=np.uint16)
    begin = 0
    for first, count in zip(shape.first_block[:-1] * BLOCK, shape.words, strict=True):
        laid[first : first + count] = words[begin : begin + count]
        begin += count
    return laid


def changed_words(rng: np.random.Generator, old: np.ndarray, share: float, kind: str) -> np.ndarray:
    """`old` with a share of its words changed."""
    new = old.copy()
    if kind == "clustered":
        length = round(share * len(old))
        begin = int(rng.integers(0, len(old) - length + 1))
        which = np.arange(begin, begin + length)
    else:
        which = np.flatnonzero(rng.random(len(old)) < share)
    if kind == "near":
        new[which] ^= rng.integers(1, 4, len(which), dtype=np.uint16)
    elif kind == "ulp":
        new[which] += rng.choice(np.array([-2, -1, 1, 2]), len(which)).astype(np.uint16)
    elif kind == "flipped":
        new[which] ^= np.uint16(0xFFFF)
    elif kind == "special":
        new[which] = rng.choice(SPECIAL, len(which))
    else:
        new[which] = rng.integers(0, 1 << 16, len(which), dtype=np.uint16)
    return new


KINDS = ("random", "clustered", "near", "ulp", "flipped", "special")


@st.composite
def states(draw: Any) -> tuple[Shape, np.ndarray, np.ndarray]:
    """Tiles of any size with an old and a new state."""
    sizes = draw(st.lists(st.sampled_from([1, 2, 3, 127, 255, 256, 257, 700, 4096]), min_size=1, max_size=6))
    shape = Shape(words=np.array(sizes, dtype=np.int64))
    rng = np.random.default_rng(draw(st.integers(0, 1 << 30)))
    old = rng.integers(0, 1 << 16, sum(sizes), dtype=np.uint16)
    share = draw(st.sampled_from([0, 0.0003, 0.01, 0.03, 0.1, 0.13, 0.33, 0.6, 0.9, 0.95, 1]))
    new = changed_words(rng, old, share, draw(st.sampled_from(KINDS)))
    return shape, laid_out(shape, old), laid_out(shape, new)


@given(states())
def test_every_change_comes_back(state: tuple[Shape, np.ndarray, np.ndarray]) -> None:
    shape, old, new = state
    encoded = encode(new, old, shape)
    assert int(encoded.changed.sum()) == np.count_nonzero(old != new)
    assert (encoded.lengths <= 2 * shape.words).all(), "no tile is longer than its own bytes"
    apply(old, encoded, shape)
    assert np.array_equal(old, new)


@given(states(), st.data())
def test_some_tiles_alone(state: tuple[Shape, np.ndarray, np.ndarray], data: Any) -> None:
    """What one peer gets: the tiles it wants, whatever the others are."""
    shape, old, new = state
    index = np.array(sorted(data.draw(st.sets(st.integers(0, len(shape.words) - 1)))), dtype=np.int64)
    part = shape.take(index)
    mine = laid_out(part, np.concatenate([np.zeros(0, np.uint16), *(_tile(shape, old, i) for i in index)]))
    apply(mine, encode(new, old, shape).take(index), part)
    wanted = laid_out(part, np.concatenate([np.zeros(0, np.uint16), *(_tile(shape, new, i) for i in index)]))
    assert np.array_equal(mine, wanted)


def _tile(shape: Shape, words: np.ndarray, index: int) -> np.ndarray:
    begin = shape.first_block[index] * BLOCK
    return words[begin : begin + shape.words[index]]


@given(states(), st.data())
def test_a_flipped_bit_is_found(state: tuple[Shape, np.ndarray, np.ndarray], data: Any) -> None:
    shape, old, new = state
    encoded = encode(new, old, shape)
    if not len(encoded.data):
        return
    at, bit = data.draw(st.integers(0, len(encoded.data) - 1)), data.draw(st.integers(0, 7))
    broken = encoded.data.copy()
    broken[at] ^= 1 << bit
    assert digest(replace(encoded, data=broken)) != digest(encoded)


@given(states(), st.data())
def test_garbage_is_refused_or_applied_within_its_tiles(
    state: tuple[Shape, np.ndarray, np.ndarray], data: Any
) -> None:
    """Whatever arrives, `apply` never reads or writes outside: it raises DeltaError or ends."""
    shape, old, new = state
    encoded = encode(new, old, shape)
    if not len(encoded.data):
        return
    broken = encoded.data.copy()
    for at in data.draw(st.lists(st.integers(0, len(broken) - 1), min_size=1, max_size=5)):
        broken[at] = data.draw(st.integers(0, 255))
    before = old.copy()
    try:
        apply(old, replace(encoded, data=broken), shape)
    except DeltaError:
        assert np.array_equal(old, before)


def test_every_bit_of_every_place_is_carried() -> None:
    """Each of 16 bits flipped alone, at every position of a block."""
    shape = Shape(words=np.array([BLOCK]))
    for bit in range(16):
        for position in range(BLOCK):
            old = np.full(BLOCK, 0x3F80, dtype=np.uint16)
            new = old.copy()
            new[position] ^= 1 << bit
            encoded = encode(new, old, shape)
            assert encoded.lengths[0] == 1 + (3 if bit >= 8 else 2)
            apply(old, encoded, shape)
            assert np.array_equal(old, new)


def bytes_per_change(share: float, kind: str) -> float:
    rng = np.random.default_rng(3)
    shape = Shape(words=np.full(64, 16384))
    old = rng.integers(0, 1 << 16, int(shape.words.sum()), dtype=np.uint16)
    encoded = encode(changed_words(rng, old, share, kind), old, shape)
    return float((encoded.lengths.sum() + 8 * len(encoded.lengths)) / encoded.changed.sum())


@pytest.mark.parametrize("share", [0.01, 0.02, 0.03])
def test_small_steps_cost_at_most_3_bytes_a_changed_element(share: float) -> None:
    assert bytes_per_change(share, "near") <= 2.5
    assert bytes_per_change(share, "ulp") <= 2.5
    assert bytes_per_change(share, "random") <= {0.01: 3.5, 0.02: 3.25, 0.03: 3.2}[share]


@pytest.mark.parametrize("kind", ["random", "flipped"])
@pytest.mark.parametrize("share", [0.5, 0.9, 1])
def test_dense_changes_cost_no_more_than_the_weights(share: float, kind: str) -> None:
    assert bytes_per_change(share, kind) * share <= 1.02 * 2


def broken(encoded: Encoded, what: str) -> Encoded:
    data, lengths = encoded.data.copy(), encoded.lengths.copy()
    if what == "code":
        data[0] = int(np.flatnonzero(LENGTHS < 0)[0])
    elif what == "sum":
        data[0] += 1
    elif what == "short":
        lengths[0], data = 1, data[:1]
    elif what == "count":
        lengths = lengths[:-1]
    else:
        data[2] ^= 0xFF
        data[3] = 0xFF
    return replace(encoded, data=data, lengths=lengths)


@pytest.mark.parametrize(
    ("what", "sentence"),
    [
        ("code", "means nothing"),
        ("sum", "do not add up"),
        ("short", "shorter than its codes"),
        ("count", "describe"),
        ("bitmap", "as many bits"),
    ],
)
def test_what_no_encoder_says_is_refused(what: str, sentence: str) -> None:
    shape = Shape(words=np.array([2 * BLOCK]))
    old = np.zeros(2 * BLOCK, dtype=np.uint16)
    new = old.copy()
    new[: 60 if what == "bitmap" else 6] += 1
    encoded = encode(new, old, shape)
    with pytest.raises(DeltaError, match=sentence):
        apply(old, broken(encoded, what), shape)


def test_the_chain_tells_streams_and_their_order() -> None:
    one, two = chained(chained(7, 1, 100), 2, 200), chained(chained(7, 1, 200), 2, 100)
    assert len({7, one, two, chained(7, 2, 100), chained(7, 1, 100)}) == 5
