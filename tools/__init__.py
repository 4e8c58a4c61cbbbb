"""What a person runs: refit-bench COMMAND."""

import argparse
import shutil
import sys
import textwrap
from collections.abc import Iterable
from pathlib import Path

from fixtures.records.errors import RecordError
from fixtures.records.reader import Run


def fitted(text: str, indent: str = "") -> str:
    """Each paragraph in lines that fit the terminal, those after the first with `indent`."""
    width = shutil.get_terminal_size().columns
    return "\n\n".join(
        textwrap.fill(part, width, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)
        for part in text.rstrip().split("\n\n")
    )


def warn(runs: Iterable[Run]) -> None:
    """Say what the reader tolerated in these runs."""
    for warning in (warning for run in runs for warning in run.warnings):
        print(warning, file=sys.stderr)


def write(path: Path, content: str | bytes, *, append: bool = False) -> None:
    """Write a file and the folders above it. Raises RecordError where that cannot be."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab" if append else "wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
    except OSError as error:
        raise RecordError(f"{path} cannot be written: {error.strerror}.") from None


def command_parser(command: str, doc: str | None, *, runs: bool = False) -> argparse.ArgumentParser:
    """The parser of a command that `doc` describes; with `runs` its first arguments are result files."""
    made = argparse.ArgumentParser(
        prog=f"refit-bench {command}",
        description=fitted(doc or ""),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    if runs:
        made.add_argument("runs", nargs="+", metavar="RUN", help="result files, folders or globs")
    return made
