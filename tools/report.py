"""Make a page (one self-contained HTML file) or Markdown from result files.

refit-bench report RUN... [-o page.html] [--markdown], where RUN is a file, a folder or a quoted glob. Of
several runs the newest record of each case is shown, with its history. With --job-summary the Markdown is
added to the summary of the GitHub job that runs this. Exit code: 0 made, 2 bad input.
"""

import argparse
import os
from pathlib import Path

from fixtures.records.errors import RecordError
from fixtures.records.reader import Run, read_runs
from fixtures.views.report.ledger import read_ledger
from fixtures.views.report.markdown import markdown
from fixtures.views.report.page import page
from fixtures.views.units import bytes_text
from tools import command_parser, write

SUMMARY = "GITHUB_STEP_SUMMARY"
"""GitHub's variable: the file whose Markdown it shows on the job's page."""


def main(argv: list[str]) -> int:
    """Write the page and name it, or print the Markdown."""
    options = _parser().parse_args(argv)
    runs = [run for run in read_runs(options.runs) if run.cases]
    if not runs:
        raise RecordError("No case was recorded in these runs.")
    _make(runs, options)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = command_parser("report", __doc__, runs=True)
    parser.add_argument("-o", "--output", type=Path, help="default: page.html; Markdown goes to the terminal")
    parser.add_argument("--title", help="heading of the page; default: the models' names")
    parser.add_argument(
        "--ledger",
        type=Path,
        metavar="FILE",
        help="upstream's defects as a section of the page, from `refit-bench ledger --write FILE`",
    )
    parser.add_argument("--markdown", action="store_true", help="for a pull request; also by -o FILE.md")
    parser.add_argument(
        "--job-summary", action="store_true", help=f"add the Markdown to the file that {SUMMARY} names"
    )
    return parser


def _make(runs: list[Run], options: argparse.Namespace) -> None:
    if options.job_summary:
        _add_to_job(markdown(runs))
        return
    ledger = read_ledger(options.ledger) if options.ledger else None
    as_markdown = options.markdown or (options.output is not None and options.output.suffix == ".md")
    text = markdown(runs) if as_markdown else page(runs, options.title, ledger)
    if options.markdown and options.output is None:
        print(text, end="")
        return
    output = options.output or Path("page.html")
    write(output, text)
    print(f"{output}: {bytes_text(len(text))} from {len(runs)} run{'s' * (len(runs) != 1)}.")


def _add_to_job(text: str) -> None:
    """Append to what the job has said so far. Raises RecordError outside of a job."""
    summary = os.environ.get(SUMMARY)
    if not summary:
        raise RecordError(f"{SUMMARY} is not set: --job-summary is for a job of GitHub Actions.")
    write(Path(summary), text, append=True)
    print(f"{summary}: the job's summary has it.")
