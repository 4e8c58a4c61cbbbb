"""The carrier between hosts, with the real kernels emulated on a CPU and gloo: bounds, overflow, faults."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch.distributed as dist
from hypothesis import given
from hypothesis import strategies as st

from fixtures.cases.scenarios import Scenario, find_scenario
from fixtures.engines import delta_sent
from fixtures.engines.copies import CopyTable
from fixtures.engines.delta import FIRST, DeltaEngine
from fixtures.engines.delta_kernels import MEANINGS, OVERFLOW, KernelDelta
from fixtures.engines.delta_sent import SentWindows, message_units, part_filled
from tests.correctness.engines.emulated import COMPILER, Emulated
from tests.correctness.engines.gang import run_ranks
from tests.correctness.engines.synthetic import CPU, SyntheticPair, poison, synthetic_plan, twin_pair
from tests.correctness.engines.updates import Training

OVERFLOWED = f"{OVERFLOW} arrived"
needs_compiler = pytest.mark.skipif(COMPILER is None, reason="no g++ here to compile the kernels for a CPU")


@given(st.integers(1, 1 << 40), st.data())
def test_what_came_once_has_room_again(most: int, data: Any) -> None:
    """Also where it was a quarter less, and never more than could ever come."""
    units = data.draw(st.integers(0, most))
    bound = message_units(most, part_filled(units, most))
    assert units <= bound <= most or bound == min(most, delta_sent.SLACK_UNITS)
    grown = min(most, units + (units - delta_sent.SLACK_UNITS) // 5)
    assert grown <= bound or grown <= delta_sent.SLACK_UNITS


@given(st.lists(st.tuples(st.integers(0, 1 << 30), st.integers(1, 1 << 30)), min_size=1))
def test_one_agreed_part_has_room_for_every_stream(streams: list[tuple[int, int]]) -> None:
    filled = max(part_filled(min(units, most), most) for units, most in streams)
    assert all(min(units, most) <= message_units(most, filled) for units, most in streams)


@pytest.fixture(scope="module")
def kernels(tmp_path_factory: pytest.TempPathFactory) -> Emulated:
    return Emulated(tmp_path_factory.mktemp("kernels"))


class SentEngine(DeltaEngine):
    """The delta engine as between hosts with GPUs, on a CPU."""

    kernels: Emulated

    def _make_mover(self, local: CopyTable) -> KernelDelta:
        delta_sent.SLACK_UNITS = 16  # small models, small streams
        carrier = SentWindows(self._tiles, self._lanes, CPU)
        return KernelDelta(self._tiles, local, self._lanes, CPU, carrier, self.kernels)


def prepared(scenario: Scenario, ranks: int, kernels: Emulated) -> tuple[SyntheticPair, Training, SentEngine]:
    pair = twin_pair(scenario, ranks)
    training = Training(pair)
    engine = SentEngine(memory_bytes=1 << 20, round_bytes=200_000, planner=synthetic_plan)
    engine.kernels = kernels
    poison(pair)
    engine.prepare(pair)
    return pair, training, engine


def train(
    scenario: Scenario, ranks: int, kernels: Emulated, shares: tuple[float, ...]
) -> list[tuple[int, int, int]]:
    """After a refit at each share: wrong elements, refits that overflowed so far, bytes of the messages."""
    _, training, engine = prepared(scenario, ranks, kernels)
    refits = []
    for share in shares:
        training.step(share)
        engine.refit()
        facts = engine.describe()
        refits.append((training.wrong(), facts["full_refits"].get(OVERFLOWED, 0), facts["message_bytes"]))
    assert engine.transport == "gloo"
    assert engine.describe()["full_refits"][FIRST] == 1
    engine.close()
    return refits


STEADY, GROWN, WHOLE, SHRUNK, NOTHING = (0.01,) * 4, (0.2,) * 2, (1.0,) * 2, (0.01,) * 5, (0.0,) * 2


@needs_compiler
def test_growth_overflows_once_and_shrinking_frees_the_wire(kernels: Emulated) -> None:
    shares = (*STEADY, *GROWN, *WHOLE, *SHRUNK, *NOTHING)
    for refits in run_ranks(train, 2, find_scenario("s6"), 2, kernels, shares):
        wrong, overflows, sizes = zip(*refits, strict=True)
        assert wrong == (0,) * len(shares)
        assert overflows[: len(STEADY)] == (0,) * 4, "whole windows go first"
        assert overflows[4:8] == (1, 1, 2, 2), "what is once known has room"
        assert overflows[-1] == 2
        assert sizes[3] < sizes[0] / 4
        assert sizes[3] < sizes[5] < sizes[7] == sizes[0]
        assert sizes[12] < sizes[7] / 4


@needs_compiler
def test_idle_ranks_and_several_peers(kernels: Emulated) -> None:
    for refits in run_ranks(train, 4, find_scenario("s1"), 3, kernels, (0.01, 0.01, 0.01, 0.3, 0.3)):
        assert [wrong for wrong, _, _ in refits] == [0] * 5
        assert refits[-1][1] == 1
    assert refits[-1][2] == 0


# What each fault does on rank 1 before a refit, and what all ranks must then say.


def damage(engine: SentEngine, at: Callable[[int, int], int]) -> None:
    """One bit of what rank 1 has scanned, before it is sent."""
    carrier = engine._mover._carrier
    carry = carrier.carry

    def damaged(number: int) -> None:
        (_, payload, stride), *_ = carrier._out.values()
        carrier._sent[number % 2 * stride + at(payload, stride)] ^= 16
        carry(number)

    carrier.carry = damaged


def damage_bytes(engine: SentEngine) -> None:
    damage(engine, lambda payload, _: payload + 70)


def damage_digest(engine: SentEngine) -> None:
    damage(engine, lambda *_: 24)


def another_refit(engine: SentEngine) -> None:
    damage(engine, lambda *_: 0)


def another_state(engine: SentEngine) -> None:
    engine._mover._in.chains.add_(1)


def no_limit(engine: SentEngine) -> None:
    """Rank 1 does not know how little arrives."""
    engine._mover._carrier._limits.fill_(1 << 40)


NO_TILE, ANOTHER_REFIT, ANOTHER_STATE, DAMAGED = (f"{MEANINGS[bit]} arrived" for bit in (1, 2, 4, 8))
FAULTS: dict[Callable[[SentEngine], None], tuple[float, set[str]]] = {
    damage_bytes: (0.05, {NO_TILE, DAMAGED}),
    damage_digest: (0.05, {DAMAGED}),
    another_refit: (0.05, {ANOTHER_REFIT}),
    another_state: (0.05, {ANOTHER_STATE}),
    no_limit: (0.5, {NO_TILE, DAMAGED}),
}


def with_fault(fault: Callable[[SentEngine], None], share: float, kernels: Emulated) -> tuple[int, set[str]]:
    """Wrong elements after all refits, of which the fourth has a fault on rank 1, and why any was full."""
    _, training, engine = prepared(find_scenario("s6"), 2, kernels)
    wrong = 0
    for number in range(5):
        if number == 3 and dist.get_rank() == 1:
            carry = engine._mover._carrier.carry
            fault(engine)
        training.step(share if number > 2 else 0.05)
        engine.refit()
        wrong += training.wrong()
        if number == 3 and dist.get_rank() == 1:
            engine._mover._carrier.carry = carry
    return wrong, set(engine.describe()["full_refits"])


@needs_compiler
@pytest.mark.parametrize("fault", FAULTS, ids=lambda f: f.__name__)
def test_planted_faults_are_answered_by_a_full_refit(
    fault: Callable[[SentEngine], None], kernels: Emulated
) -> None:
    share, meanings = FAULTS[fault]
    for wrong, reasons in run_ranks(with_fault, 2, fault, share, kernels):
        assert wrong == 0
        assert reasons & meanings


@needs_compiler
def test_a_kernel_that_does_not_tell_of_overflow_is_found(tmp_path: Path) -> None:
    """Its digest is another then, so that the weights are right all the same, but the reason is not."""
    source = Path(delta_sent.__file__).with_name("delta_kernel.cu").read_text()
    line = "if (limits && header[4] > limits[s]) found |= 16;"
    assert source.count(line) == 1
    broken = Emulated(tmp_path, source.replace(line, ""))
    for refits in run_ranks(train, 2, find_scenario("s6"), 2, broken, (0.01,) * 4 + (0.5,)):
        assert refits[-1][:2] == (0, 0)
