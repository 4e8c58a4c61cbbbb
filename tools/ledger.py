"""refit-bench ledger: which upstream defects the megatron-core in use has.

The tests that show each defect are run; MEGATRON=/path/to/Megatron-LM looks at a checkout instead of the
installed wheel. Example: refit-bench ledger --against defects.json
"""

import json
import subprocess
import sys
import tempfile
import textwrap
import xml.etree.ElementTree as ET
from collections import defaultdict
from dataclasses import asdict, dataclass
from pathlib import Path

from fixtures.engines.defects import DEFECTS, MENDED, PRESENT, UNKNOWN, Defect
from fixtures.records.environment import megatron_version
from fixtures.views.report.ledger import read_ledger
from tools import command_parser

ROOT = Path(__file__).resolve().parents[1]
WIDTH = 78


@dataclass(frozen=True, kw_only=True)
class State:
    """What is known of a defect: one of PRESENT, MENDED, UNKNOWN, and why."""

    state: str
    reason: str = ""


def main(argv: list[str]) -> int:
    """0: done; 1: a state differs from --against FILE; 2: FILE or the tests cannot be used."""
    parser = command_parser("ledger", __doc__)
    parser.add_argument("--json", action="store_true", help="print the states as JSON instead of a table")
    parser.add_argument("--write", type=Path, metavar="FILE", help="write the states as JSON")
    parser.add_argument("--against", type=Path, metavar="FILE", help="exit 1 when a state differs from FILE")
    options = parser.parse_args(argv)
    try:
        before = read_ledger(options.against) if options.against else None
        states = examine()
    except (OSError, ValueError) as error:
        print(f"ledger: {error}", file=sys.stderr)
        return 2
    text = json.dumps({"megatron_core": megatron_version(), "defects": _rows(states)}, indent=1)
    if options.write:
        options.write.write_text(text + "\n")
    print(text) if options.json else show(states)
    changed = changes({row.defect.name: row.state for row in before.rows}, states) if before else []
    for sentence in changed:
        print(sentence, file=sys.stderr)
    return 1 if changed else 0


def _rows(states: dict[str, State]) -> list[dict[str, str]]:
    return [
        {
            "name": d.name,
            "sentence": d.sentence,
            "upstream": d.upstream,
            "link": d.link,
            **asdict(states[d.name]),
        }
        for d in DEFECTS
    ]


def changes(before: dict[str, str], states: dict[str, State]) -> list[str]:
    """One sentence a defect whose state is not what it was."""
    return [
        f"{name} was {before.get(name, 'not in the file')} and is {now.state} now"
        for name, now in states.items()
        if before.get(name) != now.state
    ]


def examine() -> dict[str, State]:
    """The state of every defect, from the tests that show it. Raises ValueError when they cannot run."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        command = [sys.executable, "-m", "pytest", "tests/correctness/megatron", "-m", "defect", "-q"]
        done = subprocess.run(
            [*command, "-p", "no:cacheprovider", f"--junitxml={report}", f"--rank-logs={folder}/ranks"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
        if not report.exists():
            raise ValueError(f"the tests of the defects did not run: {(done.stderr or done.stdout)[-300:]}")
        shown = shown_by(report)
    return {defect.name: state_of(defect, shown.get(defect.name, [])) for defect in DEFECTS}


def shown_by(report: Path) -> dict[str, list[State]]:
    """What each test said of its defect, by defect, from a JUnit file."""
    shown: dict[str, list[State]] = defaultdict(list)
    for case in ET.parse(report).getroot().iter("testcase"):
        names = [p.get("value", "") for p in case.iter("property") if p.get("name") == "defect"]
        for name in names:
            shown[name].append(_said(case))
    return shown


def _said(case: ET.Element) -> State:
    for child in case:
        message = (child.get("message") or "").splitlines() or [""]
        if child.tag == "skipped":
            return State(state=UNKNOWN, reason=message[0])
        if child.tag in ("failure", "error"):
            mended = "upstream mended" in "".join(message) + (child.text or "")
            return State(state=MENDED if mended else UNKNOWN, reason=message[0])
    return State(state=PRESENT)


def state_of(defect: Defect, shown: list[State]) -> State:
    """One state from those of a defect's tests: what one saw mended is mended."""
    if defect.untested:
        return State(state=UNKNOWN, reason=defect.untested)
    for wanted in (MENDED, UNKNOWN, PRESENT):
        for state in shown:
            if state.state == wanted:
                return state
    return State(state=UNKNOWN, reason="no test showed it")


def show(states: dict[str, State]) -> None:
    """A paragraph a defect: its state and name, what it does, where, and why its state is not known."""
    print(f"defects of megatron-core {megatron_version()}")
    for defect in DEFECTS:
        state = states[defect.name]
        print(f"\n{state.state}: {defect.name}")
        for text in (defect.sentence, defect.upstream, state.reason):
            if text:
                print(textwrap.fill(text, WIDTH, initial_indent="  ", subsequent_indent="  "))
