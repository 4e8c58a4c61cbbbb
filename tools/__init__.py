"""What a person runs: refit-bench COMMAND."""

import argparse


def command_parser(command: str, doc: str | None, *, runs: bool = False) -> argparse.ArgumentParser:
    """The parser of a command that `doc` describes; with `runs` its first arguments are result files."""
    made = argparse.ArgumentParser(
        prog=f"refit-bench {command}",
        description=doc,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    if runs:
        made.add_argument("runs", nargs="+", metavar="RUN", help="result files, folders or globs")
    return made
