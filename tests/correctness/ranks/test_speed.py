"""What the control plane costs."""

import json
import os
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

Inner = Callable[..., Any]

TRIVIAL = """
    import pytest
    from fixtures.ranks import agree, all_gather_object_oob, current_rank

    @pytest.mark.distributed
    @pytest.mark.parametrize("i", range(60))
    def test_trivial(i):
        pass
"""

CROWD = """
    import pytest
    from fixtures.ranks import all_gather_object_oob, current_rank, publish_record

    @pytest.mark.distributed
    def test_everyone():
        info = current_rank()
        assert all_gather_object_oob(info.rank) == list(range(128))
        publish_record({"ranks": info.world_size})
"""

TIMES = """
    import json, pathlib, time
    import pytest

    SPENT = {}

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_protocol(item):
        start = time.perf_counter()
        answer = yield
        SPENT[item.name] = time.perf_counter() - start
        return answer

    def pytest_sessionfinish():
        pathlib.Path("times.json").write_text(json.dumps(SPENT))
"""


def test_overhead_on_8_local_ranks(inner: Inner, tmp_path: Path) -> None:
    crowding = max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))
    run = inner(TRIVIAL, "--ranks=8", "-p", "no:terminal", conftest=TIMES)
    assert run.code == 0
    times = sorted(list(json.loads((tmp_path / "times.json").read_text()).values())[1:])
    middle, best = 1e3 * statistics.median(times), 1e3 * times[0]
    print(
        f"8 ranks: {middle:.1f} ms an item in the middle, {best:.1f} ms at best, {crowding:.1f} jobs a core"
    )
    assert times[len(times) // 10] < 0.015 * crowding, "15 ms, more where other work holds the cores"


def test_128_ranks_come_up_run_an_item_and_leave(inner: Inner) -> None:
    run = inner(CROWD, "--ranks=128", "--deadline=start=60")
    assert run.outcome("test_everyone") == "passed", run.output
    print(f"128 ranks: forked, ran an item with a gather of all, and left in {run.seconds:.1f} s")
    assert run.seconds < 60
