"""Segments and copy tables move exactly the bytes that tensor slices would, for any cut."""

from dataclasses import fields

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fixtures.engines.copies import (
    CopyError,
    CopyTable,
    Segments,
    bounded,
    buffered,
    join,
    merged,
    region,
    split,
)
from fixtures.engines.kernel import CpuTable

ITEM = {torch.uint8: 1, torch.bfloat16: 2, torch.float32: 4}


def between(segments: Segments, low: int, high: int) -> Segments:
    """The entries of stream positions [low, high)."""
    cut = split(segments, np.array([low, high], dtype=np.int64))
    return cut.take((cut.start >= low) & (cut.start < high))


def segments_of(views: list[torch.Tensor]) -> Segments:
    entries, start = [], 0
    for view in views:
        for address, rows, width, stride in region(
            view.data_ptr(), tuple(view.shape), view.stride(), view.element_size()
        ):
            entries.append([start, address, rows, width, stride])
            start += rows * width
    return Segments.from_rows(np.array(entries, dtype=np.int64).reshape(-1, 5))


def bytes_of(views: list[torch.Tensor]) -> bytes:
    return b"".join(v.contiguous().view(torch.uint8).numpy().tobytes() for v in views if v.numel())


@st.composite
def cut_tensors(draw: st.DrawFn) -> tuple[torch.Tensor, torch.Tensor]:
    """The same slice shape cut from two tensors of different sizes, at different places."""
    dtype = draw(st.sampled_from(list(ITEM)))
    shape = draw(st.lists(st.integers(1, 6), min_size=1, max_size=3))
    views = []
    for side in range(2):
        before = [draw(st.integers(0, 2)) for _ in shape]
        after = [draw(st.integers(0, 2)) for _ in shape]
        whole = torch.empty([b + s + a for b, s, a in zip(before, shape, after, strict=True)], dtype=dtype)
        raw = whole.view(-1).view(torch.uint8)
        raw.copy_(torch.arange(raw.numel(), dtype=torch.int64).mul(7).add(side * 101).remainder(251))
        views.append(whole[tuple(slice(b, b + s) for b, s in zip(before, shape, strict=True))])
    return views[0], views[1]


@settings(max_examples=80, deadline=None)
@given(pairs=st.lists(cut_tensors(), min_size=1, max_size=5), limit=st.sampled_from([3, 8, 64]))
def test_join_moves_slices(pairs: list[tuple[torch.Tensor, torch.Tensor]], limit: int) -> None:
    sources, targets = [a for a, _ in pairs], [b for _, b in pairs]
    table = bounded(merged(join(segments_of(sources), segments_of(targets))), limit)
    assert int((table.rows * table.row_bytes).max(initial=0)) <= max(
        limit, int(table.row_bytes.max(initial=0))
    )
    assert int(table.row_bytes.max(initial=0)) <= limit
    CpuTable(table).run()
    assert bytes_of(targets) == bytes_of(sources)


@settings(max_examples=80, deadline=None)
@given(
    pairs=st.lists(cut_tensors(), min_size=1, max_size=5),
    cuts=st.lists(st.integers(0, 600), max_size=6),
)
def test_split_keeps_every_byte(pairs: list[tuple[torch.Tensor, torch.Tensor]], cuts: list[int]) -> None:
    segments = segments_of([a for a, _ in pairs])
    pieces = split(segments, np.unique(np.array(cuts, dtype=np.int64)))
    assert pieces.nbytes == segments.nbytes
    assert (pieces.start[1:] == pieces.end[:-1]).all()
    for cut in cuts:
        assert not ((pieces.start < cut) & (pieces.end > cut)).any()


