"""The CPU seam changes torch.cuda inside its body and nowhere else."""

import pytest
import torch

from fixtures.models.cpu_seam import _stub_cuda, cpu_seam

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
STUBBED = tuple(_stub_cuda())


def cuda_calls() -> list[object]:
    return [vars(torch.cuda)[name] for name in STUBBED]


def test_torch_is_untouched_outside() -> None:
    before = cuda_calls()
    with cpu_seam(CPU):
        assert all(a is not b for a, b in zip(before, cuda_calls(), strict=True))
    assert all(a is b for a, b in zip(before, cuda_calls(), strict=True))


def test_an_error_inside_still_restores_torch() -> None:
    before = cuda_calls()
    with pytest.raises(RuntimeError, match="inside"), cpu_seam(CPU):
        raise RuntimeError("inside")
    assert cuda_calls() == before


def test_nested_seams_restore_at_the_outermost() -> None:
    before = cuda_calls()
    with cpu_seam(CPU):
        with cpu_seam(CPU):
            pass
        assert all(a is not b for a, b in zip(before, cuda_calls(), strict=True))
        assert torch.cuda.current_device() == CPU
    assert cuda_calls() == before


def test_a_gpus_ranks_see_the_real_calls() -> None:
    before = cuda_calls()
    with cpu_seam(CUDA):
        assert cuda_calls() == before


def test_what_megatron_calls_does_nothing_inside() -> None:
    with cpu_seam(CPU):
        stream, event = torch.cuda.Stream(), torch.cuda.Event(enable_timing=False)
        with torch.cuda.stream(stream):
            torch.cuda.current_stream().wait_stream(stream)
        event.record(stream)
        stream.wait_event(event)
        event.synchronize()
        torch.cuda.synchronize()
        torch.cuda.empty_cache()
        assert torch.empty(2, device=torch.cuda.current_device()).device == CPU


def test_the_calls_are_really_missing_outside() -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has GPUs")
    with pytest.raises((AssertionError, RuntimeError)):
        torch.cuda.current_device()
