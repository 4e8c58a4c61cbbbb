"""Rows of engines: complete, true, and all that the rest of the suite knows of an engine."""

import pytest

from fixtures.bounds.fabric import PRESETS
from fixtures.cases.described import descriptions
from fixtures.cases.inventory import find_model
from fixtures.cases.scenarios import find_scenario
from fixtures.engines.base import PROTOCOL, Engine, EngineOptions
from fixtures.engines.registry import ENGINES, NCCL, PUT, ceiling, obstacle, predicted_terms
from fixtures.planning.predict import order_terms
from fixtures.planning.summary import plan_scenario
from fixtures.records.schema import Calibration


def test_every_row_makes_an_engine_of_its_name() -> None:
    for name, kind in ENGINES.items():
        for methods in kind.methods.values():
            for method in methods:
                engine = kind.make(method, EngineOptions())
                assert isinstance(engine, Engine)
                assert (engine.name, engine.protocol) == (name, PROTOCOL)


def test_options_reach_the_engines_that_they_concern() -> None:
    options = EngineOptions(peer_mapping=False, buffer_bytes=12345, check_every=7, full_every=5)
    for name in ("packed", "direct"):
        assert vars(ENGINES[name].make("gloo", options))["_memory_bytes"] == 12345
    assert not vars(ENGINES["direct"].make("gloo", options))["_peer_mapping"]
    delta = vars(ENGINES["delta"].make("gloo", options))
    assert (delta["_check_every"], delta["_full_every"]) == (7, 5)


def test_rows_name_terms_and_ceilings_that_exist() -> None:
    plan = plan_scenario(find_scenario("s6"), find_model("kimi-k2"), PRESETS["8xH200"])
    known = set(order_terms(plan, plan.orders[0]))
    assert {term for terms in predicted_terms().values() for term in terms} <= known
    ceilings = {t.ceiling for kind in ENGINES.values() for t in kind.transports.values()}
    assert ceilings <= descriptions(Calibration).keys()
    assert ceiling("packed", "nccl") == NCCL
    assert ceiling("an engine of yesterday", "ipc+nvshmem") == PUT


def test_looks_and_phases_are_each_engines_own() -> None:
    looks = [kind.look for kind in ENGINES.values()]
    assert all(looks)
    assert len({look.marker for look in looks if look}) == len(looks)
    assert all(len(set(kind.phases)) == len(kind.phases) for kind in ENGINES.values())


def test_what_a_method_lacks_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    assert obstacle("megatron", "nccl", "cuda") == ""
    assert obstacle("megatron", "nccl", "cpu") == "method nccl needs CUDA GPUs, and this machine has none"
    assert obstacle("packed", "nvshmem", "cuda") == "engine packed does not run over nvshmem on a GPU"
    assert "nvshmem4py" in obstacle("megatron", "nvshmem", "cuda")
