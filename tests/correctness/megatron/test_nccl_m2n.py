"""megatron-core's method nccl_m2n, which no release has yet, as a stub in a copy of the installed one."""

import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.correctness.cli.inner_runs import ROOT, SuiteRun, run_suite
from tests.correctness.surroundings import clean_environment

SERVICE = '''
from .nccl_copy_service import NCCLCopyService

class NCCLM2NCopyService(NCCLCopyService):
    """Takes what upstream's takes. The second that a process makes spoils what it receives."""
    made = 0

    def __init__(self, group=None):
        if group is None:
            raise RuntimeError("NCCLM2NCopyService requires an NCCL process group")
        super().__init__(group=group)
        type(self).made += 1

    def run(self):
        received = [op.tensor for op in self.recv_ops]
        super().run()
        if self.made > 1 and received:
            received[0].zero_()
'''
AS_ON_GPUS = """
import torch.distributed as dist
from fixtures.engines import registry

megatron, new_group = registry.ENGINES["megatron"], dist.new_group
registry.NEED_GPUS = ()
megatron.methods["cpu"] += ("nccl_m2n",)
megatron.needs["nccl_m2n"] = megatron.needs["nccl_m2n"][:1]

def over_gloo(*ranks, backend=None, **options):
    return new_group(*ranks, backend="gloo" if backend == "nccl" else backend, **options)

dist.new_group = over_gloo
"""
"""A plugin of pytest that lets CPU ranks stand for GPUs: only what NCCL itself needs is left out."""
OWN = '    elif backend == "nixl":'
ADDED = """    elif backend == "nccl_m2n":
        from .copy_services.nccl_m2n_copy_service import NCCLM2NCopyService

        service = NCCLM2NCopyService(group=group)
"""


@pytest.fixture(scope="module")
def newer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout: links to the installed megatron-core, and a resharding package with one method more."""
    spec = importlib.util.find_spec("megatron.core")
    assert spec is not None
    assert spec.origin is not None
    installed, folder = Path(spec.origin).parent, tmp_path_factory.mktemp("newer")
    core = folder / "megatron" / "core"
    core.mkdir(parents=True)
    for entry in installed.iterdir():
        if entry.name not in ("resharding", "__pycache__"):
            (core / entry.name).symlink_to(entry)
    resharding = Path(shutil.copytree(installed / "resharding", core / "resharding"))
    (resharding / "copy_services" / "nccl_m2n_copy_service.py").write_text(SERVICE)
    refit = resharding / "refit.py"
    assert refit.read_text().count(OWN) == 1
    refit.write_text(refit.read_text().replace(OWN, ADDED + OWN))
    return folder


@pytest.fixture(scope="module")
def run(newer: Path, tmp_path_factory: pytest.TempPathFactory) -> SuiteRun:
    """Two scenarios between other ranks, one of ranks that are both."""
    folder = tmp_path_factory.mktemp("run")
    (folder / "as_on_gpus.py").write_text(AS_ON_GPUS)
    chosen = [f"--scenario={key}" for key in ("s1", "s2", "s6")]
    options = ["--method=nccl_m2n", "--engine=megatron", "--ranks=3", "--iterations=2", "--warmup=0"]
    launcher = ["env", f"MEGATRON={newer}", f"PYTHONPATH={folder}", sys.executable, "-m"]
    return run_suite(folder, "-p", "as_on_gpus", *chosen, *options, launcher=launcher)


@pytest.mark.skipif(torch.cuda.device_count() > 0, reason="the stub is about gloo ranks on a CPU")
def test_what_is_found_by_looking_runs_and_its_mistake_is_named(run: SuiteRun) -> None:
    right, spoilt, collocated = (run.case(key) for key in ("s1", "s2", "s6"))
    assert (right["status"], right["mismatches"]) == ("passed", 0), run.output
    assert (right["method"], right["engine_facts"]) == ("nccl_m2n", {"service": "NCCLM2NCopyService"})
    assert spoilt["status"] == "failed"
    assert "elements are wrong on 1 of 1 target ranks" in spoilt["reason"]
    assert collocated["status"] == "skipped"
    assert "method nccl_m2n runs between other ranks only" in collocated["reason"]


def test_the_doctor_looks_for_the_method_in_the_checkout(newer: Path) -> None:
    def missing(**variables: str) -> bool:
        command = [sys.executable, "-m", "tools", "doctor", "2:1:1:1:non-collocated:nccl_m2n"]
        done = subprocess.run(
            command, cwd=ROOT, env=clean_environment(**variables), capture_output=True, text=True, check=False
        )
        assert "megatron-core" in done.stdout, done.stderr
        return "has no method nccl_m2n" in done.stdout

    assert (missing(), missing(MEGATRON=str(newer))) == (True, False)
