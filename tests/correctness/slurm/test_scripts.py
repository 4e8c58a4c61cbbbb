"""What the scripts ask srun for, with an srun that only writes it down (no Slurm needed)."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.correctness.patience import PATIENCE_S

ROOT = Path(__file__).resolve().parents[3]
SCRIPT, FLAGS_SCRIPT = "benchmark_refit_kimi_k2.sh", "benchmark_refit_sbatch.sh"
STUB = """#!/usr/bin/env bash
printf '%s\\n' "$@" > "$RECORD"
printf '%s\\0' "$@" > "$RECORD.exact"
echo "${REFIT_SECRET:-}" >> "$RECORD.secrets"
[ -z "$WRITES" ] || touch "$WRITES"
exit "${CODE:-0}"
"""
PYTHON = f"""#!/usr/bin/env bash
case " $* " in
  *" --collect-only "*) echo "collected or not"; exit "${{COLLECTS:-0}}" ;;
  *) exec {sys.executable} "$@" ;;
esac
"""
FLAGS = (
    "--tensor-model-parallel-size", "2", "--expert-model-parallel-size", "2",
    "--rl-inference-tensor-model-parallel-size", "1", "--rl-inference-expert-model-parallel-size", "4",
    "--refit-mode", "collocated", "--refit-method", "nccl", "--swiglu",
)  # fmt: skip


class Scripts:
    """Runs a script in a make-believe job; `asked` has srun's arguments."""

    def __init__(self, folder: Path) -> None:
        self.results, self.record, self.bin = folder / "results", folder / "asked", folder / "bin"
        self.bin.mkdir()
        for name, text in (("srun", STUB), ("python", PYTHON)):
            (self.bin / name).write_text(text)
            (self.bin / name).chmod(0o755)

    def run(
        self, script: Path, *arguments: str, cwd: Path = ROOT, **environ: str
    ) -> subprocess.CompletedProcess[str]:
        """Run with `environ` on top of a job's environment."""
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("SLURM", "REFIT", "CONTAINER"))}
        job = {"SLURM_JOB_ID": "7", "SLURM_JOB_NAME": "job", "SLURM_SUBMIT_DIR": str(ROOT), "WRITES": ""}
        ours = {
            "PATH": f"{self.bin}:{kept['PATH']}",
            "RECORD": str(self.record),
            "REFIT_RESULTS": str(self.results),
            "REFIT_PYTHON": str(self.bin / "python"),
        }
        command = ["bash", str(script), *arguments]
        env = kept | job | ours | environ
        return subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, timeout=PATIENCE_S)

    @property
    def asked(self) -> list[str]:
        """One argument of srun an item."""
        return self.record.read_text().splitlines()

    def values(self, option: str) -> list[str]:
        """What stands behind each mention of an option."""
        return [value for name, value in zip(self.asked, self.asked[1:], strict=False) if name == option]


@pytest.fixture
def scripts(tmp_path: Path) -> Scripts:
    return Scripts(tmp_path)


def test_one_step_with_the_seven_scenarios(scripts: Scripts) -> None:
    done = scripts.run(ROOT / SCRIPT)
    assert done.returncode == 0, done.stderr
    assert scripts.asked[:2] == ["--kill-on-bad-exit=1", "--wait=0"]
    assert [row.rsplit(":", 1)[0] for row in scripts.values("--scenario")] == [
        "8:8:8:4:non-collocated:nvshmem",
        "16:4:8:4:non-collocated:nvshmem",
        "16:4:16:2:non-collocated:nvshmem",
        "16:4:32:2:non-collocated:nvshmem",
        "8:8:16:4:non-collocated:nvshmem",
        "16:8:8:16:collocated:nccl",
        "32:4:16:8:collocated:nccl",
    ]
    assert not [word for word in scripts.asked if word.startswith("--container")]
    assert scripts.values("--junitxml") == [str(scripts.results / "job-7.xml")]


def test_the_environment_overrides(scripts: Scripts) -> None:
    environ = {
        "REFIT_SCENARIOS": "2:1:1:2:collocated:gloo:mine; s6",
        "REFIT_ENGINES": "megatron direct",
        "REFIT_METHODS": "nccl",
        "REFIT_MODEL": "kimi-k2-mini",
        "REFIT_NUM_LAYERS": "2",
        "REFIT_TWIN": "8,8",
        "REFIT_WARMUP": "1",
        "REFIT_ITERATIONS": "3",
        "REFIT_PYTEST_ARGS": "--deadline 60",
        "REFIT_SRUN_ARGS": "--mpi=none",
        "REFIT_TESTS": "tests/other",
        "REFIT_RUN": "named",
    }
    scripts.run(ROOT / SCRIPT, "-x", **environ)
    expected = {
        "--scenario": ["2:1:1:2:collocated:gloo:mine", "s6"],
        "--engine": ["megatron", "direct"],
        "--method": ["nccl"],
        "--model": ["kimi-k2-mini"],
        "--num-layers": ["2"],
        "--twin": ["8,8"],
        "--warmup": ["1"],
        "--iterations": ["3"],
        "--deadline": ["60"],
        "--run-name": ["named"],
        "pytest": ["tests/other"],
    }
    assert {option: scripts.values(option) for option in expected} == expected
    assert "--mpi=none" in scripts.asked[: scripts.asked.index("pytest")]
    assert scripts.asked[-1] == "-x"


