"""The engines on GPUs: kernel, mapped memory, windows, ordering and endurance. Skipped without them."""

import importlib.util
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch

from fixtures.cases.scenarios import SCENARIOS, Scenario, find_scenario
from fixtures.engines.copies import CopyTable, bounded
from fixtures.engines.direct import DirectEngine
from fixtures.engines.kernel import kernel_module, resident
from fixtures.engines.packed import PackedEngine
from fixtures.engines.repairs import KERNEL
from tests.correctness.engines.gang import run_ranks
from tests.correctness.engines.synthetic import fill, mismatches, poison, synthetic_plan, twin_pair

WINDOWS = torch.cuda.device_count() > 1 and importlib.util.find_spec("nvshmem") is not None
"""NVSHMEM needs a GPU for each rank; the other engines also run where ranks share one."""


def random_table(rng: np.random.Generator, src: int, dst: int, size: int) -> CopyTable:
    """Copies of random shape and alignment whose targets do not overlap."""
    rows, at = [], 0
    while at < size - 70_000:
        align = int(rng.choice([1, 2, 4, 16, 256]))
        width = max(int(rng.integers(1, 3000)) // align, 1) * align
        count = int(rng.integers(1, 9))
        gap = int(rng.integers(0, 9)) * align
        begin = -(-at // align) * align
        start = int(rng.integers(0, (size - 70_000) // align)) * align
        rows.append(
            [src + start, dst + begin, count, width, width + int(rng.integers(0, 5)) * align, width + gap]
        )
        at = begin + count * (width + gap)
    return CopyTable.from_rows(np.array(rows))


def moved_by_hand(table: CopyTable, source: np.ndarray, target: np.ndarray, src: int, dst: int) -> np.ndarray:
    for s, d, rows, width, s_stride, d_stride in table.as_rows().tolist():
        for row in range(rows):
            a, b = s - src + row * s_stride, d - dst + row * d_stride
            target[b : b + width] = source[a : a + width]
    return target


@pytest.mark.gpu
@pytest.mark.parametrize("blocks", [0, 3, 500])
def test_kernel_copies_any_shape(blocks: int) -> None:
    device = torch.device("cuda", 0)
    rng = np.random.default_rng(7)
    source = torch.randint(0, 256, (4 << 20,), dtype=torch.uint8, device=device)
    target = torch.zeros_like(source)
    table = random_table(rng, source.data_ptr(), target.data_ptr(), source.numel())
    pieces = bounded(table)
    stream = torch.cuda.current_stream().cuda_stream
    resident(pieces, device).run(stream, blocks=blocks)
    wanted = moved_by_hand(
        table, source.cpu().numpy(), np.zeros(source.numel(), np.uint8), source.data_ptr(), target.data_ptr()
    )
    assert np.array_equal(target.cpu().numpy(), wanted)


@pytest.mark.gpu
def test_chunked_kernel_of_the_nvshmem_service() -> None:
    device = torch.device("cuda", 0)
    source = torch.randint(0, 256, (1 << 20,), dtype=torch.uint8, device=device)
    target = torch.zeros_like(source)
    offsets = torch.tensor([0, 1024, 5003, 200_001, 400_016], device=device)
    sizes = torch.tensor([1000, 3000, 131_072, 7, 131_072], device=device)
    src, dst = offsets + source.data_ptr(), offsets + target.data_ptr()
    stream = torch.cuda.current_stream().cuda_stream
    kernel_module(device).launch(
        KERNEL, 75, 1024, stream, src.data_ptr(), dst.data_ptr(), sizes.data_ptr(), len(sizes)
    )
    wanted = torch.zeros_like(source)
    for offset, size in zip(offsets.tolist(), sizes.tolist(), strict=True):
        wanted[offset : offset + size] = source[offset : offset + size]
    assert torch.equal(target, wanted)


def make(kind: str) -> Any:
    if kind == "packed":
        return PackedEngine(memory_bytes=3 << 20, planner=synthetic_plan)
    if kind == "windows":
        return DirectEngine(peer_mapping=False, memory_bytes=3 << 20, planner=synthetic_plan)
    return DirectEngine(direction=kind, planner=synthetic_plan)


KINDS = ["push", "pull", "measure", "packed", *(["windows"] if WINDOWS else [])]


def endure(kind: str, scenario: Scenario, refits: int) -> dict[str, Any]:
    """Refits right behind an update of the source on another stream, and the target's pointers and memory."""
    device = torch.device("cuda", torch.cuda.current_device())
    pair = twin_pair(scenario, 2, device)
    pointers = [t.data_ptr() for t in pair.target.values()]
    engine = make(kind)
    engine.prepare(pair)
    side, wrong, memory = torch.cuda.Stream(device), [], []
    for generation in range(refits):
        poison(pair)
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            torch.cuda._sleep(20_000_000)
            fill(pair, generation)
        torch.cuda.current_stream().wait_stream(side)
        engine.refit()
        wrong.append(mismatches(pair, generation))
        memory.append(torch.cuda.mem_get_info(device)[0])
    phases, facts, transport = engine.profile(), engine.describe(), engine.transport
    engine.close()
    same = pointers == [t.data_ptr() for t in pair.target.values()]
    return {
        "wrong": sum(wrong),
        "same": same,
        "losses": sum(before > after for before, after in pairwise(memory[1:])),
        "phases": phases,
        "facts": facts,
        "transport": transport,
    }


@pytest.mark.gpu
@pytest.mark.parametrize("kind", KINDS)
def test_fifty_refits_behind_updates(kind: str) -> None:
    for answer in run_ranks(endure, 2, kind, find_scenario("s6"), 50, device="cuda"):
        assert answer["wrong"] == 0
        assert answer["same"]
        assert answer["losses"] < 5, "free memory fell again and again; other processes may take some once"
        explained = sum(ms for phase, ms in answer["phases"].items() if phase != "total")
        assert explained <= 1.001 * answer["phases"]["total"]


ONE_TO_ONE = Scenario(
    key="own",
    source=SCENARIOS[0].source.divided(8, 8),
    target=SCENARIOS[0].target.divided(8, 4),
    mode="non-collocated",
    method="nvshmem",
    purpose="one GPU to another",
)


@pytest.mark.gpu
@pytest.mark.parametrize("kind", KINDS)
def test_one_gpu_to_another(kind: str) -> None:
    for answer in run_ranks(endure, 2, kind, ONE_TO_ONE, 3, device="cuda"):
        assert answer["wrong"] == 0


def several(kinds: list[str]) -> list[int]:
    """Every engine at once on pairs of its own, then again after closing."""
    device = torch.device("cuda", torch.cuda.current_device())
    pairs = [twin_pair("s7", 2, device) for _ in kinds]
    engines = [make(kind) for kind in kinds]
    wrong = []
    for again in range(2):
        for number, (engine, pair) in enumerate(zip(engines, pairs, strict=True)):
            engine.prepare(pair)
            fill(pair, number + again)
            poison(pair)
        for engine in engines:
            engine.refit()
        wrong += [mismatches(pair, number + again) for number, pair in enumerate(pairs)]
        for engine in engines:
            engine.close()
    return wrong


@pytest.mark.gpu
def test_several_pairs_at_once_and_again() -> None:
    assert [sum(w) for w in run_ranks(several, 2, KINDS, device="cuda")] == [0, 0]


def faulty(fault: str) -> int:
    device = torch.device("cuda", torch.cuda.current_device())
    pair = twin_pair("s6", 2, device)
    engine = make("push")
    engine.prepare(pair)
    rows = engine._mapped._entries._rows
    if fault == "skipped piece":
        rows[len(rows) // 2, 2] = 0
    else:
        rows[int(rows[:, 2].argmax()), 5] += 2
    fill(pair, 1)
    poison(pair)
    engine.refit()
    return mismatches(pair, 1)


@pytest.mark.gpu
@pytest.mark.parametrize("fault", ["skipped piece", "wrong stride"])
def test_planted_faults_are_found(fault: str) -> None:
    assert min(run_ranks(faulty, 2, fault, device="cuda")) > 0
