"""The suite's own tests: their ranks use CPUs on every machine, 8 of them."""

import hypothesis
import pytest

hypothesis.settings.register_profile("suite", deadline=None)
hypothesis.settings.load_profile("suite")
"""How long one generated example takes says nothing on a machine that also runs ranks."""


def pytest_itemcollected(item: pytest.Item) -> None:
    """What needs a GPU is marked `gpu` and runs in a process of its own."""
    item.add_marker("cpu_ranks")