def test_a_container_is_used_when_it_is_named(scripts: Scripts) -> None:
    scripts.run(
        ROOT / SCRIPT, CONTAINER_IMAGE="/images/x.sqsh", CONTAINER_MOUNTS="/data:/data", REFIT_PYTHON=""
    )
    assert "--container-image=/images/x.sqsh" in scripts.asked
    mounts = f"--container-mounts=/data:/data,{ROOT}:{ROOT},{scripts.results}:{scripts.results}"
    assert mounts in scripts.asked
    assert f"--container-workdir={ROOT}" in scripts.asked
    assert scripts.asked[scripts.asked.index("-m") - 1] == "python3"


@pytest.mark.parametrize("script", [SCRIPT, FLAGS_SCRIPT])
def test_each_step_gets_a_secret_that_no_command_line_shows(scripts: Scripts, script: str) -> None:
    arguments = FLAGS if script == FLAGS_SCRIPT else ()
    for _ in range(2):
        scripts.run(ROOT / script, *arguments)
    first, second = (scripts.bin.parent / "asked.secrets").read_text().split()
    assert first != second
    assert re.fullmatch("[0-9a-f]{64}", first)
    assert not [word for word in scripts.asked if second in word or "REFIT_SECRET" in word]


@pytest.mark.parametrize("code", [1, 137])
def test_the_exit_code_is_the_suites(scripts: Scripts, code: int) -> None:
    done = scripts.run(ROOT / SCRIPT, CODE=str(code))
    assert done.returncode == code
    assert "no case was finished" in done.stderr


def test_bad_options_are_said_once_and_start_nothing(scripts: Scripts) -> None:
    done = scripts.run(ROOT / SCRIPT, COLLECTS="4")
    assert done.returncode == 4
    assert done.stderr == "collected or not\n"
    assert not scripts.record.exists()


def test_a_second_run_takes_a_name_of_its_own(scripts: Scripts) -> None:
    scripts.results.mkdir()
    (scripts.results / "job-7.jsonl").touch()
    scripts.run(ROOT / SCRIPT)
    assert scripts.values("--run-name") == ["job-7-2"]
    assert "--resume" not in scripts.asked


def test_a_requeued_job_goes_on_with_its_own_run(scripts: Scripts) -> None:
    scripts.results.mkdir()
    (scripts.results / "job-7.jsonl").touch()
    scripts.run(ROOT / SCRIPT, SLURM_RESTART_COUNT="1")
    assert scripts.values("--resume") == [str(scripts.results / "job-7.jsonl")]


def test_the_copy_in_slurms_spool_finds_the_suite(scripts: Scripts, tmp_path: Path) -> None:
    spool = tmp_path / "slurm_script"
    shutil.copy(ROOT / SCRIPT, spool)
    assert scripts.run(spool, cwd=tmp_path).returncode == 0
    lost = scripts.run(spool, cwd=tmp_path, SLURM_SUBMIT_DIR=str(tmp_path))
    assert lost.returncode == 2
    assert "submit from its folder" in lost.stderr


@pytest.mark.parametrize("script", [SCRIPT, FLAGS_SCRIPT])
def test_without_an_allocation_nothing_starts(scripts: Scripts, script: str) -> None:
    done = scripts.run(ROOT / script, *FLAGS, SLURM_JOB_ID="")
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "allocation" in done.stderr
    assert not scripts.record.exists()


def test_megatron_flags_reach_pytest(scripts: Scripts) -> None:
    done = scripts.run(ROOT / FLAGS_SCRIPT, *FLAGS, "--", "-k", "a b")
    assert done.returncode == 0, done.stderr
    assert "ignored, without effect on a refit here: --swiglu" in done.stderr
    assert scripts.values("--scenario") == ["2:2:1:4:collocated:nccl:from Megatron flags"]
    assert scripts.asked[-2:] == ["-k", "a b"]


def test_flags_are_refused_before_anything_starts(scripts: Scripts) -> None:
    done = scripts.run(ROOT / FLAGS_SCRIPT, *FLAGS, "--refit-speed", "9")
    assert done.returncode == 2
    assert "unknown flag --refit-speed" in done.stderr
    assert not scripts.record.exists()


HOSTILE = "say \"a\" 'b' $(touch owned) `touch owned` ${HOME} \\\\ * ; & | >owned\nnext line"
"""A description that a shell could take for something else."""


def exact(scripts: Scripts) -> list[str]:
    """srun's arguments, line breaks within them kept."""
    return scripts.record.with_name("asked.exact").read_text().split("\0")[:-1]


def test_a_description_passes_through_both_scripts_as_text(scripts: Scripts, tmp_path: Path) -> None:
    row = f"8:8:8:4:non-collocated:nccl:{HOSTILE}"
    text = (ROOT / SCRIPT).read_text().replace("scenarios=(", f"scenarios=(\n  {shlex.quote(row)}", 1)
    (tmp_path / "mine.sh").write_text(text)
    done = scripts.run(tmp_path / "mine.sh", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    asked = exact(scripts)
    assert asked[asked.index("--scenario") + 1] == row
    done = scripts.run(ROOT / FLAGS_SCRIPT, *FLAGS, "--", "--scenario", row, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert row in exact(scripts)
    assert not (tmp_path / "owned").exists()
    assert not (ROOT / "owned").exists()


def test_a_jobs_name_cannot_lead_out_of_the_results(scripts: Scripts) -> None:
    done = scripts.run(ROOT / SCRIPT, SLURM_JOB_NAME="../../team/x y$(id)")
    assert done.returncode == 2
    assert "..-..-team-x-y--id--7 is no plain file name" in done.stderr
    assert scripts.run(ROOT / SCRIPT, SLURM_JOB_NAME="team/x y").returncode == 0
    assert scripts.values("--run-name") == ["team-x-y-7"]
    refused = scripts.run(ROOT / SCRIPT, REFIT_RUN="../x")
    assert (refused.returncode, refused.stderr) == (2, "REFIT_RUN ../x is no plain file name\n")
