"""Planted machines: every problem that the doctor knows is found, and a fit machine is called fit."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from fixtures.cases.scenarios import SCENARIOS, find_scenario
from fixtures.health import machine as probing
from fixtures.health.doctor import CHECKS, examine, version_tuple
from fixtures.health.finding import Finding
from fixtures.health.gpus import GpuProbe
from fixtures.health.machine import Machine, probe
from fixtures.ranks.discovery import Launched
from tools import doctor
from tools.__main__ import main as run

H200 = GpuProbe(
    index=0, name="NVIDIA H200", max_mhz=1980, throttled=(), uncorrected_errors=0, links=18, links_up=18,
    free_bytes=149_000_000_000, total_bytes=150_000_000_000, processes=0,
)  # fmt: skip
FIT = Machine(
    python=(3, 12),
    packages={
        "torch": "2.11.0+cu130", "megatron-core": "0.19.2", "nccl": "2.28.9", "nvshmem4py": "0.3.1",
        "cuda-core": "0.5.0", "nixl": "1.5.1", "cupy": "13.6.0", "nvidia-ml-py": "13.0",
    },
    distributions=("torch", "nvidia-nccl-cu13", "nvshmem4py-cu13", "cupy-cuda13x"),
    torch_cuda="13.0", driver="580.65.06", gpus=(H200,) * 8, device_files=8, nics=tuple("abcdefgh"), nodes=16,
)  # fmt: skip


SMALL = replace(H200, total_bytes=45 * 10**9, free_bytes=45 * 10**9)


def with_package(name: str, version: str | None) -> Machine:
    return replace(FIT, packages={**FIT.packages, name: version})


def with_setting(name: str, value: str) -> Machine:
    return replace(FIT, settings={name: value})


def problems(machine: Machine, key: str | None = None) -> list[Finding]:
    found = examine(machine, find_scenario(key) if key else None)
    assert all(finding.advice for finding in found if finding.level == "problem")
    return [finding for finding in found if finding.level == "problem"]


def test_a_fit_allocation_has_no_problem_with_any_scenario() -> None:
    for scenario in (None, *SCENARIOS):
        findings = examine(FIT, scenario)
        assert {finding.level for finding in findings} == {"ok"}, findings
        assert len({finding.what for finding in findings}) >= 11


PLANTED: dict[str, tuple[Machine, str | None, str]] = {
    "old python": (replace(FIT, python=(3, 11)), None, "Python"),
    "no torch": (with_package("torch", None), None, "torch"),
    "old torch": (with_package("torch", "2.5.1"), None, "torch"),
    "cpu torch on GPUs": (replace(FIT, torch_cuda=None), None, "torch"),
    "no megatron": (with_package("megatron-core", None), None, "megatron-core"),
    "other megatron": (with_package("megatron-core", "0.16.0"), None, "megatron-core"),
    "old driver": (replace(FIT, driver="570.10"), None, "driver"),
    "no nvshmem": (with_package("nvshmem4py", None), "s1", "nvshmem4py"),
    "old nvshmem": (with_package("nvshmem4py", "0.2.9"), None, "nvshmem4py"),
    "old cuda-core": (with_package("cuda-core", "0.3.2"), None, "nvshmem4py"),
    "no cupy": (with_package("cupy", None), "s1", "cupy"),
    "no nixl": (with_package("nixl", None), "8:8:8:4:non-collocated:nixl", "nixl"),
    "no such method": (replace(FIT, methods=("nccl", "gloo")), "s1", "method"),
    "two cupys": (replace(FIT, distributions=("cupy-cuda13x", "cupy")), None, "cupy"),
    "mixed CUDA": (replace(FIT, distributions=("nvshmem4py-cu12",)), None, "CUDA packages"),
    "dead driver": (replace(FIT, gpus=()), None, "GPUs"),
    "mixed GPUs": (replace(FIT, gpus=(H200, replace(H200, name="NVIDIA H100"))), None, "GPUs"),
    "no NVLink": (replace(FIT, gpus=(replace(H200, links=0, links_up=0),) * 2), None, "NVLink"),
    "busy GPU": (replace(FIT, gpus=(H200, replace(H200, free_bytes=9**11))), None, "preflight"),
    "hot GPU": (replace(FIT, gpus=(replace(H200, throttled=("hardware slowdown",)),)), None, "preflight"),
    "pinned GPU": (replace(FIT, gpus=(replace(H200, pinned_mhz=990),)), None, "preflight"),
    "NVLink error": (replace(FIT, xids=(74,)), None, "preflight"),
    "no NIC": (replace(FIT, nics=()), None, "NICs"),
    "locked memory": (replace(FIT, memlock_bytes=65536), None, "NICs"),
    "two launchers": (replace(FIT, contradiction="srun says 0, torchrun says 1"), None, "ranks"),
    "too few ranks": (replace(FIT, nodes=1, gpus=(H200,) * 2), "s4", "ranks"),
    "capped NCCL": (with_setting("NCCL_MAX_NCHANNELS", "4"), None, "environment"),
    "noisy NCCL": (with_setting("NCCL_DEBUG", "INFO"), None, "environment"),
    "NVML check off": (with_setting("PYTORCH_NVML_BASED_CUDA_CHECK", "0"), None, "environment"),
    "hidden GPUs": (with_setting("CUDA_VISIBLE_DEVICES", ""), None, "environment"),
}  # fmt: skip


@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_problem_is_found_and_nothing_else(name: str) -> None:
    machine, key, what = PLANTED[name]
    assert {finding.what for finding in problems(machine, key)} == {what}


def test_a_method_whose_time_no_prediction_tells_is_noted() -> None:
    newer = replace(FIT, methods=(*FIT.methods, "nccl_m2n"))
    (note,) = [f for f in examine(newer, find_scenario("8:8:8:4:non-collocated:nccl_m2n")) if f.level != "ok"]
    assert (note.what, note.level) == ("prediction", "note")
    assert note.found.endswith("cases of all weights measured on GPUs: megatron nccl_m2n (0)")


def test_every_check_has_a_planted_fault() -> None:
    planted = {id(check) for check in CHECKS if any(_levels(check, *case[:2]) for case in PLANTED.values())}
    silent = [check.__name__ for check in CHECKS if id(check) not in planted]
    assert silent == ["_prediction", "_nccl", "_memory", "_limits"], "these only make notes"


RUNS: dict[str, tuple[Machine, str, str]] = {
    "no GPU": (replace(FIT, gpus=(), device_files=0, nodes=1), "GPUs", "ranks run on CPU over gloo"),
    "small GPUs": (replace(FIT, gpus=(SMALL,) * 8), "GPU memory", "cut to the layers that fit"),
    "one GPU": (replace(FIT, nodes=1, gpus=(H200,)), "ranks", "their times cannot be compared"),
}


@pytest.mark.parametrize("name", RUNS)
def test_where_a_bench_runs_it_is_a_note_as_what(name: str) -> None:
    machine, what, said = RUNS[name]
    assert problems(machine, "s6") == []
    advice = [f.advice for f in examine(machine, find_scenario("s6")) if (f.what, f.level) == (what, "note")]
    assert any(said in text for text in advice)


def _levels(check: Callable, machine: Machine, key: str | None) -> bool:
    scenario = find_scenario(key) if key else None
    return any(finding.level == "problem" for finding in check(machine, scenario))


def test_a_machine_with_fewer_ranks_runs_a_twin() -> None:
    two = replace(FIT, nodes=1, gpus=(H200,) * 2)
    (note,) = [f for f in examine(two, find_scenario("s6")) if f.level == "note"]
    assert note.advice == "s6 runs as its twin 8,8: TP2,EP1 to TP1,EP2"


def test_a_launchers_ranks_count() -> None:
    launch = Launched(launcher="srun", rank=0, world_size=128, local_rank=0, local_world_size=8, job="7")
    found = {f.what: f for f in examine(replace(FIT, nodes=1, launch=launch), find_scenario("s7"))}
    assert found["ranks"].found == "128, started by srun"


def test_a_laptop_is_fit_for_correctness() -> None:
    laptop = replace(FIT, gpus=(), device_files=0, nodes=1, torch_cuda=None, driver=None, open_files=1024)
    assert problems(laptop) == []
    notes = [f.what for f in examine(laptop) if f.level == "note"]
    assert notes == ["GPUs", "open files"]


def test_probe_reads_this_machine() -> None:
    here = probe({"SLURM_JOB_NUM_NODES": "12", "RANK": "x"})
    assert here.packages["megatron-core"]
    assert here.nodes == 12
    assert here.contradiction or here.launch is None


def test_probe_finds_active_ports(tmp_path: Path) -> None:
    for name, state in (("mlx5_0", "4: ACTIVE\n"), ("mlx5_1", "1: DOWN\n")):
        port = tmp_path / name / "ports" / "1"
        port.mkdir(parents=True)
        (port / "state").write_text(state)
    assert probing._active_nics(tmp_path) == ("mlx5_0",)
    assert probing._active_nics(tmp_path / "none") == ()


def test_versions_compare_as_numbers() -> None:
    assert version_tuple("2.13.0+cpu") > version_tuple("2.6")
    assert version_tuple("2.11.0a0") == (2, 11, 0)
    assert version_tuple("dev") == ()


@pytest.mark.parametrize(("machine", "code"), [(FIT, 0), (with_package("torch", None), 1)])
def test_exit_code_follows_the_findings(
    machine: Machine, code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(doctor, "probe", lambda: machine)
    assert run(["doctor"]) == code
    output = capsys.readouterr().out
    assert ("1 problem" in output) == bool(code)


def test_advice_is_printed_to_the_letter(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr(doctor, "probe", lambda: with_package("nvshmem4py", None))
    assert run(["doctor", "s1"]) == 1
    assert "pip install '.[gpu]' for megatron's method nvshmem" in capsys.readouterr().out


def test_unknown_scenario_is_one_sentence_and_code_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["doctor", "s9"]) == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 1
