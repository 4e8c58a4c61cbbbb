"""The planning documents say what the code says, and a drift is found."""

import re
import shlex
from pathlib import Path

import pytest

from fixtures.cases.scenarios import SCENARIOS
from fixtures.documents import files as making
from fixtures.documents.boxes import WIDTH, draw
from fixtures.documents.commands import COMMANDS, SCRIPT, TOOLS
from fixtures.documents.files import (
    BATCH,
    BENCHMARK,
    EXPORTS,
    README,
    ROOT,
    SUMMARY,
    fill_tables,
    render_summary,
)
from fixtures.documents.tables import TABLES
from tools import docs

TO_LAND: set[str] = set()
"""Scripts that are documented and on their way."""


def test_committed_documents_do_not_drift(capsys: pytest.CaptureFixture[str]) -> None:
    assert docs.main(["--check"]) == 0, capsys.readouterr().out


@pytest.fixture
def copies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "docs").mkdir()
    for name in (SUMMARY, BENCHMARK, README, BATCH, EXPORTS):
        (tmp_path / name).write_text((ROOT / name).read_text(encoding="utf-8"), encoding="utf-8")
    monkeypatch.setattr(docs, "documents", lambda: making.documents(tmp_path))
    return tmp_path


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        (SUMMARY, "30-60", "30-90"),
        (BENCHMARK, "| 257 |", "| 9 |"),
        (README, "(1.06 x)", "(1.00 x)"),
        (BATCH, "16:4:32:2", "16:4:32:1"),
    ],
)
def test_a_changed_number_is_drift_and_is_mended(
    copies: Path, name: str, old: str, new: str, capsys: pytest.CaptureFixture[str]
) -> None:
    file = copies / name
    right = file.read_text(encoding="utf-8")
    assert old in right
    file.write_text(right.replace(old, new), encoding="utf-8")
    assert docs.main(["--check"]) == 1
    assert f"{name} drifted" in capsys.readouterr().out
    assert docs.main([]) == 0
    assert file.read_text(encoding="utf-8") == right


def test_prose_by_hand_survives(copies: Path) -> None:
    file = copies / BENCHMARK
    file.write_text("A sentence by hand.\n" + file.read_text(encoding="utf-8"), encoding="utf-8")
    assert docs.main([]) == 0
    assert file.read_text(encoding="utf-8").startswith("A sentence by hand.\n# ")


def test_an_unknown_table_is_one_sentence_and_code_2(
    copies: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (copies / BENCHMARK).write_text("<!-- table:weather -->\n<!-- /table:weather -->\n", encoding="utf-8")
    assert docs.main([]) == 2
    assert capsys.readouterr().err.startswith("unknown table 'weather'")


def test_summary_holds_every_scenario_range_and_floor() -> None:
    text = render_summary()
    for scenario in SCENARIOS:
        low, high = scenario.expected["kimi-k2"]
        assert f"| {scenario.key} | {scenario.source} | {scenario.target} |" in text
        assert f"| {scenario.key} | {low:g}-{high:g} |" in text
    for counted in ("**175**", "**1,365**", "**172**", "| 89 |", "| 90 |", "| 24 |", "| 22 |"):
        assert counted in text
    assert "{" not in text


def test_every_table_of_the_documents_exists() -> None:
    named = re.findall(r"<!-- table:([\w-]+) -->", (ROOT / BENCHMARK).read_text(encoding="utf-8"))
    assert set(named) <= set(TABLES)
    assert len(named) >= 10
    assert fill_tables("nothing") == "nothing"


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda s: s.key)
def test_boxes_are_straight(scenario: str) -> None:
    lines = draw(scenario).splitlines()[1:]  # type: ignore[arg-type]
    assert {line.find("|", 1) for line in lines if line.startswith("|")} == {WIDTH - 1}
    assert max(map(len, lines)) <= 110


def test_documented_commands_exist(pytestconfig: pytest.Config) -> None:
    options = {name for group in pytestconfig._parser._groups for o in group.options for name in o.names()}
    for command in COMMANDS:
        words = shlex.split(command.line.split("<")[0])
        if words[0] == SCRIPT:
            name = words[1]
            assert name in TOOLS, command.line
            assert (ROOT / "tools" / f"{name.replace('-', '_')}.py").is_file()
        elif "pytest" in words:
            assert {w for w in words[words.index("pytest") :] if w.startswith("--")} <= options
        elif words[0] == "make":
            assert f"\n{words[1]}:" in (ROOT / "Makefile").read_text(encoding="utf-8")
        elif (script := next((w for w in words if w.endswith(".sh")), None)) is not None:
            assert (ROOT / script).is_file() or script.removeprefix("./") in TO_LAND
