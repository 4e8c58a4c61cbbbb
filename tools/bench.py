"""Run the benchmark from any folder: `pytest tests/perf` of this checkout, with the same options.

Result files go to the checkout's results/ unless --results names another folder.
"""

import contextlib
import io
import sys
from pathlib import Path

from fixtures.cases.errors import CaseError
from fixtures.cases.scenarios import find_scenarios
from tools import fitted

ROOT = Path(__file__).resolve().parents[1]
GROUPS = ("weight refits:", "distributed items (@pytest.mark.distributed):")


def main(argv: list[str]) -> int:
    """pytest's exit code."""
    import pytest

    arguments = [
        str(ROOT / "tests" / "perf"),
        f"--rootdir={ROOT}",
        f"--config-file={ROOT / 'pyproject.toml'}",
    ]
    if argv and (scenario := _scenario(argv[0])):
        print(f"{argv[0]} is a scenario: refit-bench bench --scenario {scenario}", file=sys.stderr)
        return int(pytest.ExitCode.USAGE_ERROR)
    if not {"-h", "--help"} & set(argv):
        return int(pytest.main([*arguments, *argv]))
    help_text = io.StringIO()
    with contextlib.redirect_stdout(help_text):
        code = int(pytest.main([*arguments, "--help"]))
    print("usage: refit-bench bench [options of pytest and of this suite]\n")
    print(f"{fitted(__doc__ or '')}\n\n{own_options(help_text.getvalue())}")
    return code


def _scenario(word: str) -> str:
    """The scenario that a word without an option may mean; "" for all else."""
    if word.startswith("-") or Path(word.split("::")[0]).exists():
        return ""
    try:
        found = find_scenarios([word])
    except CaseError:
        return ""
    return word if found else ""


def own_options(text: str) -> str:
    """The suite's own groups of options out of pytest's help."""
    lines: list[str] = []
    inside = False
    for line in text.splitlines():
        if line and not line.startswith(" "):
            inside = line in GROUPS
        if inside:
            lines.append(line)
    return "\n".join(lines).rstrip()
