"""Who started a process, from its environment alone."""

import contextlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fixtures.ranks.address import CannotStart, Meeting, Way, take_secret
from fixtures.ranks.discovery import (
    Contradiction,
    Launched,
    default_ranks,
    discover,
    expand_nodes,
    gpu_count,
    tasks_per_node,
)

SRUN = {
    "SLURM_JOB_ID": "9",
    "SLURM_STEP_ID": "0",
    "SLURM_PROCID": "5",
    "SLURM_LOCALID": "1",
    "SLURM_NODEID": "1",
    "SLURM_STEP_NUM_TASKS": "8",
    "SLURM_NTASKS": "8",
    "SLURM_STEP_TASKS_PER_NODE": "4(x2)",
}
TORCHRUN = {
    "TORCHELASTIC_RUN_ID": "none",
    "TORCHELASTIC_RESTART_COUNT": "0",
    "RANK": "3",
    "WORLD_SIZE": "4",
    "LOCAL_RANK": "1",
    "LOCAL_WORLD_SIZE": "2",
    "MASTER_PORT": "29500",
}
MPIRUN = {
    "OMPI_COMM_WORLD_RANK": "2",
    "OMPI_COMM_WORLD_SIZE": "4",
    "OMPI_COMM_WORLD_LOCAL_RANK": "0",
    "OMPI_COMM_WORLD_LOCAL_SIZE": "2",
    "PMIX_NAMESPACE": "prte-1",
}


def place(launch: Launched | None) -> tuple[str, int, int, int, int] | None:
    """What a launch says, without its job."""
    if launch is None:
        return None
    return launch.launcher, launch.rank, launch.world_size, launch.local_rank, launch.local_world_size


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({}, None),
        (SRUN, ("srun", 5, 8, 1, 4)),
        ({k: v for k, v in SRUN.items() if k != "SLURM_STEP_NUM_TASKS"}, ("srun", 5, 8, 1, 4)),
        (TORCHRUN, ("torchrun", 3, 4, 1, 2)),
        (MPIRUN, ("mpirun", 2, 4, 0, 2)),
        ({"PMI_RANK": "1", "PMI_SIZE": "2"}, ("PMI", 1, 2, 0, 2)),
        ({"RANK": "1", "WORLD_SIZE": "2"}, ("torchrun", 1, 2, 0, 2)),
        (SRUN | TORCHRUN, ("torchrun", 3, 4, 1, 2)),
        (SRUN | MPIRUN, ("mpirun", 2, 4, 0, 2)),
        (SRUN | {"RANK": "5", "WORLD_SIZE": "8"}, ("srun", 5, 8, 1, 4)),
        (SRUN | {"PMI_RANK": "5", "PMI_SIZE": "8"}, ("srun", 5, 8, 1, 4)),
        (SRUN | {"SLURM_STEP_NUM_TASKS": "1", "SLURM_PROCID": "0", "SLURM_NODEID": "0"}, None),
        ({"SLURM_PROCID": "0", "SLURM_NTASKS": "16", "SLURM_JOB_ID": "9"}, None),
        (SRUN | {"SLURM_STEP_ID": "4294967290"}, None),
        (SRUN | {"SLURM_STEP_ID": "4294967291"}, None),
    ],
)
def test_discovers(environ: dict[str, str], expected: tuple[str, int, int, int, int] | None) -> None:
    assert place(discover(environ)) == expected


UNEVEN = {"SLURM_STEP_TASKS_PER_NODE": "1,4,3", "SLURM_STEP_NODELIST": "b,a[1-2]"}


@pytest.mark.parametrize(
    ("environ", "count", "names"),
    [
        (SRUN | UNEVEN, 3, ("b", "a1", "a2")),
        (SRUN, 2, ()),
        (TORCHRUN, 2, ()),
        (MPIRUN, 2, ()),
        ({"RANK": "1", "WORLD_SIZE": "2"}, 1, ()),
        (SRUN | TORCHRUN | UNEVEN, 2, ()),
    ],
)
def test_hosts_are_counted_before_any_rank_is_met(
    environ: dict[str, str], count: int, names: tuple[str, ...]
) -> None:
    found = discover(environ)
    assert found is not None
    assert (found.host_count, found.hosts) == (count, names)


