"""refit-bench ledger: which upstream defects the megatron-core in use has.

The tests that show each defect are run; MEGATRON=/path/to/Megatron-LM looks at a checkout instead of the
installed wheel. Example: refit-bench ledger --against defects.json
"""

import json
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ET
from collections import defaultdict
from pathlib import Path

from fixtures.engines.defects import DEFECTS, MENDED, PRESENT, UNKNOWN, Defect
from fixtures.records.environment import megatron_version
from fixtures.records.errors import RecordError
from fixtures.views.report.ledger import Ledger, LedgerRow, read_ledger
from tools import command_parser, fitted, write

ROOT = Path(__file__).resolve().parents[1]

type Said = tuple[str, str]
"""What one test shows of a defect: its state, and why."""


def main(argv: list[str]) -> int:
    """0: done; 1: a state differs from --against FILE; 2: FILE or the tests cannot be used."""
    parser = command_parser("ledger", __doc__)
    parser.add_argument("--json", action="store_true", help="print the states as JSON instead of a table")
    parser.add_argument("--write", type=Path, metavar="FILE", help="write the states as JSON")
    parser.add_argument("--against", type=Path, metavar="FILE", help="exit 1 when a state differs from FILE")
    options = parser.parse_args(argv)
    before = read_ledger(options.against) if options.against else None
    ledger = examine()
    text = json.dumps(ledger.facts(), indent=1)
    if options.write:
        write(options.write, text + "\n")
    print(text) if options.json else show(ledger)
    changed = changes(before, ledger) if before else []
    for sentence in changed:
        print(sentence, file=sys.stderr)
    return 1 if changed else 0


def changes(before: Ledger, now: Ledger) -> list[str]:
    """One sentence a defect whose state is not what it was."""
    was = {row.defect.name: row.state for row in before.rows}
    return [
        f"{row.defect.name} was {was.get(row.defect.name, 'not in the file')} and is {row.state} now"
        for row in now.rows
        if was.get(row.defect.name) != row.state
    ]


def examine() -> Ledger:
    """The state of every defect, from the tests that show it. Raises RecordError when they cannot run."""
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
            raise RecordError(f"the tests of the defects did not run: {(done.stderr or done.stdout)[-300:]}")
        shown = shown_by(report)
    rows = (row_of(defect, shown.get(defect.name, [])) for defect in DEFECTS)
    return Ledger(megatron_core=str(megatron_version()), rows=tuple(rows))


def shown_by(report: Path) -> dict[str, list[Said]]:
    """What each test said of its defect, by defect, from a JUnit file."""
    shown: dict[str, list[Said]] = defaultdict(list)
    for case in ET.parse(report).getroot().iter("testcase"):
        names = [p.get("value", "") for p in case.iter("property") if p.get("name") == "defect"]
        for name in names:
            shown[name].append(_said(case))
    return shown


def _said(case: ET.Element) -> Said:
    for child in case:
        message = (child.get("message") or "").splitlines() or [""]
        if child.tag == "skipped":
            return UNKNOWN, message[0]
        if child.tag in ("failure", "error"):
            mended = "upstream mended" in "".join(message) + (child.text or "")
            return MENDED if mended else UNKNOWN, message[0]
    return PRESENT, ""


def row_of(defect: Defect, shown: list[Said]) -> LedgerRow:
    """One state from those of a defect's tests: what one saw mended is mended."""
    order = (MENDED, UNKNOWN, PRESENT)
    state, reason = min(shown, key=lambda said: order.index(said[0]), default=(UNKNOWN, "no test showed it"))
    if defect.untested:
        state, reason = UNKNOWN, defect.untested
    return LedgerRow(defect=defect, state=state, reason=reason)


def show(ledger: Ledger) -> None:
    """A paragraph a defect: its state and name, what it does, where, and why its state is not known."""
    print(f"defects of megatron-core {ledger.megatron_core}")
    for row in ledger.rows:
        print(f"\n{row.state}: {row.defect.name}")
        for text in (row.defect.sentence, row.defect.upstream, row.reason):
            if text:
                print(fitted(f"  {text}", "  "))
