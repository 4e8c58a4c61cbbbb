"""The delta engine's kernels against the codec, and the engine between ranks that have or share GPUs."""

from typing import Any

import pytest
import torch
import torch.distributed as dist

from fixtures.cases.scenarios import SCENARIOS, Scenario
from fixtures.engines import delta_sent
from fixtures.engines.delta import FIRST, DeltaEngine
from fixtures.engines.delta_alone import two_states
from fixtures.engines.delta_kernels import OVERFLOW, KernelDelta, delta_module
from fixtures.engines.delta_tiles import OVERWRITTEN
from tests.correctness.engines.gang import run_ranks
from tests.correctness.engines.one_stream import OneStream, scanned_and_applied
from tests.correctness.engines.synthetic import SyntheticPair, poison, synthetic_plan, twin_pair
from tests.correctness.engines.test_delta_codec import KINDS
from tests.correctness.engines.updates import Training


def here() -> torch.device:
    """This process's GPU."""
    return torch.device("cuda", torch.cuda.current_device())


@pytest.mark.gpu
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("share", [0, 0.0003, 0.01, 0.1, 0.33, 0.9, 1])
def test_kernels_write_and_read_what_the_codec_does(share: float, kind: str) -> None:
    device = here()
    scanned_and_applied(share, kind, 5, 4 << 20, device, delta_module(device))


def damaged_tiles() -> int:
    """The status after a code byte was changed in the window."""
    device = here()
    source = torch.zeros(1 << 20, dtype=torch.uint8, device=device)
    stream = OneStream(source, torch.zeros_like(source), 5, delta_module(device))
    source[::64] = 1
    stream.scan()
    stream.window[stream.payload] ^= 255
    stream.apply()
    return stream.header()[4]


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


def prepared(
    scenario: Scenario | str, ranks: int, **options: Any
) -> tuple[SyntheticPair, Training, DeltaEngine]:
    pair = twin_pair(scenario, ranks, here())
    training = Training(pair)
    engine = DeltaEngine(memory_bytes=300_000, planner=synthetic_plan, **options)
    poison(pair)
    engine.prepare(pair)
    return pair, training, engine


def train(scenario: Scenario, ranks: int, shares: tuple[float, ...]) -> tuple[int, dict[str, Any], str]:
    _, training, engine = prepared(scenario, ranks)
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


def over_nccl(shares: tuple[float, ...]) -> tuple[list[int], dict[str, int], str]:
    """Wrong elements after each of three refits at each share, full refits, and what carried."""
    _, training, engine = prepared("s6", 2, peer_mapping=False)
    wrong = []
    for share in shares:
        for _ in range(3):
            training.step(share)
            engine.refit()
            wrong.append(training.wrong())
    engine.profile()
    facts = engine.describe()["full_refits"], engine.transport
    engine.close()
    return wrong, *facts


@pytest.mark.gpu
@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="NCCL wants a GPU for each rank")
def test_changes_sent_over_nccl(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delta_sent, "SLACK_UNITS", 16)
    for wrong, reasons, transport in run_ranks(over_nccl, 2, (0.01, 0.2, 1, 0.01, 0), device="cuda"):
        assert wrong == [0] * 15
        assert reasons[FIRST] == 1
        assert reasons[f"{OVERFLOW} arrived"] >= 1
        assert transport == "nccl"


def with_fault(fault: str) -> tuple[int, dict[str, int]]:
    pair, training, engine = prepared("s6", 2)
    wrong = 0
    for number in range(5):
        if number == 3 and dist.get_rank() == 1:
            mover = engine._mover
            assert isinstance(mover, KernelDelta)
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
    ("fault", "facts"),
    [
        ("chain", "a stream that continues"),
        ("round", "a tile that no encoder writes"),
        ("target", OVERWRITTEN),
    ],
)
def test_planted_faults_are_answered_by_a_full_refit(fault: str, facts: str) -> None:
    for wrong, reasons in run_ranks(with_fault, 2, fault, device="cuda"):
        assert wrong == 0
        assert any(reason.startswith(facts) for reason in reasons)
