"""The history of a scenario from result files: a sparkline, change points, and what changed on the system.

Exit code: 0 shown, 2 bad input. Files that cannot be read are named on stderr and left out.
"""

import argparse
import json
import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from fixtures.gates.index import Index, Series
from fixtures.gates.metrics import METRICS
from fixtures.records.errors import RecordError
from fixtures.records.reader import expand
from fixtures.views.trend import Trend, trend_of, trend_text
from tools import command_parser, fitted

INDEX = ".index.sqlite"
RESULTS = Path(__file__).resolve().parents[1] / "results"


def main(argv: list[str]) -> int:
    """Print the trends."""
    options = _parser().parse_args(argv)
    trends = [trend_of(series, options.metric) for series in _series(options)]
    if options.json:
        print(json.dumps([_facts(trend) for trend in trends], indent=1))
    else:
        _print(trends, options.width)
    return 0


def _print(trends: Sequence[Trend], blocks: int) -> None:
    """A paragraph each, in lines that fit the terminal; 80 columns where there is none."""
    blocks = min(blocks, shutil.get_terminal_size().columns - 4)
    texts = ("\n".join(fitted(line, "    ") for line in trend_text(trend, blocks)) for trend in trends)
    print("\n\n".join(texts))


def _parser() -> argparse.ArgumentParser:
    parser = command_parser("history", __doc__)
    parser.add_argument("scenario", help="scenario id or prefix, e.g. s6")
    parser.add_argument(
        "--results", action="append", metavar="FOLDER", help="default: results of the checkout"
    )
    parser.add_argument("--engine", help="only this engine")
    parser.add_argument("--metric", default="warm_ms", choices=[metric.name for metric in METRICS])
    parser.add_argument("--width", type=int, default=60, help="blocks in the sparkline (default 60)")
    parser.add_argument("--json", action="store_true", help="every point and change, for machines")
    return parser


def _series(options: argparse.Namespace) -> list[Series]:
    sources = options.results or [os.path.relpath(RESULTS)]
    first = Path(sources[0])
    index = Index(first / INDEX if first.is_dir() else None)
    index.refresh(path for source in sources for path in expand(source))
    for error in index.errors:
        print(error, file=sys.stderr)
    recorded = index.series()
    found = [one for one in recorded if one.key.scenario.startswith(options.scenario)]
    found = [one for one in found if options.engine in (None, one.key.engine)]
    if not found:
        known = ", ".join(sorted({series.key.scenario for series in recorded})) or "none"
        engine = f" with engine {options.engine}" if options.engine else ""
        raise RecordError(
            f"No run of scenario {options.scenario!r}{engine} was found; recorded are: {known}."
        )
    return found


def _facts(trend: Trend) -> dict[str, object]:
    points = [
        {"run": point.run, "started": point.started, "commit": point.commit, "value": value}
        for point, value in zip(trend.points, trend.values, strict=True)
    ]
    changes = [
        {"run": trend.points[c.index].run, "before": c.before, "after": c.after, "p": c.p}
        for c in trend.changes
    ]
    return {
        "case": trend.series.key.facts(),
        "system": trend.series.system,
        "metric": trend.metric.name,
        "points": points,
        "changes": changes,
    }
