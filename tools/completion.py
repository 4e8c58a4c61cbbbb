"""A script that completes commands and their options in bash or zsh.

eval "$(refit-bench completion bash)"
"""

import contextlib
import importlib
import io
import re

from fixtures.documents.commands import SCRIPT, TOOLS
from tools import command_parser

BASH = """\
_refit_bench() {{
  local word="${{COMP_WORDS[COMP_CWORD]}}" choices
  if [ "$COMP_CWORD" -eq 1 ]; then choices="{commands}"; else
    case "${{COMP_WORDS[1]}}" in
{options}
    esac
  fi
  COMPREPLY=($(compgen -W "$choices" -- "$word"))
  case "$word" in -*) ;; *) [ "$COMP_CWORD" -gt 1 ] && COMPREPLY+=($(compgen -f -- "$word")) ;; esac
}}
complete -o filenames -F _refit_bench {script}
"""
SHELLS = {"bash": BASH, "zsh": "autoload -U +X bashcompinit && bashcompinit\n" + BASH}


def main(argv: list[str]) -> int:
    """0: printed; 2: a shell that is not known."""
    parser = command_parser("completion", __doc__)
    parser.add_argument("shell", choices=sorted(SHELLS))
    print(script(parser.parse_args(argv).shell), end="")
    return 0


def script(shell: str) -> str:
    """The completion script of a shell: every command, and the options that its help names."""
    options = [f'      {name}) choices="{" ".join(options_of(name))}" ;;' for name in sorted(TOOLS)]
    commands = " ".join(sorted(TOOLS))
    return SHELLS[shell].format(commands=commands, options="\n".join(options), script=SCRIPT)


def options_of(name: str) -> list[str]:
    """The long options in a command's help."""
    help_text = io.StringIO()
    with contextlib.redirect_stdout(help_text), contextlib.suppress(SystemExit):
        importlib.import_module(f"tools.{name.replace('-', '_')}").main(["--help"])
    return sorted(set(re.findall(r"(?<![\w-])--[a-z][\w-]*", help_text.getvalue())))
