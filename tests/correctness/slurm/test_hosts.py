"""Jobs on nodes that fail like nodes: one loses its power, one is slow; bytes are counted on the cards."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

from fixtures.cluster.slurm import Cluster, obstacle, running
from fixtures.views.report.spread import rank_spread
from tests.correctness.patience import PATIENCE_S
from tests.correctness.slurm.conftest import ROOT, submit
from tests.correctness.slurm.counted import ONE_SIDED, count

pytestmark = pytest.mark.slurm

FOUR_NODES = ("--nodes=4", "--ntasks-per-node=1")
MINI = {"REFIT_MODEL": "kimi-k2-mini", "REFIT_ENGINES": "packed", "REFIT_SCENARIOS": "s6"}


def test_a_node_that_loses_its_power_is_named(workload: dict[str, str], tmp_path: Path) -> None:
    if reason := obstacle():
        pytest.skip(reason)
    with running(4) as cluster:
        job = submit(cluster, tmp_path, (*FOUR_NODES, "--no-requeue"), ACTS="s2=sleep@2", **workload)
        job.until_case()
        cluster.hosts.kill("node3")
        ended = job.wait()
        assert ended.state in ("FAILED", "NODE_FAIL"), ended.output
        cases = job.run().cases
        assert [case.status for case in cases] == ["passed", "failed"]
        assert str(cases[1].reason).startswith("rank 2 of 4 (node3)"), cases[1].reason
        cluster.until("end of the job's processes", lambda: not job.left(), log=job.log)


def test_a_hung_rank_is_named_with_its_node_and_costs_its_case_only(
    cluster: Cluster, workload: dict[str, str], tmp_path: Path
) -> None:
    hang = {"ACTS": "s2=hang@2", "REFIT_PYTEST_ARGS": "--deadline hang=3"}
    nodes = ("--nodes=4", "--ntasks-per-node=1", "--nodelist=node[1-4]")
    job = submit(cluster, tmp_path, nodes, **hang, **workload)
    ended = job.wait()
    assert (ended.state, ended.exit_code) == ("FAILED", 1), ended.output
    cases = job.run().cases
    assert [case.status for case in cases] == ["passed", "failed", *5 * ["passed"]]
    assert str(cases[1].reason).startswith("deadline of hang passed: rank 2 of 4 (node3)"), cases[1].reason


def test_a_slow_node_is_named_as_straggler(cluster: Cluster, tmp_path: Path) -> None:
    nodes = ("--nodes=4", "--ntasks-per-node=1", "--nodelist=node[1-4]")
    cluster.hosts.limit("node4", "2mbit", receiving_only=True)
    try:
        job = submit(cluster, tmp_path, nodes, REFIT_ITERATIONS="3", REFIT_WARMUP="0", **MINI)
        ended = job.wait()
    finally:
        cluster.hosts.limit("node4", "100gbit", receiving_only=True)
    assert (ended.state, ended.exit_code) == ("COMPLETED", 0), ended.output
    (case,) = job.run().cases
    spread = rank_spread(case)
    assert spread is not None
    assert (spread.word, spread.straggler) == ("straggler", 3), spread.sentence
    assert "rank 3 on node4" in spread.sentence


def test_cards_count_what_was_planned(cluster: Cluster, tmp_path: Path) -> None:
    """Beyond the plan: padding between transfers, gloo's and TCP's headers and acknowledgements."""
    everything = count(cluster, tmp_path, ["s1", "s4", "s6"], "megatron")
    everything += count(cluster, tmp_path, ["s6"], "best")
    for one in everything:
        assert (one.counted >= one.planned).all(), one
        assert (one.counted <= 1.1 * one.planned + 100_000).all(), one
    usual, best = everything[-2:]
    assert best.planned.sum() < 0.7 * usual.planned.sum()
    assert best.counted.sum() < 0.8 * usual.counted.sum()


@pytest.mark.skipif(importlib.util.find_spec("nixl") is None, reason="nixl is not installed")
def test_one_sided_writes_cross_the_network(cluster: Cluster, tmp_path: Path) -> None:
    """Between nodes NIXL carries every planned byte; within a node nothing reaches the card."""
    for one in count(cluster, tmp_path, ["s2", "s6"], "megatron", ONE_SIDED):
        assert (one.counted >= one.planned).all(), one
        assert (one.counted <= 1.2 * one.planned + 200_000).all(), one


def test_the_command_hands_on_what_was_chosen_and_the_exit_code() -> None:
    if reason := obstacle():
        pytest.skip(reason)
    said = 'echo "$REFIT_SCENARIOS on $(hostname): $(sinfo --noheader --format=%D) node"; exit 3'
    done = subprocess.run(
        [sys.executable, "-m", "tools", "cluster", "--hosts", "1", "sh", "-c", said],
        cwd=ROOT, env=os.environ | {"REFIT_SCENARIOS": "s2;s6"}, timeout=PATIENCE_S,
        capture_output=True, text=True,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (3, "s2;s6 on head: 1 node\n"), done.stderr
