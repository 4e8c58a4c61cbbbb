"""refit-bench check-results: is a result file sound?"""

import sys
from pathlib import Path

from fixtures.records.errors import RecordError
from fixtures.records.reader import expand, read_run
from fixtures.records.validate import check_run
from fixtures.views.markdown import schema_markdown
from tools import command_parser


def main(argv: list[str]) -> int:
    """0: every file is sound; 2: a file cannot be read or contradicts itself, one sentence each on stderr."""
    parser = command_parser("check-results", __doc__)
    parser.add_argument("sources", nargs="*", metavar="FILE", help="result files, folders or globs")
    parser.add_argument("--schema", action="store_true", help="print the tables of fields (Markdown) instead")
    options = parser.parse_args(argv)
    if options.schema:
        print(schema_markdown(), end="")
        return 0
    if not options.sources:
        parser.error("name at least one FILE")
    paths = [path for source in options.sources for path in expand(source)]
    problems = [problem for path in paths for problem in _problems(path)]
    for problem in problems:
        print(problem, file=sys.stderr)
    return 2 if problems else 0


def _problems(path: Path) -> list[str]:
    """A sentence on each thing that is wrong with a file; a line is printed of a sound one."""
    try:
        run = read_run(path)
    except RecordError as error:
        return [str(error)]
    problems = check_run(run)
    if not problems:
        ending = "" if run.end else ", no end line (the run was cut off)"
        print(f"{path}: sound, {len(run.cases)} cases{ending}")
    return [f"{path}: {problem.removeprefix(f'{path}: ')}" for problem in problems]
