"""Write the baseline of a system from runs: refit-bench baseline RUN... --because "why".

The result, thresholds/SYSTEM.toml, is reviewed and committed like code. References of cases that the runs do
not hold stay as they are. Exit code: 0 written, 2 bad input.
"""

import argparse
import os
from pathlib import Path

from fixtures.gates.baselines import FOLDER, Baseline, baseline_text, load_baseline
from fixtures.gates.new_baseline import new_baseline
from fixtures.records.errors import RecordError
from fixtures.records.reader import read_runs
from tools import command_parser, warn, write


def main(argv: list[str]) -> int:
    """Write the file and print what changed."""
    options = _parser().parse_args(argv)
    runs = read_runs(options.runs)
    path = options.output or Path(os.path.relpath(FOLDER / f"{runs[0].system}.toml"))
    old = load_baseline(path) if path.exists() else None
    if old and (differing := old.differing(runs[0].identity)) and not options.new_system:
        raise RecordError(f"{path} is of another system ({'; '.join(differing)}); --new-system replaces it.")
    kept = None if options.new_system else old
    fresh = new_baseline(runs, options.because, old=kept, xfail=_expected_failures(options.xfail))
    write(path, baseline_text(fresh))
    warn(runs)
    print(f"{path}: {len(fresh.references)} references from {len(runs)} runs.")
    print("\n".join(_changes(old, fresh)))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = command_parser("baseline", __doc__, runs=True)
    parser.add_argument("--because", required=True, help="one line on why the references change")
    parser.add_argument("-o", "--output", type=Path, help="default: thresholds/SYSTEM.toml of the checkout")
    parser.add_argument("--new-system", action="store_true", help="replace a baseline of another system")
    parser.add_argument(
        "--xfail",
        action="append",
        default=[],
        metavar="CASE=REASON",
        help='e.g. "s2 megatron=scrambled experts"',
    )
    return parser


def _expected_failures(texts: list[str]) -> dict[str, str]:
    pairs = [text.partition("=") for text in texts]
    for case, _, reason in pairs:
        if not case.strip() or not reason.strip():
            raise RecordError(f'--xfail needs CASE=REASON, not "{case}".')
    return {case: reason for case, _, reason in pairs}


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
