"""Write the cases of result files as CSV, Parquet or OpenMetrics text, by the ending of the file's name:
.csv, .parquet, .prom or .txt. docs/exports.md describes the columns.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from fixtures.records import RecordError, Run, read_runs
from fixtures.views.export import as_csv, as_openmetrics, write_parquet
from tools import command_parser

ENDINGS = (".csv", ".parquet", ".prom", ".txt")


def main(argv: list[str]) -> int:
    """0: written; 2: a file cannot be read or written, or its ending says no format."""
    parser = command_parser("export", __doc__, runs=True)
    parser.add_argument(
        "-o", "--output", type=Path, required=True, help=f"a file ending in {', '.join(ENDINGS)}"
    )
    options = parser.parse_args(argv)
    try:
        runs = read_runs(options.runs)
        _write(runs, options.output)
    except RecordError as error:
        print(error, file=sys.stderr)
        return 2
    cases = sum(len(run.cases) for run in runs)
    print(f"{options.output}: {cases} cases of {len(runs)} run{'s' * (len(runs) != 1)}")
    return 0


def _write(runs: Sequence[Run], output: Path) -> None:
    """Raises RecordError, one sentence."""
    if output.suffix not in ENDINGS:
        raise RecordError(f"{output} must end in one of {', '.join(ENDINGS)}.")
    try:
        if output.suffix == ".parquet":
            write_parquet(runs, output)
        else:
            text = as_csv(runs) if output.suffix == ".csv" else as_openmetrics(runs)
            output.write_text(text, encoding="utf-8")
    except OSError as error:
        raise RecordError(f"{output} cannot be written: {error.strerror}.") from None
