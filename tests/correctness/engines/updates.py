"""Steps of training on a synthetic pair: some of the weights change, the others keep their bits."""

import math
import zlib
from collections.abc import Iterator

import numpy as np
import torch

from fixtures.cases.shards import Shard, Span
from tests.correctness.engines.synthetic import WORDS, SyntheticPair, _shards, expected_shard

SPECIAL = np.array([0x7FC1, 0xFFFF, 0x8000, 0x0000], dtype=np.uint16).view(np.int16)
"""bf16 NaNs with payloads, -0.0 and 0.0."""


def _step(words: torch.Tensor, shard: Shard, share: float, number: int) -> None:
    """Change a share of a parameter's elements in a shard of it; every holder changes the same ones."""
    param = shard.param
    rng = np.random.default_rng([zlib.crc32(param.name.encode()), number])
    elements = math.prod(param.shape)
    which = np.arange(elements) if share == 1 else rng.integers(0, elements, rng.binomial(elements, share))
    flips = np.zeros(elements, dtype=np.int16)
    flips[which] = rng.integers(1, 1 << 15 if number % 3 == 1 else 4, len(which))
    index = np.ix_(*(_positions(spans) for spans in shard.spans))
    mine = torch.from_numpy(flips.reshape(param.shape)[index]).to(words.device, words.dtype)
    words.bitwise_xor_(mine)
    if number % 5 == 2 and words.dtype == torch.int16:
        special = torch.from_numpy(SPECIAL).to(words.device)[mine.long() % 4]
        words.copy_(torch.where(mine != 0, special, words))


def _positions(spans: tuple[Span, ...]) -> np.ndarray:
    return np.concatenate([np.arange(s.start, s.start + s.length) for s in spans])


class Training:
    """The source of a pair in training, and what its target must hold after the next refit."""

    def __init__(self, pair: SyntheticPair) -> None:
        self._pair, self._steps = pair, 0
        self._wanted = {s.param.name: expected_shard(s, 1, pair.device) for s in _shards(pair, False)}
        for shard, words in self._sources():
            words.copy_(expected_shard(shard, 1, pair.device))

    def _sources(self) -> Iterator[tuple[Shard, torch.Tensor]]:
        for shard in _shards(self._pair, True):
            yield shard, self._pair.source[shard.param.name].view(WORDS[shard.param.dtype])

    def step(self, share: float) -> None:
        """Change a share of all weights in the source."""
        self._steps += 1
        for shard, words in self._sources():
            _step(words, shard, share, self._steps)
        for shard in _shards(self._pair, False):
            _step(self._wanted[shard.param.name], shard, share, self._steps)

    def wrong(self) -> int:
        """Elements of this rank's target that do not hold their bits."""
        shards = _shards(self._pair, False)
        held = {s.param.name: self._pair.target[s.param.name].view(WORDS[s.param.dtype]) for s in shards}
        return sum(int((words != self._wanted[name]).sum()) for name, words in held.items())
