"""megatron-core 0.19.2's defects, each shown to be there, and the repair that makes up for it.

Every test asserts the wrong behaviour. One that fails means that upstream mended it: drop what it names.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from megatron.core.resharding.copy_services.nccl_copy_service import NCCLCopyService
from megatron.core.resharding.refit import clear_all_caches, swap_model_weights

from fixtures.cases.inventory import inventory
from fixtures.cases.scenarios import find_scenario
from fixtures.engines.defects import DEFECTS
from fixtures.engines.repairs import REPAIRS, Repair, apply_repairs, shipped_nvshmem_kernel
from fixtures.models.build import ModelPair
from fixtures.models.cpu_seam import cpu_seam
from fixtures.ranks import all_gather_object_oob
from fixtures.ranks.world import World
from fixtures.weights.fill import fill, poison
from fixtures.weights.verify import Fault, verify
from tests.correctness.small_pairs import (
    agree_on,
    bound_sides,
    everyones,
    mended,
    prepared_engine,
    refit_and_verify,
    sequential_experts,
    small_case,
    small_pair,
)

GATED = re.compile(r"\.mlp\.experts\.\d+\.linear_fc1\.weight$")


def repair(name: str) -> Repair:
    return next(repair for repair in REPAIRS if repair.name == name)


def faults_everywhere(mine: tuple[Fault, ...]) -> list[Fault]:
    """The faults of all ranks. Collective."""
    return [fault for theirs in all_gather_object_oob(mine) for fault in theirs]


@pytest.mark.distributed
@pytest.mark.parametrize("key", ["s2", "s4", "s5", "s6", "s7"])
@pytest.mark.defect("gated-expert-stride")
def test_gated_experts_are_scrambled_when_etp_changes(key: str, world: World) -> None:
    scenario, spec = small_case(key, world.size)
    with small_pair(scenario, spec, world) as pair:
        with prepared_engine(pair) as engine:
            faults = faults_everywhere(refit_and_verify(pair, engine, world.rank).faults)
        wrong = {fault.param for fault in faults}
        gated = {param.name for param in inventory(spec) if GATED.search(param.name)}
        assert wrong == gated, mended("gated-expert-stride")
        assert {fault.kind for fault in faults} == {"gate and up rows are scrambled"}
        repair("gated-expert-stride").apply(pair)
        with prepared_engine(pair) as engine:
            check = refit_and_verify(pair, engine, world.rank, generation=2)
        agree_on([str(check)] if not check.ok else [])


@pytest.mark.distributed
@pytest.mark.parametrize("key", ["s1", "s3"])
def test_does_not_show_while_etp_stays(key: str, world: World) -> None:
    with small_pair(*small_case(key, world.size), world) as pair, prepared_engine(pair) as engine:
        check = refit_and_verify(pair, engine, world.rank)
        agree_on([str(check)] if not check.ok else [])


@pytest.mark.distributed
@pytest.mark.defect("sequential-experts")
def test_sequential_experts_are_mistaken_when_ep_grows(world: World) -> None:
    scenario, spec = small_case("2:1:1:2:collocated:gloo", world.size)
    with (
        sequential_experts(),
        small_pair(scenario, spec, world) as pair,
        prepared_engine(pair) as engine,
    ):
        faults = faults_everywhere(refit_and_verify(pair, engine, world.rank).faults)
    half = spec.experts // 2
    moved = {p.name for p in inventory(spec) if p.expert is not None and p.expert >= half}
    assert {fault.param for fault in faults} == moved, mended("sequential-experts")
    for fault in faults:
        expert = int(fault.param.split(".experts.")[1].split(".")[0])
        assert fault.rank == 1
        assert f".experts.{expert - half}." in fault.likely


@pytest.mark.distributed
@pytest.mark.defect("sequential-experts")
def test_sequential_experts_are_not_found_when_ep_shrinks(world: World) -> None:
    scenario, spec = small_case("1:2:2:1:collocated:gloo", world.size)
    with sequential_experts(), small_pair(scenario, spec, world) as pair, prepared_engine(pair) as engine:
        error_text = ""
        try:
            engine.refit()
        except RuntimeError as error:
            error_text = str(error)
        everyone = everyones([error_text])
    assert all("not found in source model" in said for said in everyone), mended("sequential-experts")


@pytest.mark.defect("nvshmem-kernel")
def test_the_wheel_lacks_the_nvshmem_kernel() -> None:
    """Without the file the nvshmem service dies with FileNotFoundError; fixtures/engines brings a kernel."""
    assert not shipped_nvshmem_kernel().exists(), mended("nvshmem-kernel")


@pytest.mark.distributed
@pytest.mark.defect("rank-offsets")
def test_rank_offsets_in_one_world_move_nothing(world: World) -> None:
    scenario, spec = small_case("s4", world.size)
    with small_pair(scenario, spec, world) as pair:
        source, target = bound_sides(pair, world.rank)
        fill(source, 1)
        poison(target)
        clear_all_caches()
        error_text = ""
        try:
            with cpu_seam(pair.device):
                swap_model_weights(
                    pair.source, pair.target, NCCLCopyService(), dst_rank_offset=scenario.target_offset
                )
        except Exception as error:
            error_text = f"{type(error).__name__}: {error}"
        clear_all_caches()
        faults = faults_everywhere(verify(target, 1, spec, world.rank).faults)
        tensors = sum(all_gather_object_oob(len(target)))
    assert everyones([error_text] if error_text else []) == []
    assert len(faults) == tensors, mended("rank-offsets")
    assert {fault.likely for fault in faults} == {"poison left: never written"}


@contextmanager
def bf16_until_the_first_forward(pair: ModelPair) -> Iterator[None]:
    """The router's biases as a freshly built model holds them; a forward pass on leaving makes them fp32."""
    routers = [
        module
        for model in (pair.source, pair.target)
        for module in (model.modules() if model is not None else ())
        if hasattr(module, "_maintain_float32_expert_bias")
    ]
    for router in routers:
        router.expert_bias.data = router.expert_bias.data.bfloat16()
    yield
    for router in routers:
        router._maintain_float32_expert_bias()


