"""Ranks share what their parent imported, also after they have made objects of their own."""

import subprocess
import sys

from fixtures.plugins.refit import OBJECTS_OF_A_RANK
from tests.correctness.patience import PATIENCE_S

COPIED = """
import os, resource, sys
import torch
from fixtures.plugins.refit import _make_room

def copied(objects):
    '''Most pages of its parent's that a fork copies while it makes one object.'''
    def pages():
        return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    kept, most = [None] * objects, 0
    for i in range(objects):
        before = pages()
        kept[i] = torch.distributed.BarrierOptions()
        most = max(most, pages() - before)
    return most

_make_room()
for objects in map(int, sys.argv[1:]):
    if os.fork() == 0:
        print(copied(objects), flush=True)
        os._exit(0)
    os.wait()
"""


def test_a_rank_makes_many_objects_without_copying_the_table_of_all() -> None:
    """Far more than a rank makes do enlarge it: the measure sees that."""
    objects = str(OBJECTS_OF_A_RANK), str(16 * OBJECTS_OF_A_RANK)
    command = [sys.executable, "-c", COPIED, *objects]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, check=True)
    ranks, far_more = map(int, done.stdout.split())
    assert ranks < 100 < 200 < far_more
