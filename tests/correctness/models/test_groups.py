"""Groups are made by their members alone, once, and every rank can go on making groups of the world."""

from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch.distributed import distributed_c10d as c10d

from fixtures.cases.layouts import Layout
from fixtures.models.groups import initialize_parallel_state, layout_groups, own_group
from fixtures.ranks import all_gather_object_oob
from fixtures.ranks.world import World

pytestmark = pytest.mark.distributed
FIELDS = ("tp", "pp", "dp", "ep", "expt_tp", "expt_dp", "tp_dp_cp", "tp_ep")


def known() -> int:
    """Process groups that torch knows in this process."""
    return len(c10d._world.pg_map)


def gloo_loops() -> int:
    """Threads of this process that wait for gloo's connections, one a device."""
    names = (task.joinpath("comm").read_text() for task in Path("/proc/self/task").iterdir())
    return sum(name.startswith("gloo_tcp_loop") for name in names)


def test_a_rank_makes_only_its_own_groups_and_makes_them_once(world: World) -> None:
    before = known()
    layout_groups(Layout(tp=2, ep=4), tuple(range(8)))
    layout_groups(Layout(tp=4, ep=2), tuple(range(8)))
    initialize_parallel_state(world.device)
    made = known()
    again = layout_groups(Layout(tp=2, ep=4), tuple(range(8)))
    initialize_parallel_state(world.device)
    gathered = all_gather_object_oob((made - before, known() - made, own_group(range(8)) is again.tp_ep))
    assert [(count <= 6, *rest) for count, *rest in gathered] == [(True, 0, True)] * world.size


def test_small_groups_share_a_gloo_device_and_still_exchange(world: World) -> None:
    """With a device each, the threads of 128 ranks that only wait take two processors whole."""
    dist.all_reduce(torch.ones(1))  # by now the thread of the group of all has its name
    before = gloo_loops()
    even, odd, both = (0, 2, 4, 6), (1, 3, 5, 7), (0, 1) if world.rank < 2 else (2, 3, 4, 5, 6, 7)
    totals = []
    for members in (even, odd, both, (world.rank,)):
        if (group := own_group(members)) is not None:
            total = torch.ones(1)
            dist.all_reduce(total, group=group)
            totals.append(int(total))
    gathered = all_gather_object_oob((gloo_loops() - before <= 1, totals))
    assert gathered == [(True, [4, 2 if rank < 2 else 6, 1]) for rank in range(world.size)]


def test_the_group_of_all_ranks_is_the_default_one(world: World) -> None:
    assert all_gather_object_oob(own_group(range(8)) is dist.group.WORLD) == [True] * world.size


def test_ranks_outside_a_layout_make_none(world: World) -> None:
    before = known()
    groups = layout_groups(Layout(tp=3, ep=1), (1, 2, 5))
    gathered = all_gather_object_oob(
        (known() - before, [getattr(groups, field) for field in FIELDS] != [None] * 8)
    )
    assert [rank for rank, (_, has) in enumerate(gathered) if has] == [1, 2, 5]
    assert all(count == 0 for rank, (count, _) in enumerate(gathered) if rank not in (1, 2, 5))


def test_members_keep_the_order_that_a_placement_gives_them(world: World) -> None:
    order = (3, 0, 2, 1)
    groups = layout_groups(Layout(tp=2, ep=2), order)
    mine = dist.get_process_group_ranks(groups.tp) if groups.tp is not None else None
    assert all_gather_object_oob(mine)[:4] == [[3, 0], [2, 1], [2, 1], [3, 0]]


def test_uneven_groups_leave_worldwide_ones_in_step(world: World) -> None:
    """torch names a group after a count of groups; one that ran ahead on some ranks would hang here."""
    own_group((0, 5))
    own_group((0, 6, 7))
    group = dist.new_group()
    total, pair = torch.ones(1), torch.ones(1)
    dist.all_reduce(total, group=group)
    if (uneven := own_group((0, 6, 7))) is not None:
        dist.all_reduce(pair, group=uneven)
    dist.destroy_process_group(group)
    gathered = all_gather_object_oob((int(total), int(pair)))
    assert gathered == [(world.size, 3 if rank in (0, 6, 7) else 1) for rank in range(world.size)]
