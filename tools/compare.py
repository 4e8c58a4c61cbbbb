"""Compare two sides of runs: better, same, worse, unknown or incomparable.

refit-bench compare BASE NEW, where each is a file, a folder or a quoted glob; several names a side are
written BASE BASE vs NEW NEW. Exit code: 0 nothing is worse, 1 something is worse, 2 cannot tell or bad input.
"""

import argparse
import json
from collections.abc import Sequence

from rich.console import Console

from fixtures.gates.comparison import Comparison, compare
from fixtures.records.errors import RecordError
from fixtures.records.reader import Run, read_runs
from fixtures.records.schema import IDENTITY
from fixtures.views.comparison import comparison_facts, comparison_markdown, print_comparison
from tools import command_parser, warn


def main(argv: list[str]) -> int:
    """Print the comparison; 0, 1 or 2 as above."""
    options = _parser().parse_args(argv)
    base, new = _sides(options.sources)
    comparison = _compare(base, new, options)
    if options.json:
        print(json.dumps(comparison_facts(comparison), indent=1))
    elif options.markdown:
        print(comparison_markdown(comparison), end="")
    else:
        print_comparison(comparison, Console())
    return comparison.exit_code


def _parser() -> argparse.ArgumentParser:
    parser = command_parser("compare", __doc__)
    parser.add_argument("sources", nargs="+", metavar="BASE ... vs NEW ...")
    parser.add_argument("--base-last", type=int, metavar="N", help="only the newest N runs of BASE")
    parser.add_argument("--new-last", type=int, metavar="N", help="only the newest N runs of NEW")
    parser.add_argument("--across", default="", metavar="FACT,...", help="identity facts that may differ")
    shape = parser.add_mutually_exclusive_group()
    shape.add_argument("--json", action="store_true", help="every row with its numbers, for machines")
    shape.add_argument("--markdown", action="store_true", help="for a pull request or a job summary")
    return parser


def _sides(sources: Sequence[str]) -> tuple[Sequence[str], Sequence[str]]:
    if "vs" in sources:
        cut = sources.index("vs")
        base, new = sources[:cut], sources[cut + 1 :]
    else:
        base, new = sources[:1], sources[1:]
        if len(sources) > 2:
            raise RecordError(
                f"{len(sources)} names do not say which side they are on; write BASE ... vs NEW ..."
            )
    if not base or not new:
        raise RecordError("A comparison needs two sides: BASE NEW, or BASE ... vs NEW ...")
    return base, new


def _compare(base: Sequence[str], new: Sequence[str], options: argparse.Namespace) -> Comparison:
    """Read both sides; a run on both counts as new only."""
    across = [fact for fact in options.across.split(",") if fact]
    if unknown := [fact for fact in across if fact.split(".")[0] not in IDENTITY]:
        raise RecordError(f"--across {unknown[0]} is not an identity fact; known: {', '.join(IDENTITY)}.")
    fresh = _newest(read_runs(new), options.new_last, "--new-last")
    new_runs = {run.fingerprint for run in fresh}
    old = [run for run in read_runs(base) if run.fingerprint not in new_runs]
    old = _newest(old, options.base_last, "--base-last")
    if not old:
        raise RecordError("Every run of the base is one of the new runs.")
    warn([*old, *fresh])
    return compare(old, fresh, across=across)


def _newest(runs: list[Run], count: int | None, option: str) -> list[Run]:
    if count is not None and count < 1:
        raise RecordError(f"{option} needs a whole number of at least 1, not {count}.")
    return runs[-count:] if count else runs
