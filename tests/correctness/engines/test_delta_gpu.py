"""The delta engine's kernels against the codec, and the engine between ranks that have or share GPUs."""

from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist

from fixtures.cases.scenarios import SCENARIOS, Scenario, find_scenario
from fixtures.engines.delta import FIRST, DeltaEngine
from fixtures.engines.delta_alone import DeltaAlone, two_states
from fixtures.engines.delta_codec import Encoded, apply, digest, encode
from fixtures.engines.delta_mapped import HEADER_BYTES, MappedDelta
from fixtures.engines.delta_tiles import OVERWRITTEN, TILE_BYTES, Tiles
from tests.correctness.engines.gang import run_ranks
from tests.correctness.engines.synthetic import build, poison, synthetic_plan
from tests.correctness.engines.test_delta_codec import KINDS, changed_words
from tests.correctness.engines.test_packed import twin_of
from tests.correctness.engines.updates import Training


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

    def __init__(self, source: torch.Tensor, target: torch.Tensor, seed: int) -> None:
        self.tiles, self.held = (
            tiles_of(np.random.default_rng(seed), t.data_ptr(), t.numel()) for t in (source, target)
        )
        super().__init__([self.tiles], self.held, blocks=16)

    def scanned(self) -> Encoded:
        """Scan, each block several tiles; what the window then holds."""
        self.scan()
        window = self.window.cpu().numpy()
        places = window[HEADER_BYTES : HEADER_BYTES + 8 * len(self.tiles)]
        entries = places.view(np.uint32).reshape(-1, 2).astype(np.int64)
        payload = window[self.payload :]
        parts = [payload[16 * base : 16 * base + length] for base, length in entries]
        return Encoded(lengths=entries[:, 1], data=np.concatenate(parts), changed=0 * entries[:, 1])

    def told(self) -> list[int]:
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


def scanned_and_applied(share: float, kind: str, seed: int) -> None:
    """The window holds the codec's own bytes and digest, and target and snapshot the new state."""
    device, rng = torch.device("cuda", torch.cuda.current_device()), np.random.default_rng(seed)
    source = torch.from_numpy(rng.integers(0, 256, 4 << 20, dtype=np.uint8)).to(device)
    target = torch.zeros_like(source)
    stream = OneStream(source, target, seed)
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
    _, sealed, changed, arrived, status = stream.told()
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


@pytest.mark.gpu
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("share", [0, 0.0003, 0.01, 0.1, 0.33, 0.9, 1])
def test_kernels_write_and_read_what_the_codec_does(share: float, kind: str) -> None:
    scanned_and_applied(share, kind, seed=5)


def damaged_tiles() -> int:
    """The status after a code byte was changed in the window."""
    device = torch.device("cuda", torch.cuda.current_device())
    source = torch.zeros(1 << 20, dtype=torch.uint8, device=device)
    stream = OneStream(source, torch.zeros_like(source), 5)
    source[::64] = 1
    stream.scan()
    stream.window[stream.payload] ^= 255
    stream.apply()
    return stream.told()[4]


@pytest.mark.gpu
def test_a_tile_that_no_encoder_writes_is_told() -> None:
    assert damaged_tiles() == 1


def changed_share(share: float) -> float:
    """The share of words that the scan finds between a calibration's two states, there and back."""
    alone, memory = two_states(1 << 24, share, 64)
    alone.scan()
    found = []
    for number in (1, 0):
        alone.scan(number)
        found.append(int(alone.counters[2].item()) / memory[0].numel())
    assert found[0] == found[1]
    alone.scan()
    assert int(alone.counters[2].item()) == 0
    return found[0]


@pytest.mark.gpu
@pytest.mark.parametrize("share", [0.01, 0.3, 1])
def test_what_a_calibration_scans_has_changed_as_it_says(share: float) -> None:
    assert changed_share(share) == pytest.approx(share, rel=0.02)


def engine_of(**options: Any) -> DeltaEngine:
    return DeltaEngine(memory_bytes=300_000, planner=synthetic_plan, **options)


def train(scenario: Scenario, ranks: int, shares: tuple[float, ...]) -> tuple[int, dict[str, Any], str]:
    spec, scenario = twin_of(scenario, ranks)
    pair = build(spec, scenario, dist.get_rank(), torch.device("cuda", torch.cuda.current_device()))
    training, engine = Training(pair), engine_of()
    poison(pair)
    engine.prepare(pair)
    wrong = 0
    for share in shares:
        for _ in range(4):
            training.step(share)
            engine.refit()
            wrong += training.wrong()
    transport = engine.transport
    engine.profile()
    facts = engine.describe()
    engine.close()
    return wrong, facts, transport


@pytest.mark.gpu
@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda s: s.key)
def test_every_twin_is_exact(scenario: Scenario) -> None:
    for wrong, facts, transport in run_ranks(train, 8, scenario, 8, (0, 0.01, 0.1, 1), device="cuda"):
        assert wrong == 0
        assert facts["full_refits"] == {FIRST: 1}
        assert transport == "ipc"


def with_fault(fault: str) -> tuple[int, dict[str, int]]:
    spec, scenario = twin_of(find_scenario("s6"), 2)
    pair = build(spec, scenario, dist.get_rank(), torch.device("cuda", torch.cuda.current_device()))
    training, engine = Training(pair), engine_of()
    poison(pair)
    engine.prepare(pair)
    wrong = 0
    for number in range(5):
        if number == 3 and dist.get_rank() == 1:
            mover = engine._mover
            assert isinstance(mover, MappedDelta)
            if fault == "chain":
                mover._in.chains.add_(1)
            elif fault == "round":
                bounds, mover._bounds = mover._bounds, [number // 2 for number in mover._bounds]
            else:
                poison(pair)
        training.step(0.02)
        engine.refit()
        wrong += training.wrong()
        if number == 3 and fault == "round" and dist.get_rank() == 1:
            mover._bounds = bounds
    return wrong, engine.describe()["full_refits"]


@pytest.mark.gpu
@pytest.mark.parametrize(
    ("fault", "told"),
    [
        ("chain", "a stream that continues"),
        ("round", "a tile that no encoder writes"),
        ("target", OVERWRITTEN),
    ],
)
def test_planted_faults_are_answered_by_a_full_refit(fault: str, told: str) -> None:
    for wrong, reasons in run_ranks(with_fault, 2, fault, device="cuda"):
        assert wrong == 0
        assert any(reason.startswith(told) for reason in reasons)
