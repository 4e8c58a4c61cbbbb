"""What a person runs: refit-bench COMMAND."""

import argparse
import shutil
import textwrap


def fitted(text: str, indent: str = "") -> str:
    """Each paragraph in lines that fit the terminal, those after the first with `indent`."""
    width = shutil.get_terminal_size().columns
    return "\n\n".join(
        textwrap.fill(part, width, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)
        for part in text.strip().split("\n\n")
    )


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
