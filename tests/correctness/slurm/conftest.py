"""One cluster for all tests of this folder, and the scripts at the repository's root submitted to it."""

import contextlib
import shutil
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from fixtures.cluster.slurm import ENDED, Cluster, Job, obstacle, running
from fixtures.records.errors import RecordError
from fixtures.records.reader import Run, read_run
from tests.correctness.patience import PATIENCE_S

ROOT = Path(__file__).resolve().parents[3]
NODES = 5
JOB_S = PATIENCE_S
"""Seconds that a job may take: importing torch and Megatron on every task, on two busy processors."""
ON_CPU = {"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1", "REFIT_PYTHON": sys.executable}
PLUGINS = ("ranks", "options", "progress", "terminal", "gate", "resume", "workers", "records")


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """A running Slurm; skips with the reason where there can be none."""
    if reason := obstacle():
        pytest.skip(reason)
    with running(NODES) as cluster:
        yield cluster


@pytest.fixture(scope="session")
def workload(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Environment of a job that runs acts.py: quick, for it never imports Megatron."""
    folder = a_project(tmp_path_factory.mktemp("workload") / "acts", "acts.py")
    return {"REFIT_TESTS": str(folder), "REFIT_ENGINES": "megatron", "REFIT_METHODS": "gloo"}


def a_project(folder: Path, test_file: str, *more_plugins: str) -> Path:
    """A folder of its own with one of this folder's files as its only tests."""
    folder.mkdir(parents=True)
    shutil.copy(Path(__file__).with_name(test_file), folder / f"test_{test_file}")
    names = ", ".join(f'"fixtures.plugins.{name}"' for name in (*PLUGINS, *more_plugins))
    (folder / "conftest.py").write_text(f"pytest_plugins = [{names}]\n")
    (folder / "pytest.ini").write_text("[pytest]\naddopts = --import-mode=importlib -p no:cacheprovider\n")
    return folder


@dataclass(frozen=True, kw_only=True)
class Submitted:
    """A job that was submitted with sbatch, and where it writes."""

    cluster: Cluster
    number: int
    folder: Path

    @property
    def file(self) -> Path:
        """The run's records."""
        return self.folder / f"refit-kimi-k2-{self.number}.jsonl"

    @property
    def log(self) -> Path:
        """What the job printed."""
        return self.folder / "job.log"

    def wait(self) -> Job:
        """Wait for the end."""
        return self.cluster.wait(self.number, self.log, JOB_S)

    def until_case(self) -> None:
        """Wait for the first finished case; fails when the job ends before."""

        def finished() -> bool:
            if self.cluster.state(self.number) in ENDED:
                pytest.fail(f"job {self.number} ended before its first case:\n{self.log.read_text()}")
            with contextlib.suppress(RecordError):
                return self.file.exists() and bool(self.run().cases)
            return False

        self.cluster.until("finished case", finished, JOB_S, self.log)

    def run(self) -> Run:
        """The records written so far."""
        return read_run(self.file)

    def summary(self) -> str:
        """The run's summary file."""
        return self.file.with_suffix("").with_suffix(".summary.txt").read_text()

    def left(self) -> dict[int, str]:
        """The job's processes that still run."""
        return self.cluster.processes(of_job=self.number)


def submit(cluster: Cluster, folder: Path, options: Sequence[str], **environ: str) -> Submitted:
    """sbatch benchmark_refit_kimi_k2.sh with options of sbatch and an environment."""
    folder.mkdir(exist_ok=True)
    done = cluster.run(
        "sbatch", "--parsable", f"--output={folder}/job.log", *options, "benchmark_refit_kimi_k2.sh",
        cwd=ROOT, **{**ON_CPU, "REFIT_RESULTS": str(folder), **environ},
    )  # fmt: skip
    return Submitted(cluster=cluster, number=int(done.stdout.split(";")[0]), folder=folder)
