"""refit-bench doctor: is this machine or allocation fit to run a scenario?"""

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from fixtures.cases.scenarios import find_scenario
from fixtures.health.doctor import examine
from fixtures.health.finding import Finding
from fixtures.health.machine import probe
from tools import command_parser


def main(argv: list[str]) -> int:
    """0: fit; 1: at least one problem; 2: unknown scenario."""
    parser = command_parser("doctor", __doc__)
    parser.add_argument(
        "scenario", nargs="?", metavar="SCENARIO", help="s1..s7 or a row; default: in general"
    )
    options = parser.parse_args(argv)
    scenario = find_scenario(options.scenario) if options.scenario else None
    findings = examine(probe(), scenario)
    show(findings, Console())
    return 1 if any(finding.level == "problem" for finding in findings) else 0


def show(findings: list[Finding], console: Console) -> None:
    """One line a finding."""
    table = Table(box=None, show_header=False)
    colours = {"ok": "green", "note": "yellow", "problem": "red"}
    for finding in findings:
        level = f"[{colours[finding.level]}]{finding.level}[/]"
        table.add_row(level, *map(escape, (finding.what, finding.found, finding.advice)))
    console.print(table)
    problems = sum(finding.level == "problem" for finding in findings)
    console.print("fit" if not problems else f"{problems} problem{'s' if problems > 1 else ''}")