@pytest.mark.parametrize(
    ("environ", "sentence"),
    [
        (SRUN | {"RANK": "3", "WORLD_SIZE": "8"}, "SLURM_PROCID says 5 but RANK says 3"),
        (SRUN | {"RANK": "5", "WORLD_SIZE": "16"}, "SLURM_STEP_NUM_TASKS says 8 but WORLD_SIZE says 16"),
        (SRUN | {"PMI_RANK": "4", "PMI_SIZE": "8"}, "SLURM_PROCID says 5 but PMI_RANK says 4"),
        (MPIRUN | {"RANK": "2", "WORLD_SIZE": "3"}, "OMPI_COMM_WORLD_SIZE says 4 but WORLD_SIZE says 3"),
        ({"RANK": "3"}, "RANK is 3 but WORLD_SIZE is not set"),
        ({"WORLD_SIZE": "3"}, "WORLD_SIZE is 3 but RANK is not set"),
        ({"RANK": "4", "WORLD_SIZE": "4"}, "RANK is 4, which is not a rank of WORLD_SIZE 4"),
        ({"RANK": "first", "WORLD_SIZE": "4"}, "RANK is 'first', which is not a number"),
        (SRUN | {"SLURM_STEP_TASKS_PER_NODE": "4x2"}, "SLURM_STEP_TASKS_PER_NODE is '4x2'"),
        (SRUN | {"SLURM_STEP_TASKS_PER_NODE": "4(x99999999)"}, "which is more than 65536 nodes"),
        (SRUN | {"SLURM_NODEID": "7"}, "SLURM_NODEID is 7, but SLURM_STEP_TASKS_PER_NODE 4(x2) has 2 nodes"),
        (SRUN | {"SLURM_STEP_NODELIST": "a[1"}, "has a bracket without its other"),
        (SRUN | {"SLURM_NODEID": "-1"}, "SLURM_NODEID is -1"),
        (SRUN | {"SLURM_NODEID": "x"}, "SLURM_NODEID is 'x', which is not a number"),
        (SRUN | {"SLURM_LOCALID": "4"}, "SLURM_LOCALID is 4 of 4 ranks on this host"),
        (TORCHRUN | {"LOCAL_WORLD_SIZE": "0"}, "LOCAL_RANK is 1 of 0 ranks on this host"),
        ({"RANK": "0", "WORLD_SIZE": "1000000000"}, "WORLD_SIZE is 1000000000: at most 65536 ranks can meet"),
        ({"RANK": "0", "WORLD_SIZE": "9" * 5000}, "which is not a number"),
    ],
)
def test_contradictions_are_named(environ: dict[str, str], sentence: str) -> None:
    with pytest.raises(Contradiction) as caught:
        discover(environ)
    assert sentence in str(caught.value)


@given(st.lists(st.tuples(st.integers(1, 64), st.integers(1, 20)), min_size=1, max_size=5))
def test_tasks_per_node_expands_what_slurm_writes(groups: list[tuple[int, int]]) -> None:
    text = ",".join(f"{tasks}(x{nodes})" if nodes > 1 else str(tasks) for tasks, nodes in groups)
    assert tasks_per_node(text) == [tasks for tasks, nodes in groups for _ in range(nodes)]


@pytest.mark.parametrize(
    ("text", "nodes"),
    [
        ("gpu1", ["gpu1"]),
        ("gpu[01-03,7],login", ["gpu01", "gpu02", "gpu03", "gpu7", "login"]),
        ("r[1-2]n[08-09]-ib", ["r1n08-ib", "r1n09-ib", "r2n08-ib", "r2n09-ib"]),
    ],
)
def test_node_lists(text: str, nodes: list[str]) -> None:
    assert expand_nodes(text) == nodes


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("a[b-c]", "'b-c' is not a range of numbers"),
        ("a[1-99999999]", "more than 65536 nodes"),
        ("a[1-300]b[1-300]c[1-300]", "more than 65536 nodes"),
        ("a[1-99999999999999]", "is not a range of numbers"),
        ("a[1-2", "a bracket without its other"),
        ("", "names no node"),
        (",", "names no node"),
    ],
)
def test_node_lists_that_are_none(text: str, sentence: str) -> None:
    with pytest.raises(Contradiction, match=sentence):
        expand_nodes(text)


@given(st.text(alphabet="ab[]-,019", max_size=30))
def test_any_text_is_a_node_list_or_a_sentence(text: str) -> None:
    with contextlib.suppress(Contradiction):
        assert 1 <= len(expand_nodes(text)) <= 65_536


