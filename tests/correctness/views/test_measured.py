"""The README's table of measured refits, from committed records with cases planted among them."""

import json
from pathlib import Path
from typing import Any

import pytest

from fixtures.views.measured import REFERENCE, gpu_table

RUN = REFERENCE / "2026-11-28-2xh200-a.jsonl"


def planted(folder: Path, engine: str, **changes: Any) -> str:
    """The table of a run and of another with its s6 case of one engine, changed, and a time of its own."""
    lines = [json.loads(line) for line in RUN.read_text().splitlines()]
    case = next(line for line in lines if line.get("engine") == engine and line["scenario"].startswith("s6"))
    other = {**case, **changes, "warm_ms": [7777.0] * 5}
    for name, cases in (("a", lines), ("b", [lines[0] | {"run": "other"}, other, lines[-1] | {"cases": 1}])):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in cases))
    return gpu_table(folder)


def test_the_table_of_one_run(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(RUN.read_text())
    head, _, *rows = gpu_table(tmp_path).splitlines()
    assert head.endswith("| direct ipc | delta ipc, 1% changed |")
    assert rows[0].startswith("| s6 twin 8,8 (TP2,EP1 > TP1,EP2; H200) | 9.3 | 23.9 |")
    assert rows[0].endswith("| 27.1 (1.14 x) | 25.6 (1.07 x) | 15.2 (1.15 x) |")
    assert len(rows) == 3


@pytest.mark.parametrize(
    ("engine", "changes"),
    [
        ("delta", {"options": {"update": "0.03"}}),
        ("delta", {"options": {}}),
        ("direct", {"options": {"update": "0.03"}}),
        ("direct", {"options": {"update": "0.01", "ranks-per-gpu": "2"}}),
        ("packed", {"options": {"between": "forward"}}),
        ("packed", {"status": "failed", "reason": "broken"}),
    ],
)
def test_other_work_does_not_count(tmp_path: Path, engine: str, changes: dict[str, Any]) -> None:
    assert "7,777" not in planted(tmp_path, engine, **changes)
    assert len(gpu_table(tmp_path).splitlines()) == 5


def test_another_size_is_another_row(tmp_path: Path) -> None:
    table = planted(tmp_path, "direct", moved_bytes=10**9)
    (row,) = [line for line in table.splitlines() if "7,777" in line]
    assert row.startswith("| s6 twin 8,8 (TP2,EP1 > TP1,EP2; H200) | 1.0 |")


def test_a_dense_engine_counts_with_and_without_an_update(tmp_path: Path) -> None:
    assert "3,901" in planted(tmp_path, "direct", options={})
