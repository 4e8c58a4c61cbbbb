"""Engines that cheat are found, each for what it did, and what one falsifies does not reach the next."""

from pathlib import Path

import pytest
import torch

from tests.correctness.cli.inner_runs import SuiteRun, fork_suite
from tests.correctness.cli.planted_engines import CHEATS

pytestmark = pytest.mark.skipif(
    torch.cuda.device_count() > 0, reason="these runs are about gloo ranks on a CPU"
)

PLUGIN = ("-p", "tests.correctness.cli.planted_engines")
CASES = ("--scenario=s6", "--ranks=2", "--rank-grace=1", "--iterations=3", "--warmup=0", "--method=gloo")
UNSEEN = {"by-checksum", "slow-clock"}
"""Not to be found in this run: dense weights change every checksum, and an own clock is not defended."""

SAID = {
    "idle-by-count": " of 454,816 elements are wrong on 2 of 2 target ranks",
    "idle-without-poison": "wrong",
    "wrong-when-timed": "timed refit",
    "late": "wrong",
    "late-thread": "wrong",
    "early": "held the new weights before the refit was called",
    "new-storage": "the refit moved 48 of 48 target tensors: embedding.word_embeddings.weight",
    "new-strides": "another address and strides",
    "source-destroyed": "the refit changed the source",
    "source-destroyed-on-one": "rank 1: timed refit 0: the refit changed the source",
    "no-target": "poison left",
    "part-of-target": "the target is not what it was: the model of layout rank",
    "emptied-target": "the target is not what it was: the model of layout rank",
    "asks-the-oracle": " of 454,816 elements are wrong on 2 of 2 target ranks",
    "aliased": "share memory",
    "negative-zero": "flipped",
    "flushed": "wrong",
    "nans": "6,144 of 454,816 elements are wrong on 1 of 2 target ranks",
    "blind-oracle": "poison left",
}
"""Engine -> words of what the case says; when late weights come is up to the machine."""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> SuiteRun:
    """Every cheat, and the honest engine between and after them."""
    engines = [f"--engine={name}" for name in (*CHEATS, "megatron")]
    return fork_suite(tmp_path_factory.mktemp("cheats"), *PLUGIN, *CASES, *engines)


def failure(run: SuiteRun, name: str) -> str:
    """All that the case's failure says."""
    case = run.case("s6", name)
    return run.junit[case["case"].rsplit("::", 1)[1]]


def test_every_cheat_has_its_words() -> None:
    assert {*SAID, *UNSEEN} == {*CHEATS}


@pytest.mark.parametrize("name", SAID)
def test_a_cheat_is_found_and_named(name: str, run: SuiteRun) -> None:
    assert run.case("s6", name)["status"] == "failed", run.output
    assert SAID[name] in failure(run, name)


@pytest.mark.parametrize("name", ["idle-by-count", "asks-the-oracle"])
def test_weights_of_another_generation_are_wrong_all_over(name: str, run: SuiteRun) -> None:
    """All but the few whose 16 bits happen to be alike, which differ with the generation."""
    assert run.case("s6", name)["mismatches"] > 0.999 * 454_816


def test_who_reaches_the_clock_falsifies_itself_alone(run: SuiteRun) -> None:
    """Named in docs/trust.md: no rank is defended against its own engine; the next has others."""
    falsified, honest = run.case("s6", "slow-clock"), run.case("s6", "megatron")
    assert max(falsified["warm_ms"]) < 1
    assert honest["status"] == "passed"
    assert min(honest["warm_ms"]) > 1


def test_a_checksum_that_sees_no_change_is_found_where_a_part_changes(tmp_path: Path) -> None:
    done = fork_suite(tmp_path, *PLUGIN, *CASES, "--update=0.001", "--engine=by-checksum", "--engine=packed")
    found, honest = done.case("s6", "by-checksum"), done.case("s6", "packed")
    assert (found["status"], honest["status"]) == ("failed", "passed"), done.output
    assert "stale: these are the weights of 1 generation ago" in failure(done, "by-checksum")
    assert honest["options"]["update"] == "0.001"


def test_the_record_says_how_it_was_checked(run: SuiteRun) -> None:
    check = run.case("s6", "megatron")["verification"]
    assert check["verified_refits"][-1] == 2
    assert check["sampled_elements"] >= 3 * 2 * 48
    assert isinstance(check["seed"], int)
