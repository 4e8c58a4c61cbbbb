"""Write the cases of result files as CSV, Parquet or OpenMetrics text, by the ending of the file's name:
.csv, .parquet, .prom or .txt. docs/exports.md describes the columns.
"""

from pathlib import Path

from fixtures.records.errors import RecordError
from fixtures.records.reader import read_runs
from fixtures.views.export import FORMATS
from tools import command_parser, write


def main(argv: list[str]) -> int:
    """0: written; 2: a file cannot be read or written, or its ending says no format."""
    parser = command_parser("export", __doc__, runs=True)
    endings = ", ".join(FORMATS)
    parser.add_argument("-o", "--output", type=Path, required=True, help=f"a file ending in {endings}")
    options = parser.parse_args(argv)
    runs = read_runs(options.runs)
    if options.output.suffix not in FORMATS:
        raise RecordError(f"{options.output} must end in one of {endings}.")
    write(options.output, FORMATS[options.output.suffix](runs))
    cases = sum(len(run.cases) for run in runs)
    print(f"{options.output}: {cases} cases of {len(runs)} run{'s' * (len(runs) != 1)}")
    return 0
