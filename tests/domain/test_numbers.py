"""Numbers are read as msgspec reads them, at a cost that does not depend on their size."""

from __future__ import annotations

import json
import math

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.api.bodies import StateRequest
from app.api.decoding import decode_body
from app.domain.errors import RequestError
from app.domain.events import _DECODERS, EVENTS
from app.domain.numbers import number


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_every_number(value: float) -> None:
    found = number(json.dumps(value))
    assert (found, math.copysign(1, found)) == (value, math.copysign(1, value))
    state = decode_body(msgspec.json.encode({"state": {"a": value}}), StateRequest).state
    assert state == {"a": value}


@pytest.mark.parametrize("digits", ["1e309", "-1e309", "1" * 400 + ".5", "1.7976931348623159e308"])
def test_what_is_too_large(digits: str) -> None:
    with pytest.raises(ValueError, match="out of range"):
        number(digits)
    with pytest.raises(RequestError, match="out of range"):
        decode_body(b'{"state":{"a":[%s]}}' % digits.encode(), StateRequest)


def test_what_clients_wrote_is_never_read_otherwise() -> None:
    assert {_DECODERS[name].float_hook for name in EVENTS} == {number}
