"""What cannot be run is refused in one sentence, and what cannot be saved is said."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch.distributed.run import get_args_parser

from fixtures.plugins.run_file import NOT_SAVED, NOTHING_MEASURED
from fixtures.records.writer import RunWriter
from tests.correctness import made_up_runs as made_up
from tests.correctness.cli.inner_runs import fork_suite

ON_CPU = pytest.mark.skipif(torch.cuda.device_count() > 0, reason="this machine has GPUs")

QUICK = ("--scenario=s6", "--engine=megatron", "--ranks=2", "--iterations=1", "--warmup=0")
GLOO = (*QUICK, "--method=gloo")

REFUSED = [
    ("--scenario=s9", "unknown scenario 's9'; known: s1, s2, s3, s4, s5, s6, s7"),
    ("--scenario=s", "scenario 's' is not unique"),
    ("--scenario=8:8:0:16:collocated:nccl", "target TP must be a whole number of at least 1, not '0'"),
    ("--scenario=8:8:4:8:collocated:nccl", "a collocated scenario needs source and target on the same ranks"),
    ("--scenario=3:1:1:3:collocated:nccl", "attention heads 64 is not divisible by TP 3"),
    ("--scenario=1:5:5:1:non-collocated:nccl", "384 experts are not divisible by EP 5"),
    ("--scenario=8:8:4:16:sideways:nccl", "unknown mode 'sideways'; known: collocated, non-collocated"),
    ("--engine=turbo", "unknown engine 'turbo'; known: megatron"),
    ("--model=kimi-k3", "unknown model 'kimi-k3'; known: kimi-k2, kimi-k2-mini"),
    ("--method=mpi", "unknown method 'mpi'; known: nccl, nvshmem, nixl, nccl_m2n, gloo"),
    ("--num-layers=0", "number of layers must be a whole number of at least 1, not 0"),
    ("--num-layers=62", "kimi-k2 has 61 layers, 62 were asked for"),
    ("--twin=4", "twin '4' is not of the form a,b"),
    ("--twin=0,2", "twin factor of TP must be a whole number of at least 1, not 0"),
    ("--iterations=0", "--iterations must be at least 1, not 0"),
    ("--warmup=-1", "--warmup must be at least 0, not -1"),
    ("--buffer-gb=0", "--buffer-gb must be 0.000001 to 1,000,000, not 0.0"),
    ("--full-every=-1", "--full-every must be at least 0, not -1"),
    ("--check-every=0", "--check-every must be at least 1, not 0"),
    ("--refit-execution-batch-bytes=-1", "--refit-execution-batch-bytes must be at least 0, not -1"),
    ("--placement=bset", "--placement must be megatron, best or ranks like 0,2,1,3, not 'bset'"),
    ("--ranks=0", "--ranks 0: at least 1 rank is needed"),
    ("--resume=nowhere.jsonl", "nowhere.jsonl cannot be read"),
    ("--resume=/dev/zero", "/dev/zero is not a regular file."),
    ("--run-name=../../x", "--run-name: a run's name is a plain file name of at most 200 bytes"),
    ("--run-name=/tmp/x", "--run-name: a run's name is a plain file name of at most 200 bytes"),
    ("--run-name=..", "--run-name: a run's name is a plain file name of at most 200 bytes"),
    ("--run-name=a\x1b[2J", "at most 200 bytes, without a dot in front, not 'a\\x1b[2J'"),
    ("--buffer-gb=inf", "--buffer-gb must be 0.000001 to 1,000,000, not inf"),
    ("--buffer-gb=nan", "--buffer-gb must be 0.000001 to 1,000,000, not nan"),
    ("--deadline=99999999999999999999", "99999999999999999999"),
    ("--deadline=cold=soon", "deadline 'cold=soon': 'soon' is not a number of seconds above 0"),
    ("--deadline=cold=inf", "up to 2592000 (30 days)"),
    ("--deadline=a b=3", "deadline 'a b=3': 'a b' is not the name of a stage"),
    ("--rank-grace=nan", "--rank-grace nan: not a number of seconds"),
    ("--iterations=1000000000", "--iterations must be at most 1,000,000, not 1000000000"),
    ("--twin=1000000000,1", "twin '1000000000,1' is not of the form a,b with whole numbers"),
    ("--scenario=1000:1:1:2000:non-collocated:nccl", "not divisible"),
    ("--scenario=1000000000:1:1:1:non-collocated:nccl", "source TP must be a whole number"),
    ("--ranks=1000000000", "--ranks 1000000000: at most 4096 ranks run on one machine"),
    ("--gate=speed", "unknown gate 'speed'; known: baseline, range, floor=MULTIPLE"),
    ("--run-name=a/b", "--run-name: a run's name is a plain file name of at most 200 bytes"),
    ("--update=1e-300", "an update changes a share of 1e-06 to 1, not 1e-300"),
    ("--update=nan", "an update changes a share of 1e-06 to 1, not nan"),
]


@pytest.mark.parametrize(("option", "sentence"), REFUSED, ids=[option for option, _ in REFUSED])
def test_bad_input_is_one_sentence_and_nothing_runs(option: str, sentence: str, tmp_path: Path) -> None:
    done = fork_suite(tmp_path, option)
    assert done.code == pytest.ExitCode.USAGE_ERROR
    (printed,) = [line for line in done.output.splitlines() if line.strip()]
    assert printed.startswith("ERROR: ")
    assert sentence in printed
    assert not (tmp_path / "results").exists()


@ON_CPU
@pytest.mark.parametrize(
    ("gate", "sentence"),
    [
        ("range", "--gate range is refused: "),
        ("floor=2", "--gate floor=2 is refused: "),
    ],
)
def test_a_gate_that_can_judge_nothing_is_refused_before_the_run(
    gate: str, sentence: str, tmp_path: Path
) -> None:
    done = fork_suite(tmp_path, *QUICK, f"--gate={gate}")
    assert done.code == pytest.ExitCode.USAGE_ERROR, done.output
    assert sentence in done.output
    assert "Traceback" not in done.output
    assert not (tmp_path / "results" / "inner.jsonl").exists()


@ON_CPU
def test_a_case_that_cannot_run_here_is_skipped_with_its_reason(tmp_path: Path) -> None:
    """No CUDA for nccl and nvshmem."""
    done = fork_suite(tmp_path, *QUICK, "--method=nccl", "--method=nvshmem")
    assert done.code == NOTHING_MEASURED, done.output
    assert "Nothing was measured: every case was skipped (exit code 10)." in done.output
    assert (done.lines[-1]["status"], done.lines[-1]["exit_code"]) == ("completed", NOTHING_MEASURED)
    assert [case["status"] for case in done.cases] == ["skipped"] * 2
    assert [case["reason"] for case in done.cases] == [
        f"method {name} needs CUDA GPUs, and this machine has none" for name in ("nccl", "nvshmem")
    ]
    assert all(case["reason"] in done.output for case in done.cases)


@ON_CPU
def test_a_twin_that_divides_no_scenario_is_refused_and_one_that_divides_some_skips_the_others(
    tmp_path: Path,
) -> None:
    refused = fork_suite(tmp_path, *GLOO, "--twin=2,16")
    assert refused.code == pytest.ExitCode.USAGE_ERROR
    assert "twin 2,16 does not divide TP16,EP8 of s6-collocated-tp16ep8-to-tp8ep16" in refused.output
    done = fork_suite(tmp_path, *GLOO, "--scenario=2:16:2:16:collocated:gloo", "--twin=2,16")
    skipped = next(case for case in done.cases if case["scenario"].startswith("s6"))
    assert skipped["status"] == "skipped", done.output
    assert skipped["reason"] == "twin 2,16 does not divide TP16,EP8 of s6-collocated-tp16ep8-to-tp8ep16"


@ON_CPU
def test_a_users_scenario_model_and_layers(tmp_path: Path) -> None:
    """And every engine that runs over gloo; named twice it runs once; then --resume finds nothing
    left to do, and everything where another option makes it another case."""
    options = ("--ranks=3", "--iterations=2", "--warmup=0", "--model=kimi-k2-mini", "--num-layers=2")
    options = (*options, "--method=gloo")
    scenario = "--scenario=2:1:1:1:non-collocated:gloo:one rank takes all"
    done = fork_suite(tmp_path, scenario, f"{scenario} again", *options)
    assert done.code == 0, done.output
    assert len(done.cases) == len({case["engine"] for case in done.cases})
    assert {case["engine"] for case in done.cases} >= {"megatron"}
    for case in done.cases:
        assert (case["scenario"], case["purpose"]) == (
            "own-non-collocated-tp2ep1-to-tp1ep1-gloo",
            "one rank takes all",
        )
        assert (case["num_layers"], case["ranks"], case["mismatches"]) == (2, 3, 0)
        assert (case["expected_ms"], case["verdict"]) == (None, "not comparable")
    file = tmp_path / "results" / "inner.jsonl"
    again = fork_suite(tmp_path, scenario, *options, f"--resume={file}")
    assert again.code == 0, again.output
    assert f"{len(done.cases)} deselected" in again.output
    assert "nothing is left to run: every case that was asked for has passed" in again.output
    assert f"{len(done.cases)} of {len(done.cases)} exact" in again.output
    other = fork_suite(tmp_path, scenario, *options, f"--resume={file}", "--no-repairs", "--collect-only")
    assert "deselected" not in other.output


@ON_CPU
def test_an_unwritable_results_folder(tmp_path: Path) -> None:
    (tmp_path / "results").write_text("a file is in the way")
    done = fork_suite(tmp_path, *GLOO)
    assert done.code == NOT_SAVED, done.output
    assert "TP2,EP1>TP1,EP2" in done.output
    assert "Not saved: " in done.output
    assert "inner.jsonl cannot be created" in done.output


@ON_CPU
def test_a_run_that_cannot_be_resumed_is_refused_before_its_first_case(tmp_path: Path) -> None:
    """Another run writes the file; another system began it; an empty file and one with nothing left to do."""
    path = tmp_path / "run.jsonl"
    resume = (*GLOO, f"--resume={path}")
    with RunWriter(path, {**made_up.environment()}):
        held = fork_suite(tmp_path, *resume)
        assert f"ERROR: {path} is being written by another run." in held.output
    other = fork_suite(tmp_path, *resume)
    assert f"ERROR: {path} cannot be resumed on this system: " in other.output
    before = path.read_bytes()
    for refused in (held, other):
        assert refused.code == pytest.ExitCode.USAGE_ERROR
        assert "Traceback" not in refused.output
        assert "s6" not in refused.output
    assert path.read_bytes() == before


@pytest.fixture
def full_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of a few blocks, all of them taken."""
    folder = tmp_path / "full"
    folder.mkdir()
    if os.geteuid() != 0:
        pytest.skip("only root may mount a small file system")
    mount = ["mount", "-t", "tmpfs", "-o", "size=16k", "tmpfs", str(folder)]
    if (done := subprocess.run(mount, capture_output=True, text=True, check=False)).returncode:
        pytest.skip(f"no small file system here: {done.stderr.strip()}")
    try:
        with (folder / "ballast").open("wb", buffering=0) as ballast:
            while ballast.write(bytes(4096)):
                pass
    except OSError:
        pass
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


@ON_CPU
def test_a_full_disk(full_disk: Path, tmp_path: Path) -> None:
    done = fork_suite(tmp_path, *GLOO, results=full_disk)
    assert done.code == NOT_SAVED, done.output
    assert "TP2,EP1>TP1,EP2" in done.output
    assert "Not saved: " in done.output
    assert "No space left on device" in done.output


def test_no_option_is_cut_off_by_torchrun(pytestconfig: pytest.Config) -> None:
    """torchrun's parser takes `--run` after the script for its own `--run-path`; whole names pass through."""
    theirs = {name for action in get_args_parser()._actions for name in action.option_strings}
    refit_options = [o for group in pytestconfig._parser._groups if group.name in ("refit", "ranks")
                     for option in group.options for o in option.names()]  # fmt: skip
    assert "--scenario" in refit_options
    assert "--ranks" in refit_options
    for name in refit_options:
        assert not [other for other in theirs if other.startswith(name)], name
