"""Values that nobody meant, for every place where one comes in, and bounds on what they may cost."""

import resource
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st

from tools.__main__ import main

SECONDS = 10
BYTES = 2**30

# fmt: off
TEXTS = (
    "", " ", "\n", "\x00", "\x1b[31m\x1b]0;owned\x07", "\ud800", "\u202e", "nan", "None", "$(id)", "';--",
    "[/b]", "[bold]", "[link=file:///x]y[/link]", "%s%n{0}", "${7*7}{{7*7}}{% raw %}", "../../x",
    "<script>alert(1)</script>", "\"><img src=x onerror=alert(1)>", "javascript:alert(1)",
    "a|b", "`", "[a](http://x)", "a" * 200_000, "9" * 5000,
)
NUMBERS = (
    0, -1, 1, 7, 1e-18, 5e-324, 1e-300, -0.0, 0.5, 9e18, 1e308, -1e308, 1e999, float("nan"), float("inf"),
    2**31, 2**63 - 1, 2**63, 10**9, 10**400,
)
# fmt: on


def _nested(depth: int) -> Any:
    value: Any = 0
    for _ in range(depth):
        value = [value]
    return value


LAYOUTS = (
    {"tp": 10**9, "ep": 1},
    {"tp": 1000, "ep": 1000},
    {"tp": 1},
    {"tp": "1", "ep": None},
    {"tp": 0, "ep": 1},
)
SCALARS = st.none() | st.booleans() | st.sampled_from(NUMBERS) | st.sampled_from(TEXTS) | st.text(max_size=5)
VALUES = (
    SCALARS
    | st.lists(SCALARS, max_size=3)
    | st.dictionaries(st.sampled_from(TEXTS[:8]) | st.text(max_size=3), SCALARS, max_size=2)
    | st.lists(st.lists(SCALARS, max_size=2), max_size=2)
    | st.sampled_from(LAYOUTS)
    | st.sampled_from([30, 300]).map(_nested)
)
"""What JSON can hold, and nobody expects."""

ARGUMENTS = st.sampled_from(
    [text for text in TEXTS if "\0" not in text and "\ud800" not in text]
) | st.sampled_from([repr(number) for number in NUMBERS if number != 10**400])
"""What a command line can hold."""


def fuzzed(examples: int) -> settings:
    """The same examples in each run; more of them with `--hypothesis-profile=fuzz`."""
    more = settings.default.max_examples if settings.default else 0
    return settings(max_examples=max(examples, more), derandomize=True, deadline=None, database=None)


settings.register_profile("fuzz", max_examples=5000)


@contextmanager
def bounded() -> Iterator[None]:
    """Raise where the body takes more than SECONDS of this process's time or BYTES of memory."""
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    before = signal.signal(signal.SIGVTALRM, _late)
    resource.setrlimit(resource.RLIMIT_AS, (_address_space() + BYTES, hard))
    signal.setitimer(signal.ITIMER_VIRTUAL, SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
        signal.signal(signal.SIGVTALRM, before)


def _late(*_: object) -> None:
    raise TimeoutError(f"more than {SECONDS} s")


def _address_space() -> int:
    with open("/proc/self/statm") as file:  # noqa: PTH123
        return int(file.read().split()[0]) * resource.getpagesize()


def exit_code(argv: list[str]) -> int:
    """What a command ends with, in bounds; argparse leaves with SystemExit."""
    with bounded():
        try:
            return main(argv)
        except SystemExit as left:
            return int(left.code or 0)
