"""Engines that this repository does not know: the documents' one, a CopyService, and what is refused."""

import re
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch

from fixtures.cases.errors import CaseError
from fixtures.engines.base import PROTOCOL, Engine, EngineOptions
from fixtures.engines.registry import ENGINES, METHODS, find_engine, methods_here, obstacle, outside_engine
from tests.correctness.cli.inner_runs import ROOT, SuiteRun, fork_suite

FORGETFUL = """
class Forgetful(PlainEngine):
    def refit(self):
        super().refit()
        if self.rank == 1:
            self.receives[0].view.fill_(0)
"""
SERVICE = """
from megatron.core.resharding.copy_services.nccl_copy_service import NCCLCopyService

class TeamService(NCCLCopyService):
    pass
"""
TUNED = """
from fixtures.engines.packed import PackedEngine

class Tuned(PackedEngine):
    def refit(self):
        super().refit()
"""
NOWHERE = """
class ForGpus(PlainEngine):
    methods = {"cuda": ("nccl",)}
"""
LATE = """
import time
from pathlib import Path
from fixtures.engines.packed import PackedEngine
from fixtures.refit.case_models import CaseModels

HERE, plain, latest = Path(__file__).parent, CaseModels.renew, [0]

def late(self, **how):
    plain(self, **how)
    latest[0] = self.generation
    if self.rank == 1:
        until = time.monotonic() + 0.5
        while not (HERE / "profiled").exists() and time.monotonic() < until:
            time.sleep(0.01)
        (HERE / f"renewed-{self.generation}").touch()

CaseModels.renew = late

class Late(PackedEngine):
    def profile(self):
        (HERE / "profiled").touch()
        assert (HERE / f"renewed-{latest[0]}").exists(), "profiled before rank 1 had its new weights"
        return super().profile()
"""
ENGINES_TRIED = ("plain:PlainEngine", "plain:Forgetful", "team:TeamService", "plain:ForGpus", "tuned:Tuned")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> SuiteRun:
    """The documents' engine, the same with a fault, and a CopyService, from a folder of their own."""
    folder = tmp_path_factory.mktemp("outside")
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "engines.md").read_text(), re.DOTALL)
    (example,) = (block for block in blocks if "class PlainEngine" in block)
    (folder / "plain.py").write_text(example + FORGETFUL + NOWHERE)
    (folder / "team.py").write_text(SERVICE)
    (folder / "tuned.py").write_text(TUNED)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        engines = [f"--engine={name}" for name in ENGINES_TRIED]
        return fork_suite(folder, *engines, "--scenario=s6", "--ranks=2", "--iterations=2", "--warmup=0")


@pytest.mark.skipif(torch.cuda.device_count() > 0, reason="these runs are about gloo ranks on a CPU")
def test_the_documents_engine_and_a_copy_service_are_exact_and_a_fault_is_named(run: SuiteRun) -> None:
    plain, forgetful, team, elsewhere, tuned = (run.case("s6", name) for name in ENGINES_TRIED)
    for case in (plain, team, tuned):
        assert (case["status"], case["mismatches"]) == ("passed", 0), run.output
        assert case["elements_verified"] > 0
    assert team["engine_facts"] == {"service": "TeamService"}
    assert {"wire", "local"} < set(tuned["phases_ms"])
    assert forgetful["status"] == "failed"
    assert elsewhere["status"] == "skipped"
    assert elsewhere["reason"] == "method nccl needs CUDA GPUs, and this machine has none"
    assert "elements are wrong on 1 of 2 target ranks" in forgetful["reason"]


@pytest.mark.skipif(torch.cuda.device_count() > 0, reason="these runs are about gloo ranks on a CPU")
def test_no_rank_is_profiled_before_all_have_new_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the phases are of waiting for the last one."""
    (tmp_path / "late.py").write_text(LATE)
    monkeypatch.syspath_prepend(tmp_path)
    sizes = ("--scenario=s6", "--ranks=2", "--iterations=1", "--warmup=0")
    run = fork_suite(tmp_path, "--engine=late:Late", *sizes)
    assert run.case("s6", "late:Late")["status"] == "passed", run.output


class _Whole:
    """As little as an engine may be."""

    protocol = PROTOCOL
    methods = {"cpu": ("gloo",)}  # noqa: RUF012
    prepare = refit = close = lambda *_: None


REFUSED = {
    "nowhere.at.all:Engine": "engine nowhere.at.all:Engine cannot be imported: ModuleNotFoundError",
    "planted:Nothing": "engine planted:Nothing: module planted has no Nothing",
    "planted:Half": "engine planted:Half lacks refit and close: see docs/engines.md for what an engine is",
    "planted:Silent": "engine planted:Silent names no protocol; this suite runs `protocol = 1`",
    "planted:Old": "engine planted:Old was written for protocol 0; this suite runs `protocol = 1`",
    "planted:made": "engine planted:made is not a class",
    "planted": "unknown engine 'planted'; known: megatron",
}


@pytest.fixture
def planted(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A module with engines of all kinds."""
    module = ModuleType("planted")
    module.Whole = _Whole
    module.Half = type("Half", (), {"prepare": lambda *_: None})
    module.Silent = type("Silent", (_Whole,), {"protocol": None})
    module.Old = type("Old", (_Whole,), {"protocol": 0})
    module.made = _Whole()
    monkeypatch.setitem(sys.modules, "planted", module)
    outside_engine.cache_clear()
    return module


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_engine_is_refused_in_one_sentence(name: str, planted: ModuleType) -> None:
    with pytest.raises(CaseError) as refused:
        find_engine(name)
    assert str(refused.value).startswith(REFUSED[name])


def test_a_class_of_three_methods_becomes_a_whole_engine(planted: ModuleType) -> None:
    engine = find_engine("planted:Whole").make("gloo", EngineOptions())
    assert isinstance(engine, Engine)
    assert isinstance(engine, planted.Whole)
    assert (engine.name, engine.transport) == ("planted:Whole", "gloo")
    assert (engine.profile(), engine.trace(), engine.describe()) == ({}, [], {})
    assert methods_here("planted:Whole", "nccl", "cpu") == ("gloo",)
    assert obstacle("planted:Whole", "nccl", "cuda") == "engine planted:Whole does not run over nccl on a GPU"
    assert "planted:Whole" not in ENGINES


def test_ranks_that_share_gpus_are_for_engines_that_say_so(planted: ModuleType) -> None:
    planted.Plain = type("Plain", (_Whole,), {"methods": METHODS})
    sentence = "engine planted:Plain does not run over gloo on a GPU"
    assert obstacle("planted:Plain", "gloo", "shared") == sentence
    assert [obstacle("planted:Plain", m, k) for m, k in (("gloo", "cpu"), ("nccl", "cuda"))] == ["", ""]


def test_an_entry_point_is_an_engine_by_its_name(
    planted: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "team-1.0.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text("Name: team\nVersion: 1.0\n")
    (folder / "entry_points.txt").write_text("[refit_bench.engines]\nteam = planted:Whole\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert find_engine("team").make("gloo", EngineOptions()).name == "team"
    with pytest.raises(CaseError, match=r"unknown engine 'turbo'; known: .*, team, and package"):
        find_engine("turbo")
