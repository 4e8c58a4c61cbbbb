"""The delta kernels against the codec: one source, one window, one target, on a GPU or emulated."""

import numpy as np
import torch

from fixtures.engines.delta_alone import DeltaAlone
from fixtures.engines.delta_codec import Encoded, apply, digest, encode
from fixtures.engines.delta_tiles import TILE_BYTES, Tiles
from fixtures.engines.delta_windows import HEADER_BYTES
from fixtures.engines.kernel import Module
from tests.correctness.engines.test_delta_codec import changed_words


def tiles_of(rng: np.random.Generator, base: int, size: int) -> Tiles:
    """Tiles of random shape and alignment that do not overlap."""
    rows, at = [], 0
    while True:
        align = int(rng.choice([1, 2, 4, 16, 256]))
        count = int(rng.choice([1, 1, 1, 2, 7, 128]))
        width = max(int(rng.integers(1, TILE_BYTES // count + 1)) // align, 1) * align
        width = TILE_BYTES if rng.random() < 0.3 and count == 1 else width
        stride = width if count == 1 else width + int(rng.integers(0, 5)) * align
        begin = -(-at // align) * align
        at = begin + (count - 1) * stride + width
        if at > size:
            return Tiles(table=np.array(rows))
        rows.append([base + begin, count, width, stride])


class OneStream(DeltaAlone):
    """A source, a snapshot, one window and a target on one GPU, with what the window holds as values."""

    def __init__(self, source: torch.Tensor, target: torch.Tensor, seed: int, module: Module) -> None:
        self.tiles, self.held = (
            tiles_of(np.random.default_rng(seed), t.data_ptr(), t.numel()) for t in (source, target)
        )
        super().__init__([self.tiles], self.held, len(self.tiles) // 4, source.device, module)

    def scanned(self) -> Encoded:
        """Scan, each block several tiles; what the window then holds."""
        self.scan()
        window = self.window.cpu().numpy()
        places = window[HEADER_BYTES : HEADER_BYTES + 8 * len(self.tiles)]
        entries = places.view(np.uint32).reshape(-1, 2).astype(np.int64)
        payload = window[self.payload :]
        parts = [payload[16 * base : 16 * base + length] for base, length in entries]
        return Encoded(lengths=entries[:, 1], data=np.concatenate(parts), changed=0 * entries[:, 1])

    def header(self) -> list[int]:
        """Units of 16 bytes, digest of the scan, changed words, digest of the apply, status."""
        return [int(n) for n in self.counters.cpu().numpy().view(np.uint64)[:5]]


def laid(tiles: Tiles, memory: torch.Tensor) -> np.ndarray:
    """The tiles' words in whole blocks, gathered by hand."""
    host, out = memory.cpu().numpy(), np.zeros(tiles.shape.nbytes, dtype=np.uint8)
    for first, (address, rows, width, stride) in zip(
        tiles.shape.first_block * 512, tiles.table.tolist(), strict=False
    ):
        for row in range(rows):
            begin = address - memory.data_ptr() + row * stride
            out[first + row * width : first + (row + 1) * width] = host[begin : begin + width]
    return out.view(np.uint16)


def scanned_and_applied(
    share: float, kind: str, seed: int, size: int, device: torch.device, module: Module
) -> None:
    """The window holds the codec's own bytes and digest, and target and snapshot the new state."""
    rng = np.random.default_rng(seed)
    source = torch.from_numpy(rng.integers(0, 256, size, dtype=np.uint8)).to(device)
    target = torch.zeros_like(source)
    stream = OneStream(source, target, seed, module)
    stream.scan()
    stream.apply()
    old = laid(stream.tiles, source)
    words = source.cpu().numpy().view(np.uint16)
    source.copy_(torch.from_numpy(changed_words(rng, words, share, kind).view(np.uint8)))
    new, encoded = laid(stream.tiles, source), stream.scanned()
    wanted = encode(new, old, stream.shape)
    assert np.array_equal(encoded.lengths, wanted.lengths)
    assert np.array_equal(encoded.data, wanted.data)
    stream.apply()
    _, sealed, changed, arrived, status = stream.header()
    assert (sealed, arrived, changed, status) == (
        digest(wanted),
        digest(wanted),
        int(wanted.changed.sum()),
        0,
    )
    assert np.array_equal(stream.snapshot.cpu().numpy().view(np.uint16), new)
    assert np.array_equal(laid(stream.held, target), new)
    apply(old, encoded, stream.shape)
    assert np.array_equal(old, new)
