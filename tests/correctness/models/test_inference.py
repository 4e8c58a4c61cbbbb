"""megatron-core's own inference code on the experts of this suite, without ranks."""

from types import SimpleNamespace

import pytest
import torch
from megatron.core.transformer.moe.experts import InferenceGroupedMLP

from fixtures.models.parts import GroupedExperts, forward_like
from tests.correctness.inference_experts import bits, stale

EXPERTS = 3


@pytest.fixture
def experts() -> GroupedExperts:
    config = SimpleNamespace(
        moe_ffn_hidden_size=8,
        hidden_size=4,
        use_cpu_initialization=True,
        params_dtype=torch.bfloat16,
        expert_model_parallel_size=1,
        expert_tensor_parallel_size=1,
        tensor_model_parallel_size=1,
    )
    groups = SimpleNamespace(expt_tp=SimpleNamespace(size=lambda: 1))
    return GroupedExperts(EXPERTS, config, pg_collection=groups).requires_grad_(False)


def test_a_forward_moves_every_expert_and_keeps_its_bits(experts: GroupedExperts) -> None:
    before = {name: (tensor.data_ptr(), bits(tensor).clone()) for name, tensor in experts.named_parameters()}
    assert forward_like(experts) == len(before) == 2 * EXPERTS
    for name, tensor in experts.named_parameters():
        address, held = before[name]
        assert tensor.data_ptr() != address
        assert torch.equal(bits(tensor), held)


def test_what_is_written_into_a_parameter_reaches_inference(experts: GroupedExperts) -> None:
    forward_like(experts)
    for tensor in experts.parameters():
        tensor.normal_()
    assert stale(experts) == []
    assert torch.equal(experts._fc1_weight[1], experts.linear_fc1.weight1)


def test_a_parameter_given_other_storage_leaves_inference_stale(experts: GroupedExperts) -> None:
    forward_like(experts)
    experts.linear_fc1.weight0.data = torch.ones_like(experts.linear_fc1.weight0)
    experts._fc1_weight.zero_()
    assert stale(experts) == [".linear_fc1 0 is stale"]


def test_inference_experts_refuse_kimi_k2s_activation() -> None:
    """So a Kimi K2 target has none of them: containers carry their parameters and run their own code."""
    experts = InferenceGroupedMLP.__new__(InferenceGroupedMLP)
    torch.nn.Module.__init__(experts)
    experts.config = SimpleNamespace(activation_func=torch.nn.functional.silu)
    with pytest.raises(ValueError, match="No mcore_fused_moe ActivationType mapping"):
        experts._resolve_mcore_activation_type()
