"""The ledger of upstream defects: states from tests, and what changed against a file."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from fixtures.engines.defects import DEFECTS, MENDED, PRESENT, REPOSITORY, UNKNOWN
from fixtures.records.environment import megatron_version
from tests.correctness.made_up_runs import case, write_run
from tests.correctness.views.page_reader import PageReader
from tools import ledger, report
from tools.ledger import State

CASE = '<testcase name="t"><properties><property name="defect" value="{}"/></properties>{}</testcase>'
REPORT = "<testsuites><testsuite>{}</testsuite></testsuites>"
ENDS = {
    "present": ("", State(state=PRESENT)),
    "mended": (
        '<failure message="AssertionError: upstream mended it"/>',
        State(state=MENDED, reason="AssertionError: upstream mended it"),
    ),
    "broken": ('<failure message="KeyError: x"/>', State(state=UNKNOWN, reason="KeyError: x")),
    "skipped": ('<skipped message="needs a GPU"/>', State(state=UNKNOWN, reason="needs a GPU")),
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
    assert ledger.state_of(tested, [State(state=word) for word in shown]).state == state


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    def see(state: str) -> None:
        states = {defect.name: State(state=PRESENT) for defect in DEFECTS} | {
            "plan-cache": State(state=state)
        }
        monkeypatch.setattr(ledger, "examine", lambda: states)

    return see


def test_a_changed_state_is_told_and_is_exit_code_1(
    seen: Callable[[str], None], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "defects.json"
    seen(PRESENT)
    assert ledger.main(["--write", str(path)]) == 0
    assert ledger.main(["--against", str(path)]) == 0
    seen(MENDED)
    capsys.readouterr()
    assert ledger.main(["--json", "--against", str(path)]) == 1
    out, err = capsys.readouterr()
    assert err == "plan-cache was present and is mended upstream now\n"
    rows = {row["name"]: row["state"] for row in json.loads(out)["defects"]}
    assert rows["plan-cache"] == MENDED


def test_the_page_has_a_section_of_what_was_found(
    seen: Callable[[str], None], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, run = tmp_path / "defects.json", write_run(tmp_path / "run.jsonl", [case()])
    seen(MENDED)
    assert ledger.main(["--write", str(path)]) == 0
    assert report.main([str(run), "-o", str(tmp_path / "a.html"), "--ledger", str(path)]) == 0
    section = PageReader((tmp_path / "a.html").read_text()).sections["ledger"]
    rows = {row[0]: row[1:] for row in section.table("Defects of megatron-core's refit")[1:]}
    assert list(rows) == [defect.name for defect in DEFECTS]
    by_name = {defect.name: defect for defect in DEFECTS}
    assert rows["plan-cache"] == [by_name["plan-cache"].sentence, "● mended upstream"]
    assert rows["tensor-cache"] == [by_name["tensor-cache"].sentence, "✕ present"]
    assert report.main([str(run), "-o", str(tmp_path / "b.html")]) == 0
    assert "ledger" not in PageReader((tmp_path / "b.html").read_text()).sections
    path.write_text("{}")
    capsys.readouterr()
    assert report.main([str(run), "--ledger", str(path)]) == 2
    assert capsys.readouterr().err == f"{path} was not written by `ledger --write`\n"


def test_every_defect_has_a_link() -> None:
    sources = f"{REPOSITORY}blob/"
    for defect in DEFECTS:
        assert re.fullmatch(rf"{REPOSITORY}issues/\d+|{sources}\S+/megatron/core/\S+\.py", defect.link)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"defects": [1]}', "\udcff"])
def test_a_file_that_is_no_ledger_is_one_sentence(
    text: str, seen: Callable[[str], None], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    seen(PRESENT)
    path = tmp_path / "x.json"
    path.write_bytes(text.encode(errors="surrogateescape"))
    assert ledger.main(["--against", str(path)]) == 2
    assert capsys.readouterr().err == f"ledger: {path} was not written by `ledger --write`\n"


def test_a_checkouts_version_is_read_from_its_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    core = tmp_path / "megatron" / "core"
    core.mkdir(parents=True)
    (core / "package_info.py").write_text("MAJOR = 0\nMINOR = 20\nPATCH = 1\n")
    monkeypatch.setenv("MEGATRON", str(tmp_path))
    assert megatron_version() == "0.20.1"
