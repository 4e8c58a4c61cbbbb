"""As many ranks as the largest scenario has, on one machine."""

from collections.abc import Callable
from typing import Any

CROWD = """
    import pytest
    from fixtures.ranks import all_gather_object_oob, current_rank, publish_record

    @pytest.mark.distributed
    def test_everyone():
        info = current_rank()
        assert all_gather_object_oob(info.rank) == list(range(128))
        publish_record({"ranks": info.world_size})
"""


def test_128_ranks_come_up_run_an_item_and_leave(inner: Callable[..., Any]) -> None:
    run = inner(CROWD, "--ranks=128", "--deadline=600")
    assert run.outcome("test_everyone") == "passed", run.output
    assert run.code == 0, run.output
