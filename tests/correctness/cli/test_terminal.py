"""A run on a terminal of 80 columns: one live line while it runs, nothing wider, no colour with NO_COLOR."""

import re

import pytest
import torch

from tests.correctness.cli.inner_runs import SuiteRun, suite_on_a_terminal

pytestmark = pytest.mark.skipif(
    torch.cuda.device_count() > 0, reason="these runs are about gloo ranks on a CPU"
)

CASES = ("--scenario=s6", "--engine=megatron", "--engine=packed", "--method=gloo")
QUICK = ("--ranks=2", "--iterations=1", "--warmup=0")
CODE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
COLOUR = re.compile(r"\x1b\[(?:\d+;)*(?:[349][0-7]|10[0-7])[;m]")
ERASED = re.compile(r"\x1b\[2K|\r")


@pytest.fixture(scope="module", params=["coloured", "plain"])
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> SuiteRun:
    variables = {"NO_COLOR": "1"} if request.param == "plain" else {}
    folder = tmp_path_factory.mktemp(request.param)
    done = suite_on_a_terminal(folder, *CASES, *QUICK, **variables)
    assert done.code == 0, done.output
    assert bool(COLOUR.search(done.output)) == (request.param == "coloured")
    return done


def test_one_live_line_has_case_stage_count_and_time_left(run: SuiteRun) -> None:
    running = run.output[: run.output.index(" refits ")]
    drawn = [CODE.sub("", text).strip() for line in running.splitlines() for text in ERASED.split(line)]
    live = [text for text in drawn if re.match(r"s6 \w+ gloo: \w+", text)]
    for stage in ("cold", "verify", "warm"):
        assert f"s6 megatron gloo: {stage}  1 of 2" in live, run.output
        assert any(re.fullmatch(rf"s6 packed gloo: {stage}  2 of 2  about \d+ (s|min) left", t) for t in live)
    assert not any("exact, cold" in text or "test_refit.py" in text for text in drawn)


def test_no_line_is_wider_than_the_terminal_but_paths(run: SuiteRun) -> None:
    progress = run.output.partition("collected ")[2].partition("records: ")[0]
    shown = [CODE.sub("", text).rstrip() for line in progress.splitlines() for text in ERASED.split(line)]
    assert [text for text in shown if len(text) > 80 and ": /" not in text] == []
    assert any(text.startswith("2 of 2 exact") for text in shown)
