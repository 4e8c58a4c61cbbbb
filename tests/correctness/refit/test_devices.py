"""What a forked child is asked for: its answer, or how it ended."""

import os

import pytest

from fixtures.refit.devices import asked_in_a_fork


def test_a_child_that_takes_too_long_is_killed_and_its_own_forks_are_not_waited_for() -> None:
    reading, writing = os.pipe()

    def stuck() -> None:
        os.close(writing)
        os.fork()
        os.read(reading, 1)
        os._exit(0)

    with pytest.raises(ChildProcessError, match="was killed by SIGKILL"):
        asked_in_a_fork(stuck, limit_s=1)
    os.close(writing)
    os.close(reading)
