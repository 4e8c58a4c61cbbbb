"""megatron-core's swap_model_weights beside refit_engines', on the same two models, in one run.

    torchrun --standalone --nproc-per-node 2 swap.py --hidden 7168 --ffn 2048 --experts 64 --layers 2

A mixture of experts cut over all ranks (TP) goes to a whole copy on each rank (TP1). Every refit brings new
weights to a target full of NaN, and ours must leave the same bits as megatron-core's. Without GPUs it runs
over gloo.
"""

import argparse
import os
import statistics
import time
from contextlib import ExitStack, nullcontext
from unittest import mock

import torch
import torch.distributed as dist
from megatron.core import parallel_state
from megatron.core.inference.shards import build_inference_pg_collection
from megatron.core.models.gpt import GPTModel
from megatron.core.models.gpt.gpt_layer_specs import get_gpt_layer_local_spec
from megatron.core.resharding.copy_services.nccl_copy_service import NCCLCopyService
from megatron.core.tensor_parallel.random import model_parallel_cuda_manual_seed
from megatron.core.transformer.transformer_config import TransformerConfig
from refit_engines.swap import METHODS, clear_all_caches, swap_model_weights


def main():
    parser = argparse.ArgumentParser()
    for name, default in {"layers": 2, "hidden": 256, "ffn": 128, "experts": 8, "refits": 5}.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--methods", nargs="*", default=METHODS)
    options = parser.parse_args()
    gpus = torch.cuda.is_available()
    if gpus:
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    dist.init_process_group("nccl" if gpus else "gloo")
    with nullcontext() if gpus else megatron_without_gpus():
        parallel_state.initialize_model_parallel()
        source, target = build(options, dist.get_world_size()), build(options, 1)
        upstream = "nccl" if gpus else NCCLCopyService()  # its send and receive go over gloo, too
        times = {"megatron-core": []} | {method: [] for method in options.methods}
        for step in range(1 + options.refits):
            renew(source, step)
            times["megatron-core"].append(refit(source, target, upstream))
            wanted = [tensor.clone() for tensor in target.state_dict().values() if torch.is_tensor(tensor)]
            for method in options.methods:
                times[method].append(refit(source, target, method))
                compare(target, wanted, method)
        tell(times, sum(tensor.nbytes for tensor in wanted), "GPU" if gpus else "CPU")
        clear_all_caches()
    dist.destroy_process_group()


def megatron_without_gpus():
    """megatron-core calls CUDA in any case; here those calls do nothing."""
    nothing = mock.MagicMock()
    stubs = dict.fromkeys(
        ("synchronize", "empty_cache", "Stream", "Event", "current_stream", "stream"), nothing
    )
    patches = ExitStack()
    patches.enter_context(
        mock.patch.multiple(torch.cuda, **stubs, current_device=lambda: torch.device("cpu"))
    )
    return patches


def build(options, tp):
    world = dist.get_world_size()
    groups = build_inference_pg_collection(
        world, tp_size=tp, pp_size=1, cp_size=1, ep_size=1, expt_tp_size=tp
    )
    config = TransformerConfig(
        num_layers=options.layers,
        hidden_size=options.hidden,
        num_attention_heads=16,
        ffn_hidden_size=options.ffn,
        num_moe_experts=options.experts,
        moe_ffn_hidden_size=options.ffn,
        moe_token_dispatcher_type="allgather",
        tensor_model_parallel_size=tp,
        expert_tensor_parallel_size=tp,
        normalization="RMSNorm",
        gated_linear_unit=True,
        activation_func=torch.nn.functional.silu,
        add_bias_linear=False,
        params_dtype=torch.bfloat16,
        bf16=True,
        use_cpu_initialization=not torch.cuda.is_available(),
        perform_initialization=False,
        gradient_accumulation_fusion=False,
    )
    if torch.cuda.is_available():
        model_parallel_cuda_manual_seed(
            1, tp_rank=groups.tp.rank(), ep_rank=0, etp_rank=0, force_reset_rng=True
        )
    spec = get_gpt_layer_local_spec(num_experts=options.experts, normalization="RMSNorm")
    model = GPTModel(config, spec, 32768, 128, position_embedding_type="rope", pg_collection=groups)
    return (
        model.bfloat16()
        .to(torch.device("cuda" if torch.cuda.is_available() else "cpu"))
        .requires_grad_(False)
    )


def renew(model, step):
    """Other weights in each step; ranks agree where they hold the same."""
    for number, tensor in enumerate(model.parameters()):
        cut = getattr(tensor, "tensor_model_parallel", False)
        torch.manual_seed(
            1000 * number + step if not cut else 1000 * (number + 1) * (dist.get_rank() + 2) + step
        )
        tensor.normal_()


def refit(source, target, method):
    """Milliseconds of the slowest rank."""
    for tensor in target.parameters():
        tensor.fill_(float("nan"))
    torch.cuda.synchronize()
    dist.barrier()
    begin = time.perf_counter()
    swap_model_weights(source, target, method)
    torch.cuda.synchronize()
    device = next(target.parameters()).device
    took = torch.tensor([(time.perf_counter() - begin) * 1e3], device=device)
    dist.all_reduce(took, op=dist.ReduceOp.MAX)
    return took.item()


def compare(model, wanted, method):
    tensors = [tensor for tensor in model.state_dict().values() if torch.is_tensor(tensor)]
    apart = sum(
        not torch.equal(a.view(torch.uint8), b.view(torch.uint8))
        for a, b in zip(tensors, wanted, strict=True)
    )
    assert not any(tensor.isnan().any() for tensor in wanted), "megatron-core left NaN"
    assert not apart, f"{method}: {apart} of {len(wanted)} tensors are not megatron-core's"


def tell(times, nbytes, device):
    if dist.get_rank():
        return
    print(f"{dist.get_world_size()} {device} ranks, {nbytes / 1e9:.2f} GB of weights to each, same bits:")
    theirs = statistics.median(times["megatron-core"][1:])
    for method, (first, *others) in times.items():
        warm = statistics.median(others)
        print(f"{method:14} first {first:9.1f} ms, then {warm:9.2f} ms, {theirs / warm:6.1f} x as fast")


if __name__ == "__main__":
    main()
