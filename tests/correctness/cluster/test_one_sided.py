"""The direct engine between hosts: NIXL writes to peers of another host, memory is mapped within one."""

import importlib.util
import json
import subprocess
import sys
from typing import Any

import pytest

from fixtures.cluster.hosts import Hosts, running_hosts, why_no_hosts
from tests.correctness.patience import PATIENCE_S

REFITS = 20
RANKS = """
import json, multiprocessing, os, sys
import torch, torch.distributed as dist
from fixtures.cases.scenarios import find_scenario
from fixtures.engines.direct import DirectEngine
from tests.correctness.engines.synthetic import refitted, synthetic_plan

def main(rank):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method="tcp://node1:29000", rank=rank, world_size=4)
    engine = DirectEngine(method="nixl", planner=synthetic_plan)
    answer = refitted(engine, find_scenario(sys.argv[2]), 4, times=int(sys.argv[3]))
    far = sum(s.segments.nbytes for p, s in engine._streams.outgoing.items() if (p < 2) != (rank < 2))
    found = {"rank": rank, "wrong": answer["wrong"], "paths": answer["facts"]["paths"], "far": far}
    os.write(1, (json.dumps(found) + "\\n").encode())  # at once: another rank writes to the same pipe
    dist.barrier()
    os._exit(0)

fork, first = multiprocessing.get_context("fork"), int(sys.argv[1])
ranks = [fork.Process(target=main, args=(rank,)) for rank in (first, first + 1)]
for rank in ranks:
    rank.start()
for rank in ranks:
    rank.join()
"""


def refit_between(hosts: Hosts, key: str) -> list[dict[str, Any]]:
    """Two ranks on each of two hosts; what they say, by rank."""
    started = [
        subprocess.Popen(
            hosts[f"node{host + 1}"].command(sys.executable, "-c", RANKS, str(2 * host), key, str(REFITS)),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for host in (0, 1)
    ]
    said = [process.communicate(timeout=PATIENCE_S) for process in started]
    assert [process.returncode for process in started] == [0, 0], said
    answers = [json.loads(line) for out, _ in said for line in out.splitlines() if line.startswith("{")]
    assert len(answers) == 4, said
    return sorted(answers, key=lambda answer: answer["rank"])


@pytest.mark.skipif(importlib.util.find_spec("nixl") is None, reason="nixl is not installed")
@pytest.mark.parametrize("key", ["s2", "s6"])
def test_refits_between_two_hosts_are_exact_and_cross_the_network(key: str) -> None:
    if reason := why_no_hosts():
        pytest.skip(reason)
    with running_hosts(2) as hosts:
        answers = refit_between(hosts, key)
        traffic = hosts.traffic()
    for answer in answers:
        assert answer["wrong"] == [0] * REFITS
        for peer, path in answer["paths"].items():
            assert path == ("process-vm" if (int(peer) < 2) == (answer["rank"] < 2) else "nixl")
    for host in (0, 1):
        planned = REFITS * sum(answer["far"] for answer in answers[2 * host : 2 * host + 2])
        assert planned <= traffic[f"node{host + 1}"].out
    assert any(answer["far"] for answer in answers)
