"""Dispatch `python -m tools COMMAND` to one module per command."""

import importlib
import sys

COMMANDS: dict[str, tuple[str, str]] = {
    "check-results": ("tools.check_results", "is a result file sound?"),
    "compare": (
        "tools.compare",
        "hold new runs against old ones: better, same, worse, unknown, incomparable",
    ),
    "docs": ("tools.docs", "write the generated documents anew"),
    "doctor": ("tools.doctor", "is this machine or allocation fit to run a scenario?"),
    "history": ("tools.history", "how a scenario went over time, and where it changed"),
    "ledger": ("tools.ledger", "which upstream defects the megatron-core in use has"),
    "megatron-flags": ("tools.megatron_flags", "Megatron's flags as options of the suite"),
    "plan": ("tools.plan", "what a refit must move, how fast at best, in which order of ranks"),
    "report": ("tools.report", "one HTML page, or Markdown, from result files"),
    "rebase": ("tools.rebase", "write a system's baseline from runs"),
    "summary": ("tools.summary", "print a run's table again"),
}
"""Command -> (module, what it does in one line); each module has `main(argv) -> exit code`."""


def usage() -> str:
    """The list of commands, one a line."""
    return "usage: python -m tools COMMAND [options]\n\n" + "\n".join(
        f"  {name:<15} {text}" for name, (_, text) in COMMANDS.items()
    )


def main(argv: list[str]) -> int:
    """Run one command; 2 for an unknown one."""
    if not argv or argv[0] in ("-h", "--help"):
        print(usage())
        return 0 if argv else 2
    if argv[0] not in COMMANDS:
        print(f"unknown command {argv[0]!r}; known: {', '.join(COMMANDS)}", file=sys.stderr)
        return 2
    module = importlib.import_module(COMMANDS[argv[0]][0])
    return int(module.main(argv[1:]))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
