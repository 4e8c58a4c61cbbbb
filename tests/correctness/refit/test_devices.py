"""What a forked child is asked for: its answer, or how it ended."""

import os

import pytest

from fixtures.refit.devices import asked_in_a_fork, rank_part


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


@pytest.mark.parametrize(
    ("gpu", "sharing", "host", "ranks", "part"),
    [
        (150, 8, 140, 8, 10),  # one H200: the host's memory is what limits
        (85, 8, 140, 8, 10),  # one H100
        (48, 8, 140, 8, 6),
        (150, 1, 140, 2, 150),  # a GPU for each: nothing is sent from the host
        (150, 4, 280, 8, 21),
    ],
)
def test_ranks_that_share_a_gpu_are_given_what_their_host_can_send(
    gpu: int, sharing: int, host: int, ranks: int, part: int
) -> None:
    assert rank_part(gpu * 10**9, sharing, host * 10**9, ranks) // 10**9 == part
