"""What a forked child is asked for: its answer, or how it ended."""

import os
from pathlib import Path

import psutil
import pytest

from fixtures.refit.devices import asked_in_a_fork, host_bytes, rank_part


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


@pytest.mark.parametrize(
    ("groups", "limits", "limit"),
    [
        ("0::/job/step\n", {"job/step": "max", "job": "4096"}, 4096),
        ("0::/job/step\n", {"job/step": "512", "job": "4096"}, 512),
        ("0::/\n", {"": "8192"}, 8192),  # in a container
        ("12:memory:/job\n0::/\n", {"job": "4096"}, None),  # version 1 has other files
        ("", {"job": "4096"}, None),
    ],
)
def test_a_control_groups_limit_is_the_memory_at_hand(
    tmp_path: Path, groups: str, limits: dict[str, str], limit: int | None
) -> None:
    if groups:
        (tmp_path / "proc" / "self").mkdir(parents=True)
        (tmp_path / "proc" / "self" / "cgroup").write_text(groups)
    for folder, text in limits.items():
        group = tmp_path / "sys" / "fs" / "cgroup" / folder
        group.mkdir(parents=True, exist_ok=True)
        (group / "memory.max").write_text(f"{text}\n")
    assert host_bytes(tmp_path) == (limit or psutil.virtual_memory().total)
