"""The ledger of upstream defects: states from tests, and what changed against a file."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from fixtures.engines.defects import DEFECTS
from fixtures.records.environment import megatron_version
from tools import ledger
from tools.ledger import MENDED, PRESENT, UNKNOWN, State

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
