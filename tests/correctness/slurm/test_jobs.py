"""The users' scripts on a real Slurm: results, exit codes, idle ranks, and jobs that end early."""

import xml.etree.ElementTree as ET
from collections import Counter
from pathlib import Path

import pytest

from fixtures.cases.scenarios import SCENARIOS
from fixtures.cluster.slurm import Cluster
from fixtures.records.reader import read_run
from fixtures.records.validate import check_run
from tests.correctness.slurm.conftest import JOB_S, ON_CPU, ROOT, Submitted, submit

pytestmark = pytest.mark.slurm

Workload = dict[str, str]
TWO_TASKS = ("--nodes=2", "--ntasks-per-node=1")
IDS = [scenario.id for scenario in SCENARIOS]


@pytest.fixture(scope="module", autouse=True)
def overtime(cluster: Cluster, workload: Workload, tmp_path_factory: pytest.TempPathFactory) -> Submitted:
    """A job with a limit of one minute whose second case sleeps: it runs out while the other tests go on."""
    folder = tmp_path_factory.mktemp("overtime")
    options = ("--nodes=1", "--ntasks-per-node=2", "--time=1")
    job = submit(cluster, folder, options, ACTS="s2=sleep@1", **workload)
    job.until_case()
    return job


def statuses(job: Submitted) -> dict[str, str]:
    """Status by scenario id of a sound file of records."""
    assert check_run(job.run()) == []
    return {case.scenario: case.status for case in job.run().cases}


def test_a_failing_and_a_killed_rank_fail_their_cases_only(
    cluster: Cluster, workload: Workload, tmp_path: Path
) -> None:
    job = submit(cluster, tmp_path, TWO_TASKS, ACTS="s2=fail@1 s3=die@1", **workload)
    ended = job.wait()
    assert (ended.state, ended.exit_code) == ("FAILED", 1), ended.output
    expected = dict.fromkeys(IDS, "passed") | dict.fromkeys(IDS[1:3], "failed")
    assert statuses(job) == expected
    reasons = [case.reason for case in job.run().cases[1:3]]
    for reason, cause in zip(reasons, ("planted failure", "SIGKILL"), strict=True):
        assert reason.startswith("rank 1 of 2")
        assert cause in reason
    end = job.run().end
    assert end is not None
    assert (end["status"], end["exit_code"]) == ("completed", 1)
    suite = ET.parse(job.file.with_suffix(".xml")).getroot().find("testsuite")
    assert suite is not None
    assert (suite.get("tests"), suite.get("failures")) == ("7", "2")
    assert "5 passed, 2 failed" in " ".join(job.summary().split())
    assert job.left() == {}


def test_a_lost_process_ends_the_job_and_a_new_one_resumes(
    cluster: Cluster, workload: Workload, tmp_path: Path
) -> None:
    lost = submit(cluster, tmp_path / "lost", TWO_TASKS, ACTS="s2=kill-task@1", **workload)
    ended = lost.wait()
    assert ended.state == "FAILED", ended.output
    assert ended.exit_code == 128 + 9
    assert "task 1: Killed" in ended.output
    assert statuses(lost)[IDS[0]] == "passed"
    assert lost.left() == {}
    again = submit(cluster, tmp_path / "again", TWO_TASKS, REFIT_RESUME=str(lost.file), **workload)
    ended = again.wait()
    assert (ended.state, ended.exit_code) == ("COMPLETED", 0), ended.output
    passed = Counter(case.scenario for case in lost.run().cases if case.status == "passed")
    assert passed == dict.fromkeys(IDS, 1)


def test_scancel_keeps_what_was_finished(cluster: Cluster, workload: Workload, tmp_path: Path) -> None:
    job = submit(cluster, tmp_path, TWO_TASKS, ACTS="s2=sleep@1", **workload)
    job.until_case()
    cluster.run("scancel", str(job.number))
    assert job.wait().state == "CANCELLED"
    cluster.until("end of the job's processes", lambda: not job.left(), JOB_S, job.log)
    assert statuses(job)[IDS[0]] == "passed"
    assert "1 passed" in job.summary()


def test_bad_options_end_the_job_with_one_sentence(
    cluster: Cluster, workload: Workload, tmp_path: Path
) -> None:
    job = submit(cluster, tmp_path, TWO_TASKS, REFIT_SCENARIOS="s9", **workload)
    ended = job.wait()
    assert (ended.state, ended.exit_code) == ("FAILED", 4), ended.output
    assert ended.output.count("unknown scenario 's9'") == 1
    assert not job.file.exists()


