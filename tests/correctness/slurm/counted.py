"""What a plan says that hosts exchange, and how long it takes, against their network cards.

python -m tests.correctness.slurm.counted 40mbit prints the table of docs/slurm.md, measured here: four hosts
of two ranks at that rate, the seven scenarios with kimi-k2-mini in Megatron's order and in the best one.
A second word, nixl, has direct write one-sided instead of packed send over gloo.
"""

import json
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fixtures.cases.scenarios import SCENARIOS
from fixtures.cluster.slurm import Cluster, running
from fixtures.engines.base import EngineOptions
from fixtures.placement.shares import planned_bytes
from fixtures.refit.case import RefitCase, RunSettings, resolve
from fixtures.refit.devices import Devices
from tests.correctness.slurm.conftest import a_project, submit

NODES, TASKS = 4, 2

type Ways = tuple[str, str]
PACKED, ONE_SIDED = ("packed", "gloo"), ("direct", "nixl")
"""Engine and method."""


@dataclass(frozen=True, kw_only=True)
class Counted:
    """One case: bytes [host, (out, in)] of a refit as planned and as the cards counted, and its ms."""

    case: RefitCase
    planned: np.ndarray
    counted: np.ndarray
    ms: float

    def least_ms(self, bits_per_s: float) -> float:
        """What the fullest card needs at that rate, each way."""
        return float(self.planned.max()) * 8e3 / bits_per_s


def count(
    cluster: Cluster, folder: Path, keys: Sequence[str], placement: str, ways: Ways = PACKED
) -> list[Counted]:
    """Refit these scenarios on the cluster's first hosts and read the cards."""
    engine, method = ways
    project = a_project(folder / f"project-{placement}-{engine}", "cards.py", "refit")
    cards = project / "cards.jsonl"
    job = submit(
        cluster,
        project / "results",
        (f"--nodes={NODES}", f"--ntasks-per-node={TASKS}", f"--nodelist=node[1-{NODES}]"),
        REFIT_TESTS=str(project),
        REFIT_MODEL="kimi-k2-mini",
        REFIT_SCENARIOS=";".join(keys),
        REFIT_ENGINES=engine,
        REFIT_METHODS=method,
        REFIT_PYTEST_ARGS=f"--placement {placement}",
        CARDS=str(cards),
    )
    ended = job.wait()
    assert (ended.state, ended.exit_code) == ("COMPLETED", 0), ended.output
    lines = map(json.loads, cards.read_text().splitlines())
    return [_counted(key, placement, ways, line) for key, line in zip(keys, lines, strict=True)]


def _counted(key: str, placement: str, ways: Ways, line: dict) -> Counted:
    scenario = next(s for s in SCENARIOS if s.key == key)
    devices = Devices(kind="cpu", ranks=NODES * TASKS, ranks_per_node=TASKS)
    settings = RunSettings(model="kimi-k2-mini", placement=placement, engine_options=EngineOptions())
    case = resolve(scenario, *ways, settings, devices)
    assert case.id.test_id == line["case"]
    matrix = planned_bytes(case.scenario, case.model)
    node = np.arange(NODES * TASKS) // TASKS
    ranks = len(matrix)
    far = matrix * (node[:ranks, None] != node[None, :ranks])
    planned = [(far[node[:ranks] == n].sum(), far[:, node[:ranks] == n].sum()) for n in range(NODES)]
    first_ranks = line["hosts"][::TASKS]
    assert [host for host, *_ in first_ranks] == [f"node{n + 1}" for n in range(NODES)]
    counted = [(out, into) for _, out, into, _ in first_ranks]
    slowest = max(ms for *_, ms in line["hosts"])
    return Counted(case=case, planned=np.array(planned), counted=np.array(counted), ms=slowest)


def main(rate: str, method: str = PACKED[1]) -> None:
    """Print the table."""
    ways = ONE_SIDED if method in ONE_SIDED else PACKED
    bits = float(rate.removesuffix("mbit")) * 1e6
    print("| case | planned MB | counted MB | more | fullest card needs ms | measured ms |")
    print("|---|---:|---:|---:|---:|---:|")
    with running(NODES, rate) as cluster, tempfile.TemporaryDirectory() as folder:
        collocated = [s.key for s in SCENARIOS if s.collocated]
        everything = count(cluster, Path(folder), [s.key for s in SCENARIOS], "megatron", ways)
        everything += count(cluster, Path(folder), collocated, "best", ways)
    for one in everything:
        scenario = one.case.scenario
        name = f"{one.case.id.name} {scenario.source} to {scenario.target}"
        planned, counted = one.planned[:, 0].sum() / 1e6, one.counted[:, 0].sum() / 1e6
        more = f"{counted / planned - 1:.1%}" if planned else "-"
        needs = one.least_ms(bits)
        print(f"| {name} | {planned:.2f} | {counted:.2f} | {more} | {needs:,.0f} | {one.ms:,.0f} |")


if __name__ == "__main__":
    main(*sys.argv[1:])
