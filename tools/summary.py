"""Print the table of a run again from its result file, with its gate's words: refit-bench summary RUN...

Exit code: that of the run where its end line says so, 0 for a run without one, 2 for bad input.
"""

import sys

from rich.console import Console
from rich.text import Text

from fixtures.records import RecordError, Run, read_runs
from fixtures.records.identity import machine_words
from fixtures.views.table import render
from tools import command_parser


def main(argv: list[str]) -> int:
    """Print each run's table; the highest exit code of the runs."""
    parser = command_parser("summary", __doc__, runs=True)
    parser.add_argument("--width", type=int, help="columns of the table; default: the terminal's")
    options = parser.parse_args(argv)
    try:
        runs = read_runs(options.runs)
    except RecordError as error:
        print(error, file=sys.stderr)
        return 2
    for run in runs:
        _print(run, Console(width=options.width))
    return max(_exit_code(run) for run in runs)


def _print(run: Run, console: Console) -> None:
    """The heading, the table, and how the run ended."""
    statuses = [case.status for case in run.cases]
    counts = ", ".join(f"{statuses.count(word)} {word}" for word in ("passed", "failed", "skipped"))
    ended = f"ended {run.end['status']}" if run.end else "was cut off"
    begun = f"begun {run.started or 'unknown'}"
    console.print(Text(f"{run.name} ({run.path}), {begun}: {counts}; the run {ended}."))
    for warning in run.warnings:
        console.print(Text(warning))
    if run.cases:
        render(list(run.cases), console, machine_words(run.environment["identity"]))  # type: ignore[arg-type]
    for case in run.cases:
        for sentence in case.judgement:
            console.print(Text(f"{case.label}: {sentence}"))


def _exit_code(run: Run) -> int:
    code = run.end.get("exit_code") if run.end else None
    return code if isinstance(code, int) else 0
