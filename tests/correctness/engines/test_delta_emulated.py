"""The delta kernels on a CPU: the bytes that the codec makes, at every share; planted faults are found."""

from pathlib import Path

import pytest
import torch

from fixtures.engines.delta_kernels import SOURCE
from tests.correctness.engines.emulated import COMPILER, Emulated
from tests.correctness.engines.one_stream import scanned_and_applied

pytestmark = pytest.mark.skipif(COMPILER is None, reason="no g++ here to compile the kernels for a CPU")
SIZE = 200_000
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def kernels(tmp_path_factory: pytest.TempPathFactory) -> Emulated:
    return Emulated(tmp_path_factory.mktemp("kernels"))


@pytest.mark.parametrize("share", [0, 0.01, 0.33, 1])
@pytest.mark.parametrize("kind", ["random", "near", "ulp"])
def test_kernels_write_and_read_what_the_codec_does(kernels: Emulated, share: float, kind: str) -> None:
    scanned_and_applied(share, kind, 5, SIZE, CPU, kernels)


FAULTS = {
    "high bytes left out": ("if (wide) out[plane + rank] = value >> 8;", ""),
    "a snapshot left as it was": ("store(old + at, *(const Vector *)(stage.fresh + at));", ""),
    "positions of another sector": ("= 16 * sector + bit;", "= 16 * (sector ^ 1) + bit;"),
    "sectors after the first 32 counted from nothing": ("base = __shfl_sync(FULL, upto, 31);", ""),
    "places counted over blocks": ("- __shfl_sync(FULL, before, j) & 255", "& 255"),
    "high bytes of a neighbour": ("FULL << from & FULL >> (32 - to)", "FULL >> (32 - to)"),
    "a tile left out": ("first + gridDim.x + atomicAdd", "first + gridDim.x + 1 + atomicAdd"),
    "a digest without lengths": ("(warp == 0 ? length : 0)", "0"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_kernel_with_a_fault_is_found(tmp_path: Path, fault: str) -> None:
    right, wrong = FAULTS[fault]
    source = SOURCE.read_text()
    assert source.count(right) == 1
    kind = "ulp" if fault == "high bytes of a neighbour" else "random"
    with pytest.raises(AssertionError):
        scanned_and_applied(0.05, kind, 5, SIZE, CPU, Emulated(tmp_path, source.replace(right, wrong)))