@settings(max_examples=60, deadline=None)
@given(pairs=st.lists(cut_tensors(), min_size=1, max_size=4), chunk=st.integers(1, 97))
def test_chunks_through_a_buffer(pairs: list[tuple[torch.Tensor, torch.Tensor]], chunk: int) -> None:
    sources, targets = segments_of([a for a, _ in pairs]), segments_of([b for _, b in pairs])
    buffer = torch.zeros(chunk, dtype=torch.uint8)
    for low in range(0, sources.nbytes, chunk):
        high = min(low + chunk, sources.nbytes)
        packed, unpacked = between(sources, low, high), between(targets, low, high)
        CpuTable(join(packed, buffered(packed, low, buffer.data_ptr()))).run()
        CpuTable(join(buffered(unpacked, low, buffer.data_ptr()), unpacked)).run()
    assert bytes_of([b for _, b in pairs]) == bytes_of([a for a, _ in pairs])


def test_join_splits_unequal_rows() -> None:
    """Rows of 6 against rows of 4 bytes: neither divides the other."""
    source, target = torch.arange(40, dtype=torch.uint8), torch.zeros(40, dtype=torch.uint8)
    a = Segments.from_rows(np.array([[0, source.data_ptr(), 2, 6, 10]]))
    b = Segments.from_rows(np.array([[0, target.data_ptr(), 3, 4, 9]]))
    CpuTable(join(a, b)).run()
    moved = torch.cat([target[0:4], target[9:13], target[18:22]])
    assert moved.tolist() == [*range(6), *range(10, 16)]


def test_empty_tables() -> None:
    none = Segments.concatenate([])
    table = bounded(merged(join(none, none)))
    assert len(table) == 0
    assert table.nbytes == 0
    CpuTable(table).run()
    assert region(0, (3, 0), (1, 1), 4) == []


@pytest.mark.parametrize("count", [0, 1, 2, 7])
def test_a_table_is_in_memory_row_by_row_as_the_kernel_reads_it(count: int) -> None:
    """Whatever lies between the elements of its columns: a GPU's copy of an array keeps the array's order."""
    names = [field.name for field in fields(CopyTable)]
    every_other, same = np.arange(2 * count)[::2], np.broadcast_to(np.int64(3), (count,))
    for column in (every_other, every_other[::-1], same):
        rows = CopyTable(**dict.fromkeys(names, column)).as_rows()
        assert rows.shape == (count, 6)
        assert rows.flags.c_contiguous


def test_regions_merge_what_is_contiguous() -> None:
    assert region(64, (4, 8), (8, 1), 2) == [(64, 1, 64, 64)]
    assert region(64, (4, 8), (32, 1), 2) == [(64, 4, 16, 64)]
    assert region(0, (2, 3, 4), (24, 8, 1), 1) == [(0, 6, 4, 8)]
    assert region(0, (2, 3, 4), (100, 8, 1), 1) == [(0, 3, 4, 8), (100, 3, 4, 8)]
    assert region(0, (), (), 4) == [(0, 1, 4, 4)]


def test_neighbours_merge() -> None:
    rows = np.array([[0, 100, 1, 8, 8, 8], [8, 108, 2, 4, 4, 4], [16, 200, 1, 4, 4, 4]])
    assert merged(CopyTable.from_rows(rows)).as_rows().tolist() == [
        [0, 100, 1, 16, 16, 16],
        [16, 200, 1, 4, 4, 4],
    ]


def test_different_streams_are_refused() -> None:
    a = Segments.from_rows(np.array([[0, 0, 1, 8, 8]]))
    with pytest.raises(CopyError, match="8 bytes and the target 4"):
        join(a, Segments.from_rows(np.array([[0, 0, 1, 4, 4]])))
    with pytest.raises(CopyError, match=r"starts at byte 0 for the source and 4|runs where"):
        join(a, Segments.from_rows(np.array([[4, 0, 1, 8, 8]])))


def test_a_wrong_stride_is_seen() -> None:
    source = torch.arange(64, dtype=torch.uint8).view(8, 8)
    target = torch.zeros(8, 4, dtype=torch.uint8)
    table = join(segments_of([source[:, 2:6]]), segments_of([target]))
    wrong = table.as_rows().copy()
    wrong[:, 4] += 1
    CpuTable(CopyTable.from_rows(wrong)).run()
    assert not torch.equal(target, source[:, 2:6])
