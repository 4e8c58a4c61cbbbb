"""The signal protocol of the NVSHMEM windows: any order of streams ends, and no slot is overwritten early."""

import random
from collections import Counter, deque
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from fixtures.engines.copies import Segments
from fixtures.engines.plan import Stream
from fixtures.engines.rounds import Geometry, plan_rounds, side_of
from fixtures.engines.windows import WindowTransfer

WORLD, SLOTS, HEAP = 3, 2, 1 << 20
Step = Callable[[], bool]


def stream(nbytes: int) -> Stream:
    segments = Segments.from_rows(np.array([[0, 0, 1, nbytes, nbytes]]))
    return Stream(segments=segments, nbytes=nbytes, transfers=1, digest=0)


class Machine:
    """Ranks whose streams advance in any order; memory is which round of which sender a slot holds."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.lanes: dict[tuple[int, str], deque[Step]] = {}
        self.memory: list[dict[int, int]] = [{} for _ in range(WORLD)]
        self.windows: list[dict[int, Any]] = [{} for _ in range(WORLD)]
        self.wrong = 0

    def run(self) -> None:
        """Advance random lanes until all are empty; fails when none can move."""
        while live := [lane for lane in self.lanes.values() if lane]:
            self.random.shuffle(live)
            if not any(lane[0]() and (lane.popleft() or True) for lane in live):
                raise AssertionError("the ranks wait for each other for ever")


class Rank:
    """What a WindowTransfer sees: nvshmem calls and lanes that only queue steps."""

    def __init__(self, machine: Machine, rank: int) -> None:
        self.machine, self.rank, self.packed, self.blind = machine, rank, {}, False

    def queue(self, lane: str, step: Step) -> None:
        self.machine.lanes.setdefault((self.rank, lane), deque()).append(step)

    def handle(self, lane: str) -> str:
        return lane

    def span(self, _lane: str, _phase: str) -> Any:
        from contextlib import nullcontext

        return nullcontext()

    def putmem_on_stream(self, target: int, source: int, _nbytes: int, peer: int, lane: str) -> None:
        def step() -> bool:
            self.machine.windows[peer][target] = self.packed[source]
            return True

        self.queue(lane, step)

    def signal_op_on_stream(self, address: int, value: int, _op: int, peer: int, lane: str) -> None:
        def step() -> bool:
            self.machine.memory[peer][address] = value
            return True

        self.queue(lane, step)

    def signal_wait_until_on_stream(self, address: int, _cmp: int, value: int, lane: str) -> None:
        if not (self.blind and lane == "unpack"):
            self.queue(lane, lambda: self.machine.memory[self.rank].get(address, 0) >= value)


class Windows:
    """Symmetric buffers: the same addresses on every rank."""

    def __init__(self, base: int) -> None:
        self.base = base

    def data_ptr(self) -> int:
        return self.base


def transfer_of(machine: Machine, rank: int, sizes: dict[tuple[int, int], int]) -> WindowTransfer:
    outgoing = {p: stream(sizes[rank, p]) for p in range(WORLD) if (rank, p) in sizes}
    incoming = {p: stream(sizes[p, rank]) for p in range(WORLD) if (p, rank) in sizes}
    rounds = plan_rounds(40 << 20, 16 << 20, SLOTS, WORLD)
    send, receive = (side_of(streams, rounds, rank + 1, WORLD) for streams in (outgoing, incoming))
    shape = Geometry(rounds=rounds, send=send, receive=receive)
    transfer: Any = object.__new__(WindowTransfer)
    seen = Rank(machine, rank)
    transfer._call = transfer._lanes = seen
    transfer._set, transfer._at_least = 9, 5
    transfer._shape, transfer._slots, transfer._rank, transfer._world = shape, SLOTS, rank, WORLD
    transfer._send = [Windows(10 * HEAP + slot) for slot in range(SLOTS)]
    transfer._receive = [Windows((slot + 1) << 40) for slot in range(SLOTS)]
    transfer._signals, transfer._near = Windows(HEAP), set(outgoing)
    transfer._sent, transfer._arrived = Counter(), Counter()
    return transfer


def refit(machine: Machine, ranks: list[WindowTransfer], epoch: int, *, spoil: bool) -> None:
    for transfer in ranks:
        seen: Any = transfer._call
        seen.blind = spoil
        for number in range(transfer._shape.rounds.count):
            slot = transfer._shape.rounds.slot(number)
            for part in transfer._shape.send.parts[number]:
                source = transfer._send[slot].data_ptr() + part.offset
                pack(seen, source, (transfer._rank, epoch, number))
            transfer.carry(number)
            transfer.arrive(number)
            for part in transfer._shape.receive.parts[number]:
                at = transfer._receive[slot].data_ptr() + part.offset
                unpack(seen, at, (part.peer, epoch, number))
            transfer.release(number)
    machine.run()


def pack(seen: Rank, source: int, message: Any) -> None:
    def step() -> bool:
        seen.packed[source] = message
        return True

    seen.queue("wire", step)


def unpack(seen: Rank, at: int, wanted: Any) -> None:
    def step() -> bool:
        seen.machine.wrong += seen.machine.windows[seen.rank].get(at) != wanted
        return True

    seen.queue("unpack", step)


def all_ranks(machine: Machine) -> list[WindowTransfer]:
    sizes = {(0, 1): 30 << 20, (0, 2): 200, (1, 0): 9 << 20, (1, 2): 7 << 20, (2, 0): 31 << 20}
    ranks = [transfer_of(machine, rank, sizes) for rank in range(WORLD)]
    for transfer in ranks:
        offsets: Any = {}
        for other in ranks:
            for number, parts in enumerate(other._shape.receive.parts):
                for part in parts:
                    if part.peer == transfer._rank:
                        offsets.setdefault(other._rank, {})[number] = part.offset
        transfer._offsets = offsets
    return ranks


@pytest.mark.parametrize("seed", range(8))
def test_any_order_of_streams_ends_right(seed: int) -> None:
    machine = Machine(seed)
    ranks = all_ranks(machine)
    assert ranks[0]._shape.rounds.count > 3 * SLOTS
    for epoch in (1, 2, 3):
        refit(machine, ranks, epoch, spoil=False)
    assert machine.wrong == 0


def test_unpacking_without_waiting_is_found() -> None:
    machine = Machine(1)
    refit(machine, all_ranks(machine), 1, spoil=True)
    assert machine.wrong > 0
