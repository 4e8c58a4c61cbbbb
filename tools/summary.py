"""Print the table of a run again from its result file, with its gate's words: refit-bench summary RUN...

Exit code: that of the run where its end line says so, 0 for a run without one, 2 for bad input.
"""

from rich.console import Console
from rich.text import Text

from fixtures.records.identity import machine_words
from fixtures.records.reader import Run, read_runs
from fixtures.views.table import render
from tools import command_parser


def main(argv: list[str]) -> int:
    """Print each run's table; the highest exit code of the runs."""
    parser = command_parser("summary", __doc__, runs=True)
    parser.add_argument("--width", type=int, help="columns of the table; default: the terminal's")
    options = parser.parse_args(argv)
    runs = read_runs(options.runs)
    for run in runs:
        _print(run, Console(width=options.width))
    return max(_exit_code(run) for run in runs)


def _print(run: Run, console: Console) -> None:
    """How the run ended, the answer and the table."""
    statuses = [case.status for case in run.cases]
    words = [word for word in ("passed", "failed", "skipped") if word in statuses]
    counts = ", ".join(f"{statuses.count(word)} {word}" for word in words) or "no case"
    ended = f"{run.end['status']}" if run.end else "cut off"
    console.print(Text(f"{run.path}, begun {run.started or 'unknown'}, {ended}: {counts}."))
    for warning in run.warnings:
        console.print(Text(warning))
    if run.cases:
        render(list(run.cases), console, machine_words(run.identity))
    for case in run.cases:
        for sentence in case.judgement:
            console.print(Text(f"{case.label}: {sentence}"))


def _exit_code(run: Run) -> int:
    code = run.end.get("exit_code") if run.end else None
    return code if isinstance(code, int) else 0
