"""What a refit does after inference has moved the target's tensors (fixtures/models/inference.py)."""

from types import SimpleNamespace

import pytest
import torch
from megatron.core.transformer.moe.experts import InferenceGroupedMLP

from fixtures.engines.base import EngineError, EngineOptions
from fixtures.engines.delta import DeltaEngine
from fixtures.engines.direct import DirectEngine
from fixtures.engines.megatron import MegatronEngine
from fixtures.engines.packed import PackedEngine
from fixtures.engines.repairs import apply_repairs
from fixtures.models.build import ModelPair
from fixtures.models.inference import forward_like
from fixtures.models.parts import GroupedExperts
from fixtures.ranks.world import World
from tests.correctness.small_pairs import agree_on, refit_and_verify, small_case, small_pair

pytestmark = pytest.mark.distributed


def bits(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.detach().view(torch.int16)


def stale(pair: ModelPair) -> list[str]:
    """Where what inference computes with is not what the target's parameters hold."""
    return [
        f"{name}.{linear} {index} is stale"
        for name, module in (pair.target.named_modules() if pair.target is not None else ())
        if isinstance(module, GroupedExperts)
        for linear, whole in (("linear_fc1", module._fc1_weight), ("linear_fc2", module._fc2_weight))
        for index, held in enumerate(whole)
        if not torch.equal(bits(held), bits(getattr(getattr(module, linear), f"weight{index}")))
    ]


def move(pair: ModelPair) -> int:
    """Touch the target as inference does; how many tensors moved."""
    return forward_like(pair.target) if pair.target is not None else 0


ENGINES = {
    "packed": lambda moving: PackedEngine.make("gloo", EngineOptions(moving=moving)),
    "direct": lambda moving: DirectEngine.make("gloo", EngineOptions(moving=moving)),
    "delta": lambda _: DeltaEngine.make("gloo", EngineOptions()),
}


@pytest.mark.parametrize("name", ENGINES)
@pytest.mark.parametrize("key", ["s1", "s6"])
def test_engines_that_read_addresses_prepare_again(name: str, key: str, world: World) -> None:
    """Refit, rebind, refit twice: exact each time, and nothing is written where the experts lay before."""
    scenario, spec = small_case(key, world.size)
    engine = ENGINES[name](True)
    with small_pair(scenario, spec, world) as pair:
        apply_repairs(pair)
        engine.prepare(pair)
        faults = list(refit_and_verify(pair, engine, world.rank, 1).faults)
        moved = move(pair)
        for generation in (2, 3):
            faults += refit_and_verify(pair, engine, world.rank, generation).faults
        left = stale(pair)
        engine.close()
    agree_on([str(fault) for fault in faults] + left)
    agree_on([] if moved or pair.target is None else ["no expert was moved"])


@pytest.mark.parametrize("name", ["packed", "direct"])
def test_an_engine_that_expects_no_move_refuses_in_one_sentence(name: str, world: World) -> None:
    scenario, spec = small_case("s6", world.size)
    engine, said = ENGINES[name](False), ""
    with small_pair(scenario, spec, world) as pair:
        apply_repairs(pair)
        engine.prepare(pair)
        engine.refit()
        moved = move(pair)
        try:
            engine.refit()
        except EngineError as error:
            said = str(error)
        engine.close()
    sentence = f"has moved since the engine was prepared ({moved} tensors in all)"
    agree_on([] if said.startswith("the target's decoder.") and said.endswith(sentence) else [said or "none"])


@pytest.mark.parametrize("key", ["s1", "s6"])
def test_megatron_finds_rebound_experts(key: str, world: World) -> None:
    """Its plan names tensors and holds no addresses: what was moved is refitted where it lies now."""
    scenario, spec = small_case(key, world.size)
    engine = MegatronEngine("gloo")
    with small_pair(scenario, spec, world) as pair:
        apply_repairs(pair)
        engine.prepare(pair)
        faults = list(refit_and_verify(pair, engine, world.rank, 1).faults)
        moved = move(pair)
        faults += refit_and_verify(pair, engine, world.rank, 2).faults
        left = stale(pair)
        engine.close()
    agree_on([str(fault) for fault in faults] + left)
    agree_on([] if moved or pair.target is None else ["no expert was moved"])


def test_a_parameter_given_other_storage_leaves_inference_stale(world: World) -> None:
    """Inference reads the concatenated experts: who rebinds a parameter instead of writing to it is lost."""
    scenario, spec = small_case("s6", world.size)
    with small_pair(scenario, spec, world) as pair:
        move(pair)
        assert stale(pair) == []
        module = next(m for m in pair.target.modules() if isinstance(m, GroupedExperts))
        module.linear_fc1.weight0.data = module.linear_fc1.weight0 + 1
        assert [text.rpartition(".")[2] for text in stale(pair)] == ["linear_fc1 0 is stale"]


def test_inference_experts_refuse_kimi_k2s_activation() -> None:
    """So a Kimi K2 target has none of them: the modules above carry their parameters and their own code."""
    experts = InferenceGroupedMLP.__new__(InferenceGroupedMLP)
    torch.nn.Module.__init__(experts)
    experts.config = SimpleNamespace(activation_func=torch.nn.functional.silu)
    with pytest.raises(ValueError, match="No mcore_fused_moe ActivationType mapping"):
        experts._resolve_mcore_activation_type()