@pytest.mark.parametrize("port", ["abc", "0", "65536", "-1", "", "1e3", "9" * 5000])
def test_ports_that_are_none(port: str) -> None:
    with pytest.raises(Contradiction, match="MASTER_PORT is"):
        meeting({"MASTER_ADDR": "node7", "MASTER_PORT": port})


@pytest.mark.parametrize(
    ("visible", "expected"), [(None, 3), ("", 0), ("0,1", 2), ("0,1,2,3", 3), ("1,-1,2", 1), ("GPU-aa", 1)]
)
def test_gpus_are_counted_without_the_driver(tmp_path: Path, visible: str | None, expected: int) -> None:
    for name in ("nvidia0", "nvidia1", "nvidia2", "nvidiactl", "nvidia-uvm"):
        (tmp_path / name).touch()
    environ = {} if visible is None else {"CUDA_VISIBLE_DEVICES": visible}
    assert gpu_count(environ, tmp_path) == expected
    assert default_ranks(expected) == (expected if expected > 1 else 8)


def launch(**change: object) -> Launched:
    """A launch of 8 ranks on 2 hosts."""
    usual = {
        "launcher": "srun",
        "rank": 0,
        "world_size": 8,
        "local_rank": 0,
        "local_world_size": 4,
        "job": "9/0",
    }
    return Launched(**{**usual, **change})


SECRET = "0123456789abcdef0123456789abcdef"


def meeting(environ: dict[str, str], secret: str = SECRET, **change: object) -> Meeting:
    """Where a process of a launch with a given secret looks for rank 0."""
    return Way(launch=launch(**change), environ=environ, secret=secret, shared=None).find()


def test_meets_where_master_says() -> None:
    found = meeting({"MASTER_ADDR": "node7", "MASTER_PORT": "4242"})
    assert (found.hosts, found.ports) == (("node7",), (4242,))
    assert meeting({"MASTER_ADDR": "[fe80::1]", "MASTER_PORT": "4242"}).hosts == ("fe80::1",)


def test_torchruns_own_store_keeps_its_port() -> None:
    environ = {"MASTER_ADDR": "node7", "MASTER_PORT": "4242", "TORCHELASTIC_USE_AGENT_STORE": "True"}
    assert 4242 not in meeting(environ, launcher="torchrun").ports


def test_meets_on_slurms_first_node_at_a_port_that_only_the_secret_tells() -> None:
    hosts = ("localhost", "gpu2", "gpu3")
    first, last = (meeting({}, rank=rank, hosts=hosts) for rank in (0, 7))
    assert first == last
    assert first.hosts == ("localhost",)
    assert all(20_000 <= port < 32_768 for port in first.ports)
    for other in (meeting({}, hosts=hosts, job="9/1"), meeting({}, hosts=hosts, secret=SECRET[::-1])):
        assert other.ports != first.ports
        assert other.key != first.key


def test_one_host_meets_on_loopback_whatever_its_name() -> None:
    found = meeting({"MASTER_ADDR": "elsewhere", "MASTER_PORT": "9"}, world_size=4)
    assert found.hosts == ("127.0.0.1", "::1")


def test_says_what_to_set_where_nothing_tells() -> None:
    with pytest.raises(CannotStart, match="mpirun hides rank 0: set MASTER_ADDR"):
        meeting({}, launcher="mpirun")
    with pytest.raises(CannotStart, match="share no secret: set REFIT_SECRET to the same random characters"):
        meeting({}, launcher="mpirun", secret="")


def test_a_secret_leaves_the_environment_and_must_be_long() -> None:
    environ = {"REFIT_SECRET": SECRET}
    assert take_secret(environ) == SECRET
    assert environ == {}
    assert take_secret(environ) == ""
    with pytest.raises(CannotStart, match="REFIT_SECRET has 3 characters: at least 16"):
        take_secret({"REFIT_SECRET": "abc"})


@pytest.mark.parametrize(("local", "world", "together"), [(8, 8, 8), (8, 128, 8), (8, 12, 4), (4, 12, 4)])
def test_ranks_of_uneven_nodes_are_counted_alike_on_every_node(local: int, world: int, together: int) -> None:
    assert launch(local_world_size=local, world_size=world).ranks_per_node == together
