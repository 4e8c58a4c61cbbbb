"""Dispatch `refit-bench COMMAND` (or `python -m tools COMMAND`) to the module of that name; each has
`main(argv) -> exit code` and raises CaseError or RecordError, one sentence, for bad input."""

import contextlib
import importlib
import os
import signal
import sys
from difflib import get_close_matches

from fixtures.cases.checkout import use_checkout
from fixtures.cases.errors import CaseError
from fixtures.documents.commands import SCRIPT, TOOLS
from fixtures.records.errors import RecordError
from tools import fitted


def usage() -> str:
    """The list of commands, one a line."""
    lines = [fitted(f"  {name:<15} {does.does}", " " * 18) for name, does in sorted(TOOLS.items())]
    ends = ["", f"{SCRIPT} COMMAND --help has its options, an example and its exit codes."]
    return "\n".join([f"usage: {SCRIPT} COMMAND [options]", "", *lines, *ends])


def epilog(name: str) -> str:
    """What stands under a command's options in its help."""
    command = TOOLS[name]
    return f"\nexample:    {command.line}\n{fitted(f'exit codes: {command.exits}', ' ' * 12)}"


def main(argv: list[str]) -> int:
    """Run one command; 2 for an unknown one and for bad input. A reader that leaves early, as `head` does, is
    not an error."""
    if not argv or argv[0] in ("-h", "--help"):
        print(usage())
        return 0 if argv else 2
    if argv[0] not in TOOLS:
        near = get_close_matches(argv[0], TOOLS, n=1)
        meant = f"did you mean {near[0]}?" if near else f"known: {', '.join(sorted(TOOLS))}"
        print(f"unknown command {argv[0]!r}; {meant}", file=sys.stderr)
        return 2
    try:
        use_checkout()
        module = importlib.import_module(f"tools.{argv[0].replace('-', '_')}")
        if {"-h", "--help"} & set(argv[1:]):
            with contextlib.suppress(SystemExit):
                module.main(argv[1:])
            print(epilog(argv[0]))
            return 0
        code = int(module.main(argv[1:]))
        sys.stdout.flush()
    except (CaseError, RecordError) as error:
        print(error, file=sys.stderr)
        return 2
    except BrokenPipeError:
        os.dup2(
            os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno()
        )  # for the flush at the interpreter's end
        return 128 + signal.SIGPIPE
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
