"""A case's models on real ranks, as the benchmark drives them."""

import pytest

from fixtures.cases.scenarios import find_scenario
from fixtures.engines.megatron import MegatronEngine
from fixtures.engines.repairs import apply_repairs
from fixtures.models.bind import refit_tensors
from fixtures.ranks import all_gather_object_oob
from fixtures.ranks.world import World
from fixtures.refit.case import RefitCase, RunSettings, resolve
from fixtures.refit.case_models import CaseModels, built
from fixtures.refit.devices import Devices
from fixtures.refit.places import moved
from tests.correctness.small_pairs import agree_on

pytestmark = pytest.mark.distributed


def fitted(key: str, world: World) -> RefitCase:
    devices = Devices(kind="cpu", ranks=world.size)
    return resolve(find_scenario(key), "megatron", "gloo", RunSettings(num_layers=2), devices)


def kinds(models: CaseModels) -> set[str]:
    """The kinds of fault that any rank finds. Collective."""
    mine = {fault.kind for fault in models.verify().faults}
    return set().union(*all_gather_object_oob(mine))


@pytest.mark.parametrize("key", ["s5", "s7", "4:1:1:4:collocated:gloo"])
def test_a_case_goes_through_its_verbs(key: str, world: World) -> None:
    with built(fitted(key, world), world.rank, world.device) as models:
        assert models.pair is not None
        apply_repairs(models.pair)
        engine = MegatronEngine("gloo")
        engine.prepare(models.pair)
        models.renew()
        assert kinds(models) == {"poison left"}
        before = models.places()
        for _ in range(2):
            engine.refit()
            assert kinds(models) == set()
        agree_on(moved(before, models.places()))
        models.renew()
        assert kinds(models) == {"poison left"}
        engine.refit()
        assert kinds(models) == set()
        assert models.generation == 2
        engine.close()
    assert models.pair is None


def test_all_elements_are_verified_and_the_source_is_left_alone(world: World) -> None:
    with built(fitted("s6", world), world.rank, world.device) as models:
        pair = models.pair
        assert pair is not None
        apply_repairs(pair)
        engine = MegatronEngine("gloo")
        engine.prepare(pair)
        models.renew()
        assert pair.source is not None
        assert pair.target is not None
        before = {name: tensor.clone() for name, tensor in refit_tensors(pair.source)}
        engine.refit()
        changed = [n for n, t in refit_tensors(pair.source) if not bool((t == before[n]).all())]
        check = models.verify()
        elements = sum(tensor.numel() for _, tensor in refit_tensors(pair.target))
        engine.close()
    agree_on([f"the refit changed {name} of the source" for name in changed])
    agree_on([] if check.elements == elements else [f"{check.elements} of {elements} elements verified"])


def test_an_engine_refuses_to_refit_before_it_is_prepared(world: World) -> None:
    with pytest.raises(RuntimeError, match="before prepare"):
        MegatronEngine("gloo").refit()
