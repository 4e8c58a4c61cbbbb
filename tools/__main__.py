"""Dispatch `python -m tools COMMAND` to the module of that name; each has `main(argv) -> exit code`."""

import importlib
import os
import signal
import sys

from fixtures.documents.commands import TOOLS


def usage() -> str:
    """The list of commands, one a line."""
    return "usage: python -m tools COMMAND [options]\n\n" + "\n".join(
        f"  {name:<15} {TOOLS[name].does}" for name in sorted(TOOLS)
    )


def main(argv: list[str]) -> int:
    """Run one command; 2 for an unknown one. A reader that leaves early, as `head` does, is not an error."""
    if not argv or argv[0] in ("-h", "--help"):
        print(usage())
        return 0 if argv else 2
    if argv[0] not in TOOLS:
        print(f"unknown command {argv[0]!r}; known: {', '.join(sorted(TOOLS))}", file=sys.stderr)
        return 2
    module = importlib.import_module(f"tools.{argv[0].replace('-', '_')}")
    try:
        code = int(module.main(argv[1:]))
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(
            os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno()
        )  # for the flush at the interpreter's end
        return 128 + signal.SIGPIPE
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
