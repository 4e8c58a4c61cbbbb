"""What a run proposes to type next."""

from pathlib import Path

import pytest

from fixtures.records.reader import Run, read_run
from fixtures.views import next_steps as module
from fixtures.views.next_steps import next_steps
from tests.correctness.made_up_runs import case, environment, write_run


def run_of(folder: Path, name: str, day: int, *keys: str) -> Run:
    """A run of some scenarios on a day of January 2030, written now."""
    started = f"2030-01-{day:02d}T00:00:00+00:00"
    return read_run(
        write_run(folder / f"{name}.jsonl", [case(key) for key in keys], env=environment(started))
    )


@pytest.fixture(autouse=True)
def in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Paths are told as they are typed here."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(module.shutil, "which", lambda name: name)


def proposed(run: Run, width: int = 80) -> list[str]:
    """The commands alone."""
    return [line[9:] for line in next_steps(run, width) if line[:9] in ("next:    ", " " * 9)]


def test_the_base_of_a_comparison_is_the_newest_run_before_with_a_case_in_common(tmp_path: Path) -> None:
    run_of(tmp_path, "old", 1, "s6")
    run_of(tmp_path, "other-case", 4, "s1")
    run_of(tmp_path, "better", 3, "s6", "s1")
    mine = run_of(tmp_path, "mine", 5, "s6")
    assert proposed(mine)[0] == "refit-bench compare better.jsonl mine.jsonl"


def test_a_resumed_run_is_not_held_against_a_newer_one(tmp_path: Path) -> None:
    mine = run_of(tmp_path, "mine", 5, "s6")
    run_of(tmp_path, "newer", 6, "s6")
    (tmp_path / "torn.jsonl").write_text("{")
    assert proposed(mine) == [
        "refit-bench plan s6    # its bytes and its least time",
        "refit-bench export mine.jsonl -o cases.csv",
    ]


def test_what_a_command_is_for_is_left_out_where_there_is_no_room(tmp_path: Path) -> None:
    mine = run_of(tmp_path, "mine", 5, "s6")
    assert max(map(len, next_steps(mine, 80))) <= 80
    assert proposed(mine, 40)[0] == "refit-bench plan s6"


def test_the_command_is_named_by_its_path_where_it_is_not_on_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module.shutil, "which", lambda _: None)
    monkeypatch.setattr(module.sys, "executable", str(tmp_path / "bin" / "python"))
    assert module.command_name() == "bin/python -m tools"
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "refit-bench").touch()
    assert module.command_name() == "bin/refit-bench"


def test_a_failed_case_is_resumed_with_the_options_that_it_had(tmp_path: Path) -> None:
    """Without them other cases would run, and not this one."""
    env = environment()
    env["observation"]["command"] = (
        "pytest tests/perf --engine=mine:E --scenario 's6' -n 2 --run-name=x --ranks 4"
    )
    failed = case(status="failed", reason="it broke")
    mine = read_run(write_run(tmp_path / "mine.jsonl", [failed], env=env))
    assert proposed(mine, 120)[0] == (
        "refit-bench bench --engine=mine:E --scenario s6 --ranks 4 --resume mine.jsonl"
        "    # what failed or was not run"
    )


def test_a_command_that_cannot_be_read_costs_nothing(tmp_path: Path) -> None:
    env = environment()
    env["observation"]["command"] = "pytest 'unbalanced"
    mine = read_run(write_run(tmp_path / "m.jsonl", [case(status="failed", reason="it broke")], env=env))
    assert proposed(mine)[0] == "refit-bench bench --resume m.jsonl    # what failed or was not run"


def test_a_row_of_ones_own_is_planned_as_it_was_asked_for(tmp_path: Path) -> None:
    sides = {"source": {"tp": 8, "ep": 8}, "target": {"tp": 4, "ep": 16}, "scenario_method": "nccl"}
    row = case(scenario="own-collocated-tp8ep8-to-tp4ep16-nccl", purpose="mine", **sides)
    mine = read_run(write_run(tmp_path / "mine.jsonl", [row]))
    assert proposed(mine, 20)[0] == "refit-bench plan 8:8:4:16:collocated:nccl"
