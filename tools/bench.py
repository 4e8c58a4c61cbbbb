"""Run the benchmark from any folder: `pytest tests/perf` of this checkout, with the same options.

Result files go to the checkout's results/ unless --results names another folder.
"""

import contextlib
import io
from pathlib import Path

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
    if not {"-h", "--help"} & set(argv):
        return int(pytest.main([*arguments, *argv]))
    help_text = io.StringIO()
    with contextlib.redirect_stdout(help_text):
        code = int(pytest.main([*arguments, "--help"]))
    print("usage: refit-bench bench [options of pytest and of this suite]\n")
    print(f"{__doc__}\n{own_options(help_text.getvalue())}")
    return code


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
