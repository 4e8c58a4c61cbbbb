"""The planning documents say what the code says, and a drift is found."""

import re
import shlex
from pathlib import Path

import pytest

from fixtures.cases.scenarios import SCENARIOS, Scenario, find_scenario, parse_scenario
from fixtures.documents import files as making
from fixtures.documents import guide
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
from tools.__main__ import main as run
from tools.megatron_flags import map_flags

TO_LAND: set[str] = set()
"""Scripts that are documented and on their way."""


def test_committed_documents_do_not_drift(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["docs", "--check"]) == 0, capsys.readouterr().out


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
    assert run(["docs", "--check"]) == 1
    assert f"{name} drifted" in capsys.readouterr().out
    assert run(["docs"]) == 0
    assert file.read_text(encoding="utf-8") == right


def test_prose_by_hand_survives(copies: Path) -> None:
    file = copies / BENCHMARK
    file.write_text("A sentence by hand.\n" + file.read_text(encoding="utf-8"), encoding="utf-8")
    assert run(["docs"]) == 0
    assert file.read_text(encoding="utf-8").startswith("A sentence by hand.\n# ")


def test_an_unknown_table_is_one_sentence_and_code_2(
    copies: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (copies / BENCHMARK).write_text("<!-- table:weather -->\n<!-- /table:weather -->\n", encoding="utf-8")
    assert run(["docs"]) == 2
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


def test_summary_keeps_what_a_reader_looks_for_first() -> None:
    text = render_summary()
    head = text.split("##")[0]
    assert "16 nodes x 8 GPUs = 128 GPUs" in head
    assert "384 experts, 8 active" in head
    assert "| s1 | TP8,EP8 | TP8,EP4 | 64 + 32 = 96 | 12 |" in text
    assert "| s6 | TP16,EP8 | TP8,EP16 | 128 | 16 |" in text
    assert "s6 (20-40), s7 (25-50), s1 (30-60)" in text
    assert "| expected overhead | 20-50 ms | 30-200 ms |" in text
    for scenario in SCENARIOS:
        low, high = scenario.expected["kimi-k2"]
        assert f"Tests: {scenario.purpose}: " in text
        assert f"Expected overhead: {low:g}-{high:g} ms" in text


def test_what_changes_is_read_off_the_layouts() -> None:
    changed = {s.key: guide.changes(s) for s in SCENARIOS[:7]}
    both = dict.fromkeys(("s4", "s5", "s6", "s7"), (True, True))
    assert changed == {"s1": (False, True), "s2": (True, False), "s3": (False, True), **both}
    assert guide.change_text(SCENARIOS[1]) == "TP 16 to 8, EP stays 4"


def test_a_scenario_of_which_nothing_is_known_has_a_card() -> None:
    own = parse_scenario("4:2:4:2:collocated:gloo")
    assert guide.changes(own) in guide.PATTERNS
    assert guide.card(own).endswith("Expected overhead: none was given")
    assert guide.question_text(own) == "The time of it alone: TP stays 4, EP stays 2"


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda s: s.key)
def test_a_launch_asks_for_the_scenario_on_as_many_gpus_as_it_needs(scenario: Scenario) -> None:
    words = shlex.split(guide.launch(scenario).replace("\\\n", ""))
    sizes = {w.split("=")[0]: int(w.split("=")[1]) for w in words if w.startswith(("--nodes=", "--gpus"))}
    script = words.index("./benchmark_refit_sbatch.sh")
    mapped = map_flags(words[script + 1 :])
    options = list(mapped.options)
    assert find_scenario(options[options.index("--scenario") + 1]) is scenario
    assert mapped.ranks == scenario.world_size <= sizes["--nodes"] * sizes["--gpus-per-node"]
    assert set(mapped.ignored) == {"--multi-latent-attention", "--bf16"}


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
