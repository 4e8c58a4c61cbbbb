"""Mappings of peers' allocations and the NVSHMEM repair, with the driver's calls replaced."""

from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

import fixtures.engines.peers as peers
import fixtures.engines.repairs as repair
from fixtures.engines.kernel import DriverError
from fixtures.engines.peers import ALLOCATION_WIDTH, IpcMappings


def row(base: int, nbytes: int, handle: int) -> list[int]:
    return [base, nbytes, *[handle] * (ALLOCATION_WIDTH - 2)]


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Opening handle h maps it at 1000 * h; calls are noted."""
    calls: list[str] = []

    def ipc_open(handle: bytes) -> int:
        number = int(np.frombuffer(handle, dtype=np.int64)[0])
        if number == 13:
            raise DriverError("cuIpcOpenMemHandle failed: CUDA_ERROR_INVALID_VALUE (1)")
        calls.append(f"open {number}")
        return 1000 * number

    monkeypatch.setattr(peers, "ipc_open", ipc_open)
    monkeypatch.setattr(peers, "ipc_close", lambda base: calls.append(f"close {base // 1000}"))
    monkeypatch.setattr(torch.cuda, "current_stream", lambda: None)
    return calls


@pytest.fixture
def mappings(driver: list[str], monkeypatch: pytest.MonkeyPatch) -> tuple[IpcMappings, IpcMappings]:
    monkeypatch.setattr(torch.cuda, "device", lambda _: nullcontext())
    return IpcMappings(torch.device("cpu")), IpcMappings(torch.device("cpu"))


def test_addresses_are_translated(mappings: tuple[IpcMappings, IpcMappings]) -> None:
    mapping = mappings[0].open(np.array([row(500, 100, 7), row(100, 50, 3)]))
    assert mapping.here(np.array([100, 149, 500, 599])).tolist() == [3000, 3049, 7000, 7099]
    for outside in (99, 150, 600):
        with pytest.raises(DriverError, match="of a peer is not mapped"):
            mapping.here(np.array([outside]))
    mappings[0].close()


def test_two_engines_share_a_mapping(mappings: tuple[IpcMappings, IpcMappings], driver: list[str]) -> None:
    first, second = mappings
    first.open(np.array([row(0, 10, 3), row(20, 10, 4)]))
    second.open(np.array([row(0, 10, 3)]))
    first.close()
    assert driver == ["open 3", "open 4", "close 4"]
    second.close()
    assert driver[-1] == "close 3"


def test_what_cannot_be_mapped_says_so(mappings: tuple[IpcMappings, IpcMappings]) -> None:
    with pytest.raises(DriverError, match="CUDA_ERROR_INVALID_VALUE"):
        mappings[0].open(np.array([row(0, 10, 13)]))


def test_the_repair_installs_and_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    from megatron.core.resharding.nvshmem_copy_service.core.kernel_launcher import KernelLauncher

    monkeypatch.setenv("NVSHMEM_MAX_CTAS", "2")
    launched: list[tuple[Any, ...]] = []
    module = SimpleNamespace(launch=lambda *values: launched.append(values))
    monkeypatch.setattr(repair, "kernel_module", lambda _: module)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    shipped = KernelLauncher.load_kernels
    repair.install_chunked_kernel()
    undo = repair.install_chunked_kernel()
    launcher = KernelLauncher()
    launcher.load_kernels()
    source, target, sizes = (SimpleNamespace(data=SimpleNamespace(ptr=p)) for p in (10, 20, 30))
    launcher.chunked_copy_kernel((75,), (1024,), (source, target, sizes, 4), stream=SimpleNamespace(ptr=9))
    assert launched == [(repair.KERNEL, 75, 1024, 9, 10, 20, 30, 4)]
    undo()
    assert KernelLauncher.load_kernels is shipped
