"""What goes over the wire between processes comes back as it was, and nothing else comes back at all."""

import json
from dataclasses import dataclass
from typing import Any, Literal

import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fixtures.ranks.data import DataError, decode, encode, fits, known, of_this_suite
from fixtures.ranks.messages import KNOWN, Enroll, Evidence, PhaseReport, StoreCall

SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
KEYS = st.text() | st.integers() | st.tuples(st.integers(), st.text())
VALUES = st.recursive(
    SCALARS | st.binary(),
    lambda inner: (
        st.lists(inner)
        | st.lists(inner).map(tuple)
        | st.dictionaries(KEYS, inner)
        | st.sets(st.integers() | st.text())
    ),
    max_leaves=20,
)


def same(left: object, right: object) -> bool:
    """Equal and of equal types, items included."""
    return repr(left) == repr(right) or (left == right and type(left) is type(right))


@given(VALUES)
def test_values_come_back_as_they_were(value: Any) -> None:
    assert same(decode(encode(value), KNOWN), value)


@given(st.builds(Evidence, log=st.just("\ud800 and \x1b[31m")), st.builds(Enroll))
def test_messages_come_back_as_they_were(evidence: Evidence, enroll: Enroll) -> None:
    for message in (evidence, enroll):
        assert decode(encode(message), KNOWN) == message


JSON = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner)
        | st.dictionaries(
            st.sampled_from(["list", "dict", "set", "bytes", "fixtures.ranks.messages:StoreCall", "x"]), inner
        )
    ),
    max_leaves=20,
)


@given(JSON)
def test_any_other_text_is_refused_with_one_kind_of_error(value: Any) -> None:
    try:
        found = decode(json.dumps(value), KNOWN)
    except DataError:
        return
    assert same(decode(encode(found), KNOWN), found)


@given(st.binary(max_size=200))
def test_any_bytes_are_a_value_or_a_data_error(text: bytes) -> None:
    try:
        decode(text, KNOWN)
    except DataError as error:
        assert len(str(error)) < 200  # noqa: PT017


@dataclass(frozen=True)
class Runs:
    """A dataclass that no message may make."""

    command: str


@pytest.mark.parametrize("name", ["os:system", "subprocess:Popen", "builtins:eval", f"{__name__}:Runs", ""])
def test_only_known_types_are_made(name: str) -> None:
    text = json.dumps({name: {"command": "true"}})
    for find in (KNOWN, of_this_suite, known(StoreCall)):
        with pytest.raises(DataError, match="is not a known type"):
            decode(text, find)


def test_a_function_of_the_suite_is_no_type() -> None:
    with pytest.raises(DataError, match="is not a known type"):
        decode('{"fixtures.ranks.data:encode":{"value":1}}', of_this_suite)


def test_derived_values_arrive_as_plain_ones() -> None:
    assert same(decode(encode([numpy.float64(1.5), True]), KNOWN), [1.5, True])


@pytest.mark.parametrize("value", [object(), numpy.zeros(3), 1j, Runs, print])
def test_what_is_no_data_is_named_before_it_is_sent(value: object) -> None:
    with pytest.raises(DataError, match="cannot be sent to other ranks"):
        encode({"deep": [value]})


@pytest.mark.parametrize(
    ("value", "hint", "expected"),
    [
        (1, float, True),
        (True, int, False),
        (1.0, int, False),
        ((1, "a"), tuple[int, str], True),
        ((1, 2), tuple[int, str], False),
        ((1, 2, 3), tuple[int, ...], True),
        ((1, "a"), tuple[int, ...], False),
        ({1: "a"}, dict[int, str], True),
        ({"1": "a"}, dict[int, str], False),
        (None, str | None, True),
        (3, str | None, False),
        ("call", Literal["setup", "call"], True),
        ("other", Literal["setup", "call"], False),
    ],
)
def test_fields_must_be_what_they_say(value: object, hint: Any, expected: bool) -> None:
    assert fits(value, hint) == expected


def test_a_wrong_field_is_named() -> None:
    text = encode(PhaseReport(when="call", outcome="passed")).replace('"outcome":"passed"', '"outcome":7')
    with pytest.raises(DataError, match=r"PhaseReport\.outcome is a int"):
        decode(text, KNOWN)
