"""Preflight finds what is planted, and nothing on a healthy node."""

from dataclasses import replace
from typing import Any

import pytest

from fixtures.health import gpus as probing
from fixtures.health.gpus import GpuProbe
from fixtures.health.node import NodeProbe
from fixtures.health.preflight import judge, obstacle

GIB = 2**30


def healthy(index: int = 0) -> GpuProbe:
    """An idle H200."""
    return GpuProbe(
        index=index,
        name="NVIDIA H200",
        max_mhz=1980,
        pinned_mhz=1980,
        throttled=(),
        uncorrected_errors=0,
        links_up=18,
        links=18,
        free_bytes=140 * GIB,
        total_bytes=141 * GIB,
        processes=0,
    )


def node(*gpus: GpuProbe, environ: dict[str, str] | None = None, **change: Any) -> NodeProbe:
    """A node with these GPUs and nothing wrong."""
    usual: dict[str, Any] = {"host": "node7", "expected_gpus": len(gpus), "gpus": gpus, "xids": ()}
    return NodeProbe(**{**usual, "environ": environ or {}, **change})


def levels(probe: NodeProbe) -> list[tuple[str, str]]:
    """Level and words of all findings."""
    return [(finding.level, finding.found) for finding in judge(probe)]


def test_a_healthy_node_is_fit() -> None:
    findings = judge(node(healthy(0), healthy(1)))
    assert [finding.level for finding in findings] == ["ok"]
    assert obstacle(findings) is None


@pytest.mark.parametrize(
    ("change", "level", "what"),
    [
        (
            {"throttled": ("hardware thermal slowdown",)},
            "problem",
            "GPU 1 is throttled: hardware thermal slowdown",
        ),
        ({"uncorrected_errors": 3}, "problem", "GPU 1 has 3 uncorrected memory errors"),
        ({"links_up": 17}, "problem", "GPU 1 has 17 of 18 NVLinks up"),
        ({"links_up": 12, "links": 12}, "problem", "GPU 1 has 12 NVLinks, others have 18"),
        ({"processes": 2}, "problem", "GPU 1 is used by 2 other process(es)"),
        ({"free_bytes": 100 * GIB}, "problem", "GPU 1 has 100 of 141 GiB free though no process shows"),
        ({"pinned_mhz": 1200}, "ungateable", "GPU 1 is pinned to 1200 of 1980 MHz"),
        ({"throttled": None}, "note", "GPU 1 does not tell its throttling"),
        ({"processes": None}, "note", "GPU 1 does not tell its other processes"),
    ],
)
def test_one_planted_fault_is_the_one_finding(change: dict[str, Any], level: str, what: str) -> None:
    assert levels(node(healthy(0), replace(healthy(1), **change))) == [(level, what)]


def test_a_power_cap_on_an_idle_gpu_is_no_fault() -> None:
    assert levels(node(replace(healthy(), throttled=("power cap",)))) == [("ok", "nothing found")]


def test_a_missing_gpu_stops_timing_and_names_the_node() -> None:
    findings = judge(node(healthy(), expected_gpus=2))
    assert (
        obstacle(findings)
        == "preflight failed on node7: 2 GPUs were given, the driver shows 1 (drain the node)"
    )


@pytest.mark.parametrize(("number", "bad"), [(79, True), (74, True), (13, False), (43, False)])
def test_xids_of_hardware_stop_timing(number: int, bad: bool) -> None:
    sentence = obstacle(judge(node(healthy(), xids=(number,))))
    assert (sentence is not None and f"Xid {number}" in sentence) == bad


def test_what_cannot_be_read_is_unknown_and_stops_nothing() -> None:
    findings = judge(node(expected_gpus=8, gpus=None, xids=None))
    assert {finding.level for finding in findings} == {"note"}
    assert len(findings) == 2
    assert obstacle(findings) is None


@pytest.mark.parametrize(
    ("name", "value", "is_harmful"),
    [
        ("NCCL_MAX_NCHANNELS", "8", True),
        ("NCCL_DEBUG", "INFO", True),
        ("NCCL_DEBUG", "WARN", False),
        ("CUDA_LAUNCH_BLOCKING", "1", True),
        ("CUDA_LAUNCH_BLOCKING", "0", False),
        ("TORCH_DISTRIBUTED_DEBUG", "DETAIL", True),
        ("TORCH_DISTRIBUTED_DEBUG", "OFF", False),
        ("NCCL_P2P_DISABLE", "1", True),
        ("NCCL_SOCKET_IFNAME", "eth0", False),
    ],
)
def test_harmful_environment_marks_but_does_not_stop(name: str, value: str, is_harmful: bool) -> None:
    findings = judge(node(environ={name: value}))
    assert obstacle(findings) is None
    marks = [str(finding) for finding in findings if finding.level == "ungateable"]
    assert any(f"node7: {name}={value}" in text for text in marks) == is_harmful


class FakeNvml:
    """As much of NVML as is asked for; one GPU that refuses to tell about ECC."""

    NVML_NVLINK_MAX_LINKS = 18
    NVML_CLOCK_SM = 1
    NVML_MEMORY_ERROR_TYPE_UNCORRECTED = 1
    NVML_VOLATILE_ECC = 0

    def __init__(self, reasons: int) -> None:
        self.reasons, self.open = reasons, 0

    def nvmlInit(self) -> None:
        self.open += 1

    def nvmlShutdown(self) -> None:
        self.open -= 1

    def __getattr__(self, name: str) -> Any:
        answers = {
            "nvmlDeviceGetCount": 1,
            "nvmlDeviceGetHandleByIndex": "handle",
            "nvmlDeviceGetHandleByUUID": "handle",
            "nvmlDeviceGetName": b"H200",
            "nvmlDeviceGetCurrentClocksEventReasons": self.reasons,
            "nvmlDeviceGetNvLinkState": 1,
        }
        if name not in answers:
            raise AttributeError(name)
        return lambda *_: answers[name]


@pytest.mark.parametrize(
    ("bits", "reasons"),
    [(0x1, ()), (0x5, ("power cap",)), (0x48, ("hardware slowdown", "hardware thermal slowdown"))],
)
def test_nvml_is_asked_and_closed(
    monkeypatch: pytest.MonkeyPatch, bits: int, reasons: tuple[str, ...]
) -> None:
    probing._watched.cache_clear()
    nvml = FakeNvml(bits)
    monkeypatch.setitem(__import__("sys").modules, "pynvml", nvml)
    assert probing.gpu_throttled("1234") == reasons
    seen = probing.look_at_gpus()
    assert seen
    (gpu,) = seen.gpus
    assert (gpu.name, gpu.links, gpu.links_up, gpu.uncorrected_errors) == ("H200", 18, 18, None)
    assert nvml.open == 1, "for the GPU that is watched; none is left by the probe"
    probing._watched.cache_clear()


def test_without_nvml_everything_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    probing._watched.cache_clear()
    monkeypatch.setitem(__import__("sys").modules, "pynvml", None)
    assert probing.gpu_throttled("1234") is None
    probing._watched.cache_clear()
    assert probing.look_at_gpus() is None
