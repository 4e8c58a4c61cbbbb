"""How long a test waits for what must come: only a hang lasts so long, so no verdict is a matter of speed."""

import time
from collections.abc import Callable

PATIENCE_S = 900.0
"""Seconds; longer than anything here takes while other work holds the cores."""


def wait_for[T](ready: Callable[[], T]) -> T:
    """What `ready` says once it says anything; AssertionError when patience ends."""
    until = time.monotonic() + PATIENCE_S
    while not (found := ready()):
        assert time.monotonic() < until, "what must come never came"
        time.sleep(0.02)
    return found
