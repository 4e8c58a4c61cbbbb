"""Shards of a tiny model without Megatron: what the oracle fills and checks."""

from dataclasses import replace

import torch

from fixtures.cases.inventory import KIMI_K2_MINI
from fixtures.cases.layouts import Layout
from fixtures.cases.shards import shards_of
from fixtures.models.bind import DTYPES, BoundTensor

TINY = replace(
    KIMI_K2_MINI, num_layers=2, hidden=24, heads=4, q_lora=20, kv_lora=12, qk_nope=4, qk_rope=2, v_head=4,
    ffn=32, moe_ffn=16, shared_ffn=16, experts=6, topk=2, vocab=40,
)  # fmt: skip


def made_up_rank(layout: Layout, rank: int) -> list[BoundTensor]:
    """Every tensor that a layout's rank holds, with whatever bits the memory has."""
    return [
        BoundTensor(
            tensor=torch.empty(shard.shape, dtype=DTYPES[shard.param.dtype]),
            shard=shard,
            local_name=f"local.{shard.param.name}",
        )
        for shard in shards_of(TINY, layout, rank)
    ]
