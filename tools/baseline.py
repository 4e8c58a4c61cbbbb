"""Write the baseline of a system from runs: refit-bench baseline RUN... --because "why".

The result, thresholds/SYSTEM.toml, is reviewed and committed like code. References of cases that the runs do
not hold stay as they are. Exit code: 0 written, 2 bad input.
"""

import argparse
import sys
from pathlib import Path
from typing import Any, cast

from fixtures.gates import load_baseline, new_baseline
from fixtures.gates.baselines import FOLDER, Baseline, baseline_text
from fixtures.records import RecordError, Run, read_runs
from fixtures.records.identity import system_name
from tools import command_parser


def main(argv: list[str]) -> int:
    """Write the file and print what changed; 2 with one sentence when it cannot be written."""
    options = _parser().parse_args(argv)
    try:
        runs = read_runs(options.runs)
        path = options.output or _path_of(runs)
        old = load_baseline(path) if path.exists() else None
        if old and (differing := old.differing(_identity(runs))) and not options.new_system:
            raise RecordError(
                f"{path} is of another system ({'; '.join(differing)}); --new-system replaces it."
            )
        kept = None if options.new_system else old
        fresh = new_baseline(runs, options.because, old=kept, xfail=_expected_failures(options.xfail))
        _write(path, baseline_text(fresh))
    except RecordError as error:
        print(error, file=sys.stderr)
        return 2
    for warning in (warning for run in runs for warning in run.warnings):
        print(warning, file=sys.stderr)
    print(f"{path}: {len(fresh.references)} references from {len(runs)} runs.")
    print("\n".join(_changes(old, fresh)))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = command_parser("baseline", __doc__, runs=True)
    parser.add_argument("--because", required=True, help="one line on why the references change")
    parser.add_argument("-o", "--output", type=Path, help="default: thresholds/SYSTEM.toml")
    parser.add_argument("--new-system", action="store_true", help="replace a baseline of another system")
    parser.add_argument(
        "--xfail",
        action="append",
        default=[],
        metavar="CASE=REASON",
        help='e.g. "s2 megatron=scrambled experts"',
    )
    return parser


def _path_of(runs: list[Run]) -> Path:
    return FOLDER / f"{system_name(_identity(runs))}.toml"


def _identity(runs: list[Run]) -> dict[str, Any]:
    return cast(dict[str, Any], runs[0].environment["identity"])


def _expected_failures(texts: list[str]) -> dict[str, str]:
    pairs = [text.partition("=") for text in texts]
    for case, _, reason in pairs:
        if not case.strip() or not reason.strip():
            raise RecordError(f'--xfail needs CASE=REASON, not "{case}".')
    return {case: reason for case, _, reason in pairs}


def _write(path: Path, text: str) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise RecordError(f"{path} cannot be written: {error.strerror}.") from None


def _changes(old: Baseline | None, fresh: Baseline) -> list[str]:
    """One line per reference whose value moved, for the review."""
    before = {(ref.key, ref.metric): ref.value for ref in (old.references if old else ())}
    lines = []
    for ref in fresh.references:
        was = before.get((ref.key, ref.metric))
        what = f"{ref.key.label} {ref.metric}"
        if was is None:
            lines.append(f"  new   {what}: {ref.value:g} {ref.unit} in [{ref.lower:g}, {ref.upper:g}]")
        elif was != ref.value:
            lines.append(f"  moved {what}: {was:g} to {ref.value:g} {ref.unit}")
    return lines
