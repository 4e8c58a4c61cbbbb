"""A comparison as a person reads it: a row for each case, its change in percent, each reason once."""

import io
from pathlib import Path

from rich.console import Console

from fixtures.gates.comparison import compare
from fixtures.records.reader import Run, read_run
from fixtures.views.comparison import by_case, comparison_markdown, print_comparison
from tests.correctness.made_up_runs import case, environment, write_run

KEYS = ("s1", "s6", "s7")


def sides(tmp_path: Path) -> tuple[Run, Run]:
    """The smaller model on a CPU against the full one on GPUs, and a case that only the GPUs have."""
    small = [case(key, [30.0] * 3, model="kimi-k2-mini") for key in KEYS]
    full = [case(key, [45.0] * 3, options={"ranks-per-gpu": "8"}) for key in KEYS]
    extra = case("s6", [40.0] * 3, engine="packed")
    cpu = environment("2030-01-01T00:00:00+00:00", device="AMD EPYC", devices_per_host=0)
    gpu = environment("2030-01-02T00:00:00+00:00")
    return (
        read_run(write_run(tmp_path / "cpu.jsonl", small, env={**cpu, "run": "cpu"})),
        read_run(write_run(tmp_path / "gpu.jsonl", [*full, extra], env={**gpu, "run": "gpu"})),
    )


def test_a_cpu_against_a_gpu_has_one_row_a_case_with_its_change(tmp_path: Path) -> None:
    base, new = sides(tmp_path)
    comparison = compare([base], [new])
    changes = {change.key.name + change.key.engine: change for change in by_case(comparison.rows)}
    assert len(changes) == 4
    assert [changes[f"{key}direct"].change for key in KEYS] == ["+50.0%"] * 3
    assert (changes["s6packed"].change, changes["s6packed"].only) == ("", "only in new")
    assert comparison.exit_code == 2
    screen = io.StringIO()
    print_comparison(comparison, Console(file=screen, width=80))
    shown = screen.getvalue()
    assert max(map(len, shown.splitlines())) <= 80
    assert shown.count("device was 'AMD EPYC'") == 1
    assert shown.count("not the same work: ") == 1
    assert "kimi-k2-mini, 61 layers against ranks-per-gpu=8" in " ".join(shown.split())
    assert comparison_markdown(comparison).count("+50.0%") == 3
    assert shown.count("only in new: s6 packed nvshmem") == 1
    assert [line.split()[2] for line in shown.splitlines() if "%" in line] == [*KEYS]


def test_two_pieces_of_work_on_one_system_are_not_called_missing(tmp_path: Path) -> None:
    half, whole = case("s6", [30.0] * 3, num_layers=30), case("s6", [60.0] * 3, num_layers=61)
    old, new = (read_run(write_run(tmp_path / f"{i}.jsonl", [c])) for i, c in enumerate((half, whole)))
    screen = io.StringIO()
    print_comparison(compare([old], [new]), Console(file=screen, width=80))
    shown = screen.getvalue()
    assert "+100.0%" in shown
    assert "not the same work: 30 layers against" in shown
    assert "only in" not in shown


def test_a_case_is_named_by_what_carried_it_as_in_a_runs_table(tmp_path: Path) -> None:
    """Its identity has the method that was asked for, known before anything runs."""
    asked = {"engine": "direct", "method": "gloo", "model": "kimi-k2-mini"}
    old = [case("s1", transport="process-vm", **asked), case("s6", transport="process-vm", **asked)]
    fresh = [case("s1", transport="process-vm", **asked), case("s6", transport="nixl", **asked)]
    base, new = (read_run(write_run(tmp_path / f"{i}.jsonl", c)) for i, c in enumerate((old, fresh)))
    screen = io.StringIO()
    print_comparison(compare([base], [new]), Console(file=screen, width=200))
    shown = screen.getvalue()
    assert "s1 direct process-vm" in shown
    assert "s6 direct gloo: carried by process-vm in the base runs and by nixl in the new ones" in shown
    assert "s1 direct process-vm: carried by" not in shown
