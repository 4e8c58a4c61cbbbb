"""What planning costs a rank before the first byte moves, full Kimi K2 by number of ranks: seconds of a core
for the suite's own plan here, beside megatron-core's as once measured: refit-bench plan-cost.

Exit code: 0; 2 for bad input.
"""

import json
import time
from pathlib import Path
from types import SimpleNamespace

import torch
import torch.distributed as dist
from rich.console import Console
from rich.table import Table
from torch import nn
from torch.testing._internal.distributed.fake_pg import FakeStore

from fixtures.cases.inventory import KIMI_K2, ModelSpec
from fixtures.cases.layouts import Layout
from fixtures.cases.scenarios import SCENARIOS, Scenario
from fixtures.cases.shards import Shard, shards_of
from fixtures.engines.plan import _by_peer, own_plan
from fixtures.megatron_plan.cold_plan import COMMITTED, committed_rows, ladder, measure_ladder
from fixtures.models.bind import DTYPES, local_name
from fixtures.timing.stopwatch import no_garbage_collected
from tools import command_parser, write

LARGEST = Scenario(
    key="ranks1024",
    source=Layout(tp=32, ep=32),
    target=Layout(tp=16, ep=64),
    mode="collocated",
    method="nccl",
    purpose="cost of the plan by world size",
)
"""The ladder's change of layout at 1,024 ranks."""


def main(argv: list[str]) -> int:
    """Print the table: of the first rank and the last, which may be on the other side, the slower one."""
    parser = command_parser("plan-cost", __doc__)
    parser.add_argument("--seven", action="store_true", help="the seven scenarios, not a ladder of sizes")
    parser.add_argument("--measure", type=Path, metavar="FILE", help="measure megatron-core's here too, and "
                        "write it to FILE (minutes)")  # fmt: skip
    options = parser.parse_args(argv)
    if options.measure:
        write(options.measure, json.dumps(measure_ladder(), indent=1) + "\n")
    rows = [] if options.seven else committed_rows(options.measure or COMMITTED)
    megatrons = {row.world_size: row.total_s for row in rows}
    scenarios = list(SCENARIOS) if options.seven else [s for s, _ in ladder()] + [LARGEST]
    table = Table("case", "ranks", "transfers", "plan s", "streams s", "own s", "megatron s", box=None)
    for scenario in scenarios:
        rank, (transfers, plan_s, streams_s) = max(
            ((rank, measure(scenario, KIMI_K2, rank)) for rank in (0, scenario.world_size - 1)),
            key=lambda found: sum(found[1][1:]),
        )
        known = megatrons.get(scenario.world_size)
        table.add_row(
            f"{scenario.key} {scenario.source} to {scenario.target}, rank {rank}",
            f"{scenario.world_size}",
            f"{transfers:,}",
            f"{plan_s:.2f}",
            f"{streams_s:.2f}",
            f"{plan_s + streams_s:.2f}",
            "-" if known is None else f"{known:.0f}",
        )
    Console().print(table)
    return 0


def measure(scenario: Scenario, model: ModelSpec, rank: int) -> tuple[int, float, float]:
    """(transfers, seconds of `own_plan`, seconds that its streams take) on one rank; agreeing with the
    others, a few bytes by peer, is not in it."""
    dist.init_process_group("fake", rank=rank, world_size=scenario.world_size, store=FakeStore())
    try:
        pair = SimpleNamespace(
            scenario=scenario,
            spec=model,
            source=_stand_in(model, scenario.source, scenario.source_rank(rank)),
            target=_stand_in(model, scenario.target, scenario.target_rank(rank)),
        )
        with no_garbage_collected():  # as engines prepare
            began = time.process_time()
            plan = own_plan(pair)
            planned = time.process_time()
            _by_peer(plan.sends), _by_peer(plan.receives)
            ended = time.process_time()
        return len(plan.sends) + len(plan.receives), planned - began, ended - planned
    finally:
        dist.destroy_process_group()


def _stand_in(model: ModelSpec, layout: Layout, rank: int | None) -> nn.Module | None:
    """Modules with the rank's tensors under their names: addresses are reserved, no memory is touched."""
    if rank is None:
        return None
    whole = nn.Module()
    for shard in shards_of(model, layout, rank):
        *path, name = local_name(shard, layout, rank, model.experts).split(".")
        module = whole
        for part in path:
            if part not in module._modules:
                module.add_module(part, nn.Module())
            module = module.get_submodule(part)
        _add(module, name, shard)
    return whole


def _add(module: nn.Module, name: str, shard: Shard) -> None:
    tensor = torch.empty(shard.shape, dtype=DTYPES[shard.param.dtype])
    if shard.param.buffer:
        module.register_buffer(name, tensor)
        return
    weight = nn.Parameter(tensor, requires_grad=False)
    weight.tensor_model_parallel = shard.param.cut_dim is not None  # type: ignore[attr-defined]
    weight.partition_dim = shard.param.cut_dim  # type: ignore[attr-defined]
    weight.partition_stride = shard.param.blocks  # type: ignore[attr-defined]
    module.register_parameter(name, weight)
