"""refit-bench check-results: is a result file sound?"""

import sys

from fixtures.records import RecordError, check_run, read_run
from fixtures.records.reader import expand
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
    return max(_check(source) for source in options.sources)


def _check(source: str) -> int:
    """Check the files of one source, print a line for each sound one."""
    try:
        paths = expand(source)
    except RecordError as error:
        print(error, file=sys.stderr)
        return 2
    worst = 0
    for path in paths:
        try:
            run = read_run(path)
        except RecordError as error:
            print(error, file=sys.stderr)
            worst = 2
            continue
        problems = check_run(run)
        for problem in problems:
            print(f"{path}: {problem.removeprefix(f'{path}: ')}", file=sys.stderr)
        worst = 2 if problems else worst
        if not problems:
            ending = "" if run.end else ", no end line (the run was cut off)"
            print(f"{path}: sound, {len(run.cases)} cases{ending}")
    return worst
