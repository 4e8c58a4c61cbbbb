"""Any value for any option: one sentence, or a run; never a traceback, nor more than its time and memory."""

import resource
import signal
from pathlib import Path

import pytest
from _pytest.config.argparsing import Parser
from hypothesis import given
from hypothesis import strategies as st

from fixtures.plugins import gate, options, ranks, records, resume
from fixtures.records.plain import HIDDEN
from tests.correctness.cli.inner_runs import SuiteRun, fork_suite
from tests.correctness.tools.hostile import ARGUMENTS, BYTES, SECONDS, fuzzed

LIKELY = (
    *("s6", "s1,s9", "6,6", "2:1:1:1:collocated:gloo", "1:1:1:1:collocated:gloo:[/b]", "::::::", "packed"),
    *(
        "tests:Nothing",
        "no.such:Engine",
        "gloo",
        "kimi-k2-mini",
        "1,1",
        "0,2,1,3",
        "0.01",
        "dense",
        "floor=nan",
    ),
    *("floor=1e999", "call=1e400", "call=1,call=2", "call=", "=", "/dev/null/x", "/proc/self/mem", "~", "."),
)
"""Values that mean something to one option, and those nearly so."""


def names() -> list[str]:
    """Every option that the suite adds to pytest and that takes a value."""
    parser = Parser(_ispytest=True)
    for plugin in (gate, options, ranks, records, resume):
        plugin.pytest_addoption(parser)
    found = [option for group in parser._groups for option in group.options]
    return sorted(
        option.names()[0] for option in found if option.attrs().get("action", "append") != "store_true"
    )


def collect(folder: Path, arguments: list[str]) -> SuiteRun:
    """What the suite makes of these options, in a process with bounds."""

    def bound() -> None:
        with Path("/proc/self/statm").open() as file:
            used = int(file.read().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + BYTES, used + BYTES))
        resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))

    return fork_suite(folder, "--collect-only", "-q", *arguments, before=bound)


def test_every_option_is_tried() -> None:
    assert {"--scenario", "--ranks", "--buffer-gb", "--deadline", "--run-name", "--gate"} <= set(names())


@fuzzed(60)
@given(
    given=st.lists(
        st.tuples(st.sampled_from(names()), ARGUMENTS | st.sampled_from(LIKELY)), min_size=1, max_size=2
    )
)
def test_any_value_of_any_option_is_taken_or_refused_in_one_sentence(
    given: list[tuple[str, str]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.getbasetemp() / "options"
    folder.mkdir(exist_ok=True)
    run = collect(folder, [f"{name}={value[:100_000]}" for name, value in given])
    assert run.code in (pytest.ExitCode.OK, pytest.ExitCode.USAGE_ERROR), (given, run.output[-3000:])
    assert "Traceback" not in run.output, (given, run.output[-3000:])
    assert "INTERNALERROR" not in run.output, (given, run.output[-3000:])
    assert not HIDDEN.search(run.output), (given, run.output[-3000:])


def test_a_run_without_end_is_ended(tmp_path: Path) -> None:
    """That the bounds hold: this plugin of the test's own never comes to an end."""
    endless = collect(tmp_path, ["-p", "tests.correctness.cli.endless"])
    assert endless.code in (-signal.SIGXCPU, -signal.SIGKILL)
