"""Memory that nobody needs goes back to the system."""

import psutil
import pytest
import torch

from fixtures.timing import memory

MB = 1_000_000


def test_freed_pages_between_others_are_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks too small to be mapped on their own, every hundredth of which stays."""
    blocks = [torch.ones(1000) for _ in range(25_000)]
    kept = blocks[::100]
    full = psutil.Process().memory_info().rss
    blocks.clear()
    memory.give_back()
    assert psutil.Process().memory_info().rss < full - 50 * MB
    assert all(block.sum() == 1000 for block in kept)
    monkeypatch.setattr(memory.ctypes, "CDLL", lambda _: None)
    memory.give_back()  # a C library that cannot
