"""The history of a scenario: right about where it changed."""

import json
import shutil
import sqlite3
from pathlib import Path

import pytest

from fixtures.gates.index import Index
from fixtures.gates.metrics import METRICS, WARM, value_of
from fixtures.views.trend import sparkline
from tests.correctness.made_up_runs import case, case_line, environment, noisy_nights, skipped, write_run
from tools.__main__ import main as run


def test_history_shows_a_sparkline_and_the_change(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    noisy_nights([30 + 0.1 * (i % 3) for i in range(20)] + [36 + 0.1 * (i % 3) for i in range(10)], tmp_path)
    write_run(tmp_path / "zz.jsonl", [skipped("s6")], env=environment("2031-01-01T00:00:00+00:00"))
    assert run(["history", "s6", "--results", str(tmp_path)]) == 0
    shown = capsys.readouterr().out
    assert max(map(len, shown.splitlines())) <= shutil.get_terminal_size().columns
    out = " ".join(shown.split())
    assert "▁▁▁" in out
    assert "█" in out
    assert "warm_ms: 30 runs" in out
    assert "slower by 20" in out
    assert "since 2030-01-21 (night, commit 0123456789ab): 30.1 ms to 36.2 ms" in out


def test_a_change_of_the_system_is_shown_in_place(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    for night in range(6):
        env = environment(f"2030-01-0{night + 1}T00:00:00+00:00", torch="2.11" if night < 3 else "2.15")
        write_run(tmp_path / f"n{night}.jsonl", [case()], env=env)
    assert run(["history", "s6", "--results", str(tmp_path)]) == 0
    output = " ".join(capsys.readouterr().out.split())
    assert "system changed at 2030-01-04 (night): torch was '2.11' and is '2.15'" in output


def test_files_that_are_indexed_are_not_read_again(tmp_path: Path) -> None:
    keys = ("s1", "s2", "s3", "s4", "s5", "s6", "s7")
    lines = [
        json.dumps(case_line(key, [30.0] * 5, engine=engine)) for key in keys for engine in ("a", "b", "c")
    ]
    for night in range(48):
        first = json.dumps(environment(f"2030-01-01T00:{night // 60:02d}:{night % 60:02d}"))
        (tmp_path / f"n{night:03d}.jsonl").write_text("\n".join([first, *lines]) + "\n")
    paths = sorted(tmp_path.glob("*.jsonl"))
    assert Index(tmp_path / "index.sqlite").refresh(paths) == 48
    again = Index(tmp_path / "index.sqlite")
    assert again.refresh(paths) == 0
    assert len(again.series()) == 21
    assert len(again.series()[0].points) == 48


def test_the_index_follows_the_files(tmp_path: Path) -> None:
    file, index = tmp_path / "a.jsonl", Index(tmp_path / "index.sqlite")
    write_run(file, [case("s6")])
    assert index.refresh([file]) == 1
    file.unlink()
    write_run(file, [case("s6", engine="packed"), case("s2")])
    assert index.refresh([file]) == 1
    assert [(one.key.name, one.key.engine) for one in index.series()] == [("s2", "direct"), ("s6", "packed")]
    file.write_text("{broken\n{}\n")
    index.refresh([file])
    assert index.series() == []
    assert len(index.errors) == 1
    assert "is damaged" in index.errors[0]
    index.refresh([])
    assert index.errors == []


def test_a_damaged_or_foreign_index_is_begun_anew(tmp_path: Path) -> None:
    file = write_run(tmp_path / "a.jsonl", [case("s6")])
    bad = tmp_path / "index.sqlite"
    bad.write_bytes(b"not a database at all, but long enough to be read as one" * 20)
    index = Index(bad)
    index.refresh([file])
    assert len(index.series()) == 1
    assert Index(tmp_path / "no" / "folder.sqlite").refresh([file]) == 1


def test_an_index_of_other_metrics_is_begun_anew(tmp_path: Path) -> None:
    old, file = tmp_path / "old.sqlite", write_run(tmp_path / "a.jsonl", [case()])
    database = sqlite3.connect(old)
    database.executescript(
        "CREATE TABLE runs (path, size); CREATE TABLE cases (path, speed); PRAGMA user_version = 2;"
    )
    database.close()
    index = Index(old)
    assert (index.refresh([file]), index.errors) == (1, [])
    (series,) = index.series()
    assert set(series.points[0].values) == {metric.name for metric in METRICS}


@pytest.mark.parametrize(("throttled", "value"), [([], 30.0), ([0, 1], 31.0), ([0, 1, 2], None)])
def test_history_and_compare_take_one_median(
    tmp_path: Path, throttled: list[int], value: float | None
) -> None:
    line = case("s6", [10.0, 20.0, 30.0, 31.0, 32.0], throttled=throttled)
    index = Index()
    index.refresh([write_run(tmp_path / "a.jsonl", [line])])
    (series,) = index.series()
    assert series.points[0].values["warm_ms"] == value_of(WARM, line) == value


def test_bad_input(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    noisy_nights([30.0], tmp_path)
    assert run(["history", "s9", "--results", str(tmp_path)]) == 2
    assert "No run of scenario 's9' was found; recorded are: s6-collocated" in capsys.readouterr().err
    assert run(["history", "s6", "--results", str(tmp_path / "none")]) == 2
    assert run(["history", "s6", "--results", str(tmp_path), "--engine", "x"]) == 2


def test_json(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    noisy_nights([30.0] * 3, tmp_path)
    assert run(["history", "s6", "--results", str(tmp_path), "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert [len(entry["points"]) for entry in facts] == [3]


def test_sparkline_buckets_and_scales() -> None:
    assert sparkline([1, 2, 3, 4, 5, 6, 7, 8]) == "▁▂▃▄▅▆▇█"
    assert sparkline([5, 5, 5]) == "▁▁▁"
    assert sparkline([]) == ""
    assert len(sparkline(list(range(1000)), 40)) == 40
