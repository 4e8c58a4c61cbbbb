"""Rows of engines: complete, true, and all that the rest of the suite knows of an engine."""

from pathlib import Path

import pytest

from fixtures.bounds.fabric import PRESETS
from fixtures.cases.described import descriptions
from fixtures.cases.inventory import find_model
from fixtures.cases.scenarios import METHODS, find_scenario
from fixtures.engines import megatron
from fixtures.engines.base import PROTOCOL, Engine, EngineError, EngineOptions
from fixtures.engines.registry import (
    ENGINES,
    NCCL,
    PUT,
    SERVICES,
    ceiling,
    is_installed,
    obstacle,
    predicted_terms,
    usual_methods,
)
from fixtures.planning.predict import order_terms
from fixtures.planning.summary import plan_scenario
from fixtures.records.schema import Calibration
from fixtures.refit.case import RunSettings, resolve
from fixtures.refit.devices import Devices


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
    needs = "method nixl needs a megatron-core with nixl and nixl, not installed here"
    assert obstacle("megatron", "nixl", "cpu") == needs
    assert obstacle("megatron", "nccl_m2n", "cpu").startswith("method nccl_m2n needs CUDA GPUs")


def test_nixl_on_one_host_is_not_run_unasked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fixtures.engines.registry.is_installed", lambda _: True)
    assert usual_methods("direct", "nccl", "cpu") == ["gloo"]
    assert usual_methods("direct", "nixl", "cpu") == ["nixl", "gloo"]
    assert usual_methods("direct", "nccl", "cuda") == ["nvshmem"]
    assert usual_methods("megatron", "nccl", "cpu") == ["gloo", "nixl"]


def test_what_a_megatron_core_ships_is_found_by_looking(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without importing the packages that it lies in."""
    folder = tmp_path / "newer" / "core" / "services"
    folder.mkdir(parents=True)
    (tmp_path / "newer" / "__init__.py").write_text("raise SystemExit")
    (folder / "nccl_m2n_copy_service.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    assert is_installed("newer.core.services.nccl_m2n_copy_service")
    assert not is_installed("newer.core.services.other_copy_service")
    assert not is_installed("nowhere.at.all")
    shipped = [m for m in METHODS if is_installed(f"{SERVICES}.{m}_copy_service")]
    assert set(shipped) >= {"nccl", "nvshmem", "nixl", "gloo"}


def test_m2n_runs_between_other_ranks_only() -> None:
    devices = Devices(kind="cuda", ranks=8, gpus=8, device_bytes=10**12)
    case = resolve(find_scenario("s6"), "megatron", "nccl_m2n", RunSettings(), devices)
    assert "nccl_m2n" in case.obstacle


def test_batches_reach_upstream_where_it_has_them(monkeypatch: pytest.MonkeyPatch) -> None:
    assert megatron.batches(0) == {}
    with pytest.raises(EngineError, match="this megatron-core has no execution batches"):
        megatron.batches(4096)

    def newer(execution_batch_bytes: int | None = None) -> None:
        """As upstream's main has it."""

    monkeypatch.setattr(megatron, "swap_model_weights", newer)
    assert megatron.batches(4096) == {"execution_batch_bytes": 4096}
