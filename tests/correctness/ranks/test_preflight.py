"""A session with ranks looks at its nodes before anything is timed."""

from typing import Any

TIMED = """
    import pytest

    @pytest.mark.distributed
    def test_timed(benchmark):
        benchmark.pedantic(lambda: None, rounds=1)
"""

BROKEN = """
    from dataclasses import replace
    import fixtures.plugins.ranks as plugin
    from fixtures.health.gpus import GpuProbe

    probe = plugin.probe_node

    def planted():
        gpu = GpuProbe(index=0, uncorrected_errors=2)
        return replace(probe(), host="node3", expected_gpus=1, gpus=(gpu,))

    plugin.probe_node = planted
"""


def test_a_bad_node_ends_the_run_before_anything_is_timed(inner: Any) -> None:
    run = inner(TIMED, "--ranks=2", conftest=BROKEN)
    assert run.code == 1
    assert "preflight failed on node3: GPU 0 has 2 uncorrected memory errors (reset the GPU)" in run.output
    assert run.cases == {}


def test_preflight_can_be_left_out(inner: Any) -> None:
    assert inner(TIMED, "--ranks=2", "--preflight=off", conftest=BROKEN).code == 0


def test_a_harmful_environment_is_told_at_the_end(inner: Any) -> None:
    run = inner(TIMED, "--ranks=2", NCCL_DEBUG="INFO")
    assert run.code == 0, run.output
    assert "NCCL_DEBUG=INFO logs every operation" in run.output
