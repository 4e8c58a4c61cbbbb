"""What needs no torch does not wait for it: help, and an option that is refused."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.correctness.patience import PATIENCE_S

ROOT = Path(__file__).resolve().parents[3]
RUN = """
import sys, pytest
code = pytest.main(sys.argv[1:])
print(f"exit code {int(code)}, torch {'torch' in sys.modules}, megatron {'megatron.core' in sys.modules}")
"""


def started(*arguments: str) -> str:
    command = [sys.executable, "-c", RUN, "tests/perf", "-p", "no:cacheprovider", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    return done.stdout + done.stderr


@pytest.mark.parametrize(
    ("option", "code", "words"),
    [
        ("--help", 0, "weight refits:"),
        ("--version", 0, "pytest"),
        ("--scenario=s99", 4, "unknown scenario 's99'"),
        ("--engine=turbo", 4, "unknown engine 'turbo'"),
        ("--iterations=0", 4, "--iterations must be at least 1"),
        ("--ranks=0", 4, "at least 1 rank is needed"),
    ],
)
def test_what_needs_no_torch_does_not_import_it(option: str, code: int, words: str) -> None:
    output = started(option)
    assert words in output
    assert f"exit code {code}, torch False, megatron False" in output
    assert "loading torch" not in output


def test_an_import_that_takes_seconds_is_announced_once() -> None:
    output = started("--collect-only", "--scenario=s6", "--engine=megatron")
    assert output.startswith("loading torch and megatron-core ...")
    assert output.count("loading torch") == 1
    assert "torch True, megatron True" in output


@pytest.mark.parametrize(("options", "said"), [((), False), (("--benchmark-sort=mean",), True)])
def test_the_head_leaves_out_what_pytest_benchmark_says(options: tuple[str, ...], said: bool) -> None:
    head = started("--collect-only", "--scenario=s6", "--engine=megatron", *options).partition("collected")[0]
    assert "rootdir" in head
    assert ("benchmark: " in head) == said
