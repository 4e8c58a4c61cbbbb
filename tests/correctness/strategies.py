"""Random valid scenarios of a tiny model for property tests, and sources that spread the load."""

import numpy as np
from hypothesis import strategies as st

from fixtures.bounds.cells import Bytes, Cells
from fixtures.bounds.fabric import Fabric
from fixtures.cases.inventory import ModelSpec
from fixtures.cases.layouts import Layout
from fixtures.cases.scenarios import Scenario

TINY = ModelSpec(
    name="tiny", num_layers=2, hidden=6, heads=12, q_lora=12, kv_lora=8, qk_nope=1, qk_rope=4, v_head=1,
    ffn=12, moe_ffn=12, shared_ffn=12, experts=12, topk=2, vocab=12,
    dense_layers=1, rope_base=50000.0, rope_factor=32.0, routed_scaling=2.827,
)  # fmt: skip
SIZES = st.sampled_from([1, 2, 3, 4, 6])


@st.composite
def scenarios(draw: st.DrawFn) -> Scenario:
    """Any pair of layouts that divide the tiny model, in any order of the target ranks."""
    source = Layout(tp=draw(SIZES), ep=draw(SIZES))
    if draw(st.booleans()):
        tp = draw(SIZES.filter(lambda tp: source.gpus % tp == 0 and 12 % (source.gpus // tp) == 0))
        target, mode = Layout(tp=tp, ep=source.gpus // tp), "collocated"
    else:
        target, mode = Layout(tp=draw(SIZES), ep=draw(SIZES)), "non-collocated"
    order = tuple(draw(st.permutations(range(target.gpus)))) if draw(st.booleans()) else None
    return Scenario(
        key="any", source=source, target=target, mode=mode, method="nccl", purpose="", placement=order
    )


def spread_sources(cells: Cells, fabric: Fabric) -> Bytes:
    """[rank, cell] a holder of each needed cell: the rank itself, else the least loaded one in its NVLink
    domain, else the least loaded one anywhere (greedy, the most constrained cells first)."""
    chosen = np.full(cells.target.shape, -1, dtype=np.int64)
    load = np.zeros(cells.world_size)
    ranks = np.arange(cells.world_size)
    needed = np.argwhere(cells.target)
    for rank, cell in needed[np.argsort(cells.source.sum(axis=0)[needed[:, 1]], kind="stable")]:
        holders = ranks[cells.source[:, cell]]
        near = holders[holders // fabric.nvlink_domain == rank // fabric.nvlink_domain]
        if cells.source[rank, cell]:
            chosen[rank, cell] = rank
            continue
        options, rate = (near, fabric.nvlink_gbs) if len(near) else (holders, fabric.nic_gbs)
        best = options[load[options].argmin()]
        chosen[rank, cell] = best
        load[best] += cells.bytes[cell] / rate
    return chosen
