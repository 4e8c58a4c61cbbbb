"""What the suite knows of Megatron's flags: data for tools/megatron_flags.py."""

SIZES = {
    "--hidden-size": "hidden",
    "--num-attention-heads": "heads",
    "--ffn-hidden-size": "ffn",
    "--num-experts": "experts",
    "--moe-router-topk": "topk",
    "--moe-ffn-hidden-size": "moe_ffn",
    "--moe-shared-expert-intermediate-size": "shared_ffn",
    "--q-lora-rank": "q_lora",
    "--kv-lora-rank": "kv_lora",
    "--qk-head-dim": "qk_nope",
    "--qk-pos-emb-head-dim": "qk_rope",
    "--v-head-dim": "v_head",
    "--vocab-size": "vocab",
}
"""Flag -> field of ModelSpec; a refit's model must have these sizes."""

CONSTANTS = {
    "--pipeline-model-parallel-size": ("1", "1"),
    "--rl-inference-pipeline-model-parallel-size": ("1", "1"),
    "--context-parallel-size": ("1", "1"),
    "--mtp-num-layers": ("0", "0"),
    "--normalization": ("RMSNorm", "RMSNorm"),
    "--moe-layer-freq": (
        r"\(?\[0\](\*\d+)?\+\[1\](\*\d+)?\)?",
        "dense layers and then MoE layers, such as ([0]*1+[1]*60)",
    ),
}
"""Flag -> the values (a regular expression, and words for it) that a refit here can have."""

REFUSED = {
    "--fp16": "would move fp16 weights, and this suite moves bf16",
    "--fp8-format": "would move fp8 weights, and this suite moves bf16",
    "--fp8-param-gather": "would move fp8 weights, and this suite moves bf16",
    "--fp4-format": "would move fp4 weights, and this suite moves bf16",
    "--add-qkv-bias": "adds biases that Kimi K2 does not have",
    "--moe-shared-expert-gate": "adds weights that Kimi K2 does not have",
}
"""Flag -> why it cannot be honoured: it changes what a refit moves."""

_IGNORED_NAMES = """
    adam-beta1 adam-beta2 apply-rope-fusion attention-backend attention-dropout attention-softmax-in-fp32
    beta-fast beta-slow bf16 ckpt-format clip-grad cross-entropy-loss-fusion data-path dataloader-type
    disable-bias-linear distributed-backend distributed-timeout-minutes enable-experimental eod-mask-loss
    eval-interval eval-iters exit-duration-in-mins exit-interval finetune global-batch-size
    group-query-attention hidden-dropout init-method-std kv-channels langrl-env-config load log-interval
    log-throughput lr lr-decay-iters lr-decay-style lr-warmup-iters make-vocab-size-divisible-by manual-gc
    manual-gc-interval max-position-embeddings micro-batch-size min-lr mock-data moe-aux-loss-coeff
    moe-grouped-gemm moe-permute-fusion moe-router-bias-update-rate moe-router-dtype
    moe-router-enable-expert-bias moe-router-fusion moe-router-group-topk moe-router-load-balancing-type
    moe-router-num-groups moe-router-pre-softmax moe-router-score-function moe-router-topk-scaling-factor
    moe-shared-expert-overlap moe-token-dispatcher-type moe-use-legacy-grouped-gemm moe-z-loss-coeff
    mscale mscale-all-dim multi-latent-attention no-bias-dropout-fusion no-bias-swiglu-fusion
    no-create-attention-mask-in-dataloader no-gradient-accumulation-fusion no-load-checkpoint
    no-load-optim no-load-rng no-masked-softmax-fusion no-mmap-bin-files no-rope-fusion no-save-optim
    no-save-rng norm-epsilon num-query-groups num-workers optimizer original-max-position-embeddings
    overlap-grad-reduce overlap-param-gather perform-rl-step position-embedding-type qk-layernorm
    recompute-granularity recompute-method recompute-modules recompute-num-layers rope-scaling rope-type
    rotary-base rotary-percent rotary-scaling-factor save save-interval seed seq-length sequence-parallel
    split swiglu te-rng-tracker tensorboard-dir timing-log-level tokenizer-model tokenizer-type
    train-iters train-samples transformer-impl untie-embeddings-and-output-weights use-checkpoint-args
    use-cpu-initialization use-distributed-optimizer use-flash-attn use-mcore-models
    use-rotary-position-embeddings use-torch-optimizer-for-cpu-offload wandb-exp-name wandb-project
    weight-decay
"""

IGNORED = frozenset(f"--{name}" for name in _IGNORED_NAMES.split())
"""Flags that change training or the model's arithmetic but not which weights a refit moves, or that say what
the suite's Kimi K2 always is (untied, no biases, MLA, bf16)."""
