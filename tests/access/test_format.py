"""What a key looks like."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.access.format import ALPHABET, PREFIX, checksum, digest_of, id_of, is_key, new_key

KNOWN = "sth_000000000000_00000000000000000000000000000000"


def test_every_key_is_another_one_and_looks_like_one() -> None:
    keys = [new_key() for _ in range(200)]
    assert len({text for text, _ in keys}) == len({digest_of(text) for text, _ in keys}) == 200
    for text, key_id in keys:
        assert is_key(text)
        assert id_of(text) == key_id
        assert key_id not in text
        assert re.fullmatch(r"sth_[0-9A-Za-z]{12}_[0-9A-Za-z]{38}", text), "what secret scanners are told to look for"


def test_a_known_key_has_a_known_checksum() -> None:
    """Keys that are out there must stay keys."""
    assert checksum(KNOWN) == "0vaugz"
    assert is_key(f"{KNOWN}0vaugz")


@given(st.integers(0, 54), st.sampled_from(ALPHABET))
def test_a_mistyped_key_is_none(place: int, letter: str) -> None:
    text, _ = new_key()
    wrong = text[:place] + letter + text[place + 1 :]
    assert is_key(wrong) == (wrong == text)


@pytest.mark.parametrize(
    "text", ["", PREFIX, "x" * 55, KNOWN, f"{KNOWN}0vaugz\n", f" {KNOWN}0vaugz", f"{KNOWN}0vaugz0", "\ud800"]
)
def test_garbage_is_no_key(text: str) -> None:
    assert not is_key(text)
    assert len(digest_of(text)) == 32
