"""Nesting, found out in few passes: as a plain count of it, bracket by bracket, has it."""

from __future__ import annotations

import json
import sys

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from app.api.bodies import StateRequest
from app.api.decoding import decode_body
from app.api.nesting import MAX_CONTAINERS, MAX_DEPTH, nested_wrongly
from app.domain.errors import RequestError

texts = st.text('[]{}"\\a,:', max_size=12)
values = st.recursive(
    st.none() | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=12,
)


def depth_and_count(value: object) -> tuple[int, int]:
    if not isinstance(value, dict | list):
        return 0, 0
    found = [depth_and_count(item) for item in (value.values() if isinstance(value, dict) else value)]
    return 1 + max((depth for depth, _ in found), default=0), 1 + sum(count for _, count in found)


@given(value=values, levels=st.integers(MAX_DEPTH - 4, MAX_DEPTH), most=st.integers(MAX_DEPTH, MAX_DEPTH + 12))
@example(value=['\\"', "[", {'"': "]\\"}], levels=MAX_DEPTH, most=200)
def test_depth_and_number_are_those_of_the_values(value: object, levels: int, most: int) -> None:
    for _ in range(levels):
        value = ["[", value]
    body = json.dumps(value).encode()
    depth, count = depth_and_count(value)
    expected = (
        f"has more than {most} arrays and objects"
        if count > most
        else f"is nested more than {MAX_DEPTH} levels deep"
        if depth > MAX_DEPTH
        else None
    )
    assert nested_wrongly(body, most) == expected


@pytest.mark.parametrize("tail", [b"", b'"', b"\\", b'\\"[', b'"["', b"]]]]", b"x"])
def test_what_is_too_deep_is_never_begun_however_it_goes_on(tail: bytes) -> None:
    for deep in (b"[" * 101, b'{"[":' * 101, b'["\\\\",' * 101, b'["\\"",' * 101, b'{"":' * 200_000):
        assert nested_wrongly(deep + tail) is not None


def calls_of(body: bytes) -> int:
    """How many functions, ours and C's, are called to look at the body."""
    calls = 0

    def count(_: object, event: str, __: object) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")

    sys.setprofile(count)
    try:
        assert nested_wrongly(body) is None
    finally:
        sys.setprofile(None)
    return calls


def test_deep_bodies_are_gone_over_as_often_as_flat_ones() -> None:
    found = {
        calls_of(b"[" + b",".join([b"[" * levels + b"]" * levels] * (48_000 // levels)) + b"]")
        for levels in (1, 2, 10, 96)
    }
    assert len(found) == 1
    assert found.pop() < 60


def test_nothing_is_made_of_too_many() -> None:
    """A value of the wrong type comes first, and is not what is told: nothing was decoded."""
    for many in (b"[]", b"{}", b'["["]', b'{"]":{}}'):
        body = b'{"state":1,"x":[' + b",".join([many] * (MAX_CONTAINERS + 1)) + b"]}"
        with pytest.raises(RequestError, match=f"more than {MAX_CONTAINERS} arrays and objects"):
            decode_body(body, StateRequest)


def test_brackets_of_texts_are_no_nesting() -> None:
    text = '{["\\' * 200_000
    state = decode_body(msgspec.json.encode({"state": {"text": text}}), StateRequest).state
    assert state == {"text": text}