@pytest.mark.distributed
@pytest.mark.defect("expert-bias-fp32")
def test_expert_bias_is_rounded_after_the_first_refit(world: World) -> None:
    scenario, spec = small_case("s6", world.size)
    with small_pair(scenario, spec, world) as pair:
        repair("gated-expert-stride").apply(pair)
        with prepared_engine(pair) as engine:
            with bf16_until_the_first_forward(pair):
                engine.refit()
            faults = faults_everywhere(refit_and_verify(pair, engine, world.rank).faults)
        assert faults, mended("expert-bias-fp32")
        assert {fault.param.rsplit(".", 1)[1] for fault in faults} == {"expert_bias"}
        assert {fault.likely for fault in faults} == {"the tensor has the wrong dtype or shape"}
        assert all("bfloat16" in fault.found_bits for fault in faults)
        with prepared_engine(pair) as engine:
            with bf16_until_the_first_forward(pair):
                repair("expert-bias-fp32").apply(pair)
                engine.refit()
            check = refit_and_verify(pair, engine, world.rank, generation=2)
        agree_on([str(check)] if not check.ok else [])


@pytest.mark.distributed
@pytest.mark.defect("plan-cache")
def test_the_plan_cache_serves_a_deeper_model_the_shallow_models_plan(world: World) -> None:
    """Upstream `_PlanCacheKey` holds sizes of groups only."""
    scenario, shallow = small_case("s1", world.size, layers=2)
    deep = small_case("s1", world.size, layers=3)[1]
    with small_pair(scenario, shallow, world) as first, small_pair(scenario, deep, world) as second:
        with prepared_engine(first) as engine:
            check = refit_and_verify(first, engine, world.rank)
            agree_on([str(check)] if not check.ok else [])
            engine._pair = second  # a second engine would clear the caches as it prepares
            faults = faults_everywhere(refit_and_verify(second, engine, world.rank).faults)
            wrong = {fault.param for fault in faults}
            lost = {p.name for p in inventory(deep) if p.name.startswith("decoder.layers.2.")}
            assert wrong == lost, mended("plan-cache")
            assert {fault.likely for fault in faults} == {"poison left: never written"}
            repair("plan-cache").apply(second)
            check = refit_and_verify(second, engine, world.rank, generation=2)
        agree_on([str(check)] if not check.ok else [])


@pytest.mark.distributed
@pytest.mark.defect("tensor-cache")
def test_a_replaced_buffer_is_not_refitted_any_more(world: World) -> None:
    scenario, spec = small_case("s6", world.size)
    with small_pair(scenario, spec, world) as pair:
        apply_repairs(pair)
        with prepared_engine(pair) as engine:
            check = refit_and_verify(pair, engine, world.rank)
            agree_on([str(check)] if not check.ok else [])
            for module in pair.target.modules() if pair.target is not None else ():
                if getattr(module, "expert_bias", None) is not None:
                    module.expert_bias = module.expert_bias.clone()
            faults = faults_everywhere(refit_and_verify(pair, engine, world.rank, generation=2).faults)
    assert faults, mended("tensor-cache")
    assert {fault.param.rsplit(".", 1)[1] for fault in faults} == {"expert_bias"}
    assert {fault.likely for fault in faults} == {"poison left: never written"}


@pytest.mark.distributed
@pytest.mark.parametrize("sent", [(1,), (1, 4)])
@pytest.mark.defect("broadcast-local-copy")
def test_a_local_copy_of_the_wrong_shape_is_broadcast(sent: tuple[int, ...], world: World) -> None:
    received = torch.zeros(3, 4)
    with cpu_seam(world.device):
        service = NCCLCopyService()
        service.submit_send(torch.ones(sent), world.rank, task_id=0)
        service.submit_recv(received, world.rank, task_id=0)
        service.run()
    assert bool((received == 1).all()), mended("broadcast-local-copy")


@pytest.mark.distributed
def test_all_repairs_together_make_every_defect_right(world: World) -> None:
    scenario, spec = find_scenario("2:2:4:1:non-collocated:gloo"), small_case("s4", world.size)[1]
    with small_pair(scenario, spec, world) as pair:
        with prepared_engine(pair) as engine:
            with bf16_until_the_first_forward(pair):
                assert apply_repairs(pair) == tuple(repair.name for repair in REPAIRS)
                engine.refit()
            checks = [refit_and_verify(pair, engine, world.rank, generation=g) for g in (1, 2)]
        agree_on([str(check) for check in checks if not check.ok])
    assert {repair.name for repair in REPAIRS} <= {defect.name for defect in DEFECTS}


def test_every_defect_is_shown_by_a_test_or_says_why_not() -> None:
    texts = [path.read_text() for path in Path(__file__).parent.glob("test_*.py")]
    shown = {name for text in texts for name in re.findall(r'^@pytest\.mark\.defect\("(.*)"\)$', text, re.M)}
    assert shown == {defect.name for defect in DEFECTS if not defect.untested}
