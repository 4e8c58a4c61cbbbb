"""The ledger of upstream defects: states from tests, and what changed against a file."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from fixtures.engines.defects import DEFECTS, MENDED, PRESENT, REPOSITORY, UNKNOWN
from fixtures.records.environment import megatron_version
from fixtures.views.report.ledger import Ledger, LedgerRow
from tests.correctness.made_up_runs import case, write_run
from tests.correctness.views.page_reader import PageReader
from tools import ledger
from tools.__main__ import main as run

CASE = '<testcase name="t"><properties><property name="defect" value="{}"/></properties>{}</testcase>'
REPORT = "<testsuites><testsuite>{}</testsuite></testsuites>"
ENDS = {
    "present": ("", (PRESENT, "")),
    "mended": (
        '<failure message="AssertionError: upstream mended it"/>',
        (MENDED, "AssertionError: upstream mended it"),
    ),
    "broken": ('<failure message="KeyError: x"/>', (UNKNOWN, "KeyError: x")),
    "skipped": ('<skipped message="needs a GPU"/>', (UNKNOWN, "needs a GPU")),
}


@pytest.mark.parametrize("end", ENDS)
def test_a_tests_end_is_the_state_of_its_defect(end: str, tmp_path: Path) -> None:
    text, state = ENDS[end]
    report = tmp_path / "report.xml"
    report.write_text(REPORT.format(CASE.format("plan-cache", text)))
    assert ledger.shown_by(report) == {"plan-cache": [state]}


@pytest.mark.parametrize(
    ("shown", "state"),
    [
        ([PRESENT, PRESENT], PRESENT),
        ([PRESENT, MENDED], MENDED),
        ([PRESENT, UNKNOWN], UNKNOWN),
        ([], UNKNOWN),
    ],
)
def test_what_one_of_several_tests_saw_mended_is_mended(shown: list[str], state: str) -> None:
    tested = next(defect for defect in DEFECTS if not defect.untested)
    assert ledger.row_of(tested, [(word, "") for word in shown]).state == state


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    def see(state: str) -> None:
        rows = (
            LedgerRow(defect=defect, state=state if defect.name == "plan-cache" else PRESENT)
            for defect in DEFECTS
        )
        found = Ledger(megatron_core="0.19.2", rows=tuple(rows))
        monkeypatch.setattr(ledger, "examine", lambda: found)

    return see


def test_a_changed_state_is_told_and_is_exit_code_1(
    seen: Callable[[str], None], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "defects.json"
    seen(PRESENT)
    assert run(["ledger", "--write", str(path)]) == 0
    assert run(["ledger", "--against", str(path)]) == 0
    seen(MENDED)
    capsys.readouterr()
    assert run(["ledger", "--json", "--against", str(path)]) == 1
    out, err = capsys.readouterr()
    assert err == "plan-cache was present and is mended upstream now\n"
    rows = {row["name"]: row["state"] for row in json.loads(out)["defects"]}
    assert rows["plan-cache"] == MENDED


def test_the_page_has_a_section_of_what_was_found(
    seen: Callable[[str], None], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, recorded = tmp_path / "defects.json", write_run(tmp_path / "run.jsonl", [case()])
    seen(MENDED)
    assert run(["ledger", "--write", str(path)]) == 0
    assert run(["report", str(recorded), "-o", str(tmp_path / "a.html"), "--ledger", str(path)]) == 0
    section = PageReader((tmp_path / "a.html").read_text()).sections["ledger"]
    rows = {row[0]: row[1:] for row in section.table("Defects of megatron-core's refit")[1:]}
    assert list(rows) == [defect.name for defect in DEFECTS]
    by_name = {defect.name: defect for defect in DEFECTS}
    assert rows["plan-cache"] == [by_name["plan-cache"].sentence, "● mended upstream"]
    assert rows["tensor-cache"] == [by_name["tensor-cache"].sentence, "✕ present"]
    assert run(["report", str(recorded), "-o", str(tmp_path / "b.html")]) == 0
    assert "ledger" not in PageReader((tmp_path / "b.html").read_text()).sections
    path.write_text("{}")
    capsys.readouterr()
    assert run(["report", str(recorded), "--ledger", str(path)]) == 2
    assert capsys.readouterr().err == f"{path} was not written by `ledger --write`\n"


def test_every_defect_has_a_link() -> None:
    sources = f"{REPOSITORY}blob/"
    for defect in DEFECTS:
        assert re.fullmatch(rf"{REPOSITORY}issues/\d+|{sources}\S+/megatron/core/\S+\.py", defect.link)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"defects": [1]}'])
def test_a_file_that_is_no_ledger_is_one_sentence(
    text: str, seen: Callable[[str], None], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    seen(PRESENT)
    path = tmp_path / "x.json"
    path.write_text(text)
    assert run(["ledger", "--against", str(path)]) == 2
    assert capsys.readouterr().err == f"{path} was not written by `ledger --write`\n"


def test_a_checkouts_version_is_read_from_its_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    core = tmp_path / "megatron" / "core"
    core.mkdir(parents=True)
    (core / "package_info.py").write_text("MAJOR = 0\nMINOR = 20\nPATCH = 1\n")
    monkeypatch.setenv("MEGATRON", str(tmp_path))
    assert megatron_version() == "0.20.1"