def test_all_seven_scenarios_with_ranks_left_idle(cluster: Cluster, tmp_path: Path) -> None:
    options = ("--nodes=2", "--ntasks-per-node=2", "--account=nobody")
    job = submit(
        cluster,
        tmp_path,
        options,
        REFIT_MODEL="kimi-k2-mini",
        REFIT_NUM_LAYERS="2",
        REFIT_ENGINES="megatron",
        REFIT_METHODS="gloo",
        REFIT_ITERATIONS="2",
        REFIT_PYTEST_ARGS="--warmup 1",
    )
    ended = job.wait()
    assert (ended.state, ended.exit_code) == ("COMPLETED", 0), ended.output
    assert statuses(job) == dict.fromkeys(IDS, "passed")
    cases = job.run().cases
    assert [case.ranks for case in cases] == [3, 3, 3, 4, 4, 4, 4]
    assert all(case.elements_verified and not case.mismatches for case in cases)
    assert {len(case.warm_ms) for case in cases} == {2}
    assert [case.expected_ms for case in cases] == [s.expected["kimi-k2"] for s in SCENARIOS]
    assert "7 passed" in job.summary()
    environment = job.run().environment
    assert environment["identity"]["host_count"] == len(environment["observation"]["hosts"]) == 2
    assert set(environment["observation"]["hosts"]) == {host for case in cases for host in case.hosts or ()}


MEGATRON = """
    --tensor-model-parallel-size 2 --expert-model-parallel-size 1 --expert-tensor-parallel-size 2
    --rl-inference-tensor-model-parallel-size 1 --rl-inference-expert-model-parallel-size 1
    --refit-mode non-collocated --refit-method gloo --num-benchmark-warmup 0 --num-benchmark-iterations 2
    --num-layers 2 --hidden-size 96 --num-attention-heads 64 --num-experts 32 --swiglu --seq-length 4096
""".split()  # noqa: SIM905


def salloc(cluster: Cluster, folder: Path, *flags: str) -> tuple[int, str, str]:
    """benchmark_refit_sbatch.sh inside salloc: exit code, output, errors."""
    done = cluster.run(
        "salloc", "--nodes=3", "--ntasks-per-node=1", "--gpus-per-node=8", "./benchmark_refit_sbatch.sh",
        *flags, check=False, timeout=JOB_S, cwd=ROOT, **ON_CPU, REFIT_RESULTS=str(folder), REFIT_RUN="mine",
    )  # fmt: skip
    return done.returncode, done.stdout, done.stderr


def test_megatron_flags_inside_salloc(cluster: Cluster, tmp_path: Path) -> None:
    code, output, errors = salloc(cluster, tmp_path, *MEGATRON)
    assert code == 0, output + errors
    assert "ignored, without effect on a refit here: --seq-length 4096" in errors
    (case,) = read_run(tmp_path / "mine.jsonl").cases
    assert (case.status, case.model, case.num_layers, case.ranks) == (
        "passed",
        "kimi-k2-mini",
        2,
        3,
    )
    assert (case.engine, case.transport, len(case.warm_ms)) == ("megatron", "gloo", 2)
    assert (tmp_path / "mine.summary.txt").exists()


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (("--refit-speed", "high"), "unknown flag --refit-speed"),
        (("--rl-inference-expert-model-parallel-size", "4"), "needs 6 ranks and the allocation has 3 tasks"),
    ],
)
def test_flags_refused_inside_salloc(
    cluster: Cluster, tmp_path: Path, flags: tuple[str, ...], sentence: str
) -> None:
    code, _, errors = salloc(cluster, tmp_path, *MEGATRON, *flags)
    assert code == 2
    assert sentence in errors
    assert list(tmp_path.iterdir()) == []


def test_the_time_limit_keeps_what_was_finished(overtime: Submitted) -> None:
    ended = overtime.wait()
    assert ended.state == "TIMEOUT", ended.output
    overtime.cluster.until("end of the job's processes", lambda: not overtime.left(), JOB_S, overtime.log)
    assert statuses(overtime)[IDS[0]] == "passed"
    assert "1 passed" in overtime.summary()
