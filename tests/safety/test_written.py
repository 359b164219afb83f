"""JSON hides nothing by how it is written: what is looked at, and what is handed on, are its values."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.screening import Screening
from app.safety.values import guarded
from app.safety.written import Plain

KEY = "ghp_" + "aB3dE5fG7hJ9" * 3
PIECES = (
    "\\", "\\\\", "\\u", "00", "70", "\\u0070", "\\u005c", "\\u0022", "\\u000a", "\\n", "\\/", "\\ud83d", "\\ude00", "\\uD83D\\uDE00",
    "d8", "\\u00e9", "\\u001F", "u0041", "a", '"', "\\uZZ",
)  # fmt: skip


def plain(*parts: str) -> str:
    writer = Plain()
    return "".join(map(writer.push, parts)) + writer.end()


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ('{"x":"gh\\u0070_"}', '{"x":"ghp_"}'),
        ("!\\u005ba](https:\\u002f\\/e)", "![a](https://e)"),
        ("\\\\u0070 \\\\\\u0070", "\\\\u0070 \\\\p"),
        ("\\u0022\\u005c\\u000a\\u0009\\u0001\\n", '\\"\\\\\\n\\t\\u0001\\n'),
        ("\\ud83d\\ude00 \\ud83d \\ude00 \\u00e9", "\U0001f600 \\ud83d \\ude00 é"),
        ("\\uD83D\\u0041 \\u12", "\\uD83DA \\u12"),
        ("plain", "plain"),
    ],
)
def test_escapes_that_need_not_be_are_taken_out(text: str, written: str) -> None:
    assert plain(text) == written
    assert plain(*text) == written


@given(st.lists(st.sampled_from(PIECES), max_size=12), st.integers(0, 60))
def test_cuts_change_nothing(pieces: list[str], cut: int) -> None:
    text = "".join(pieces)
    assert plain(*text) == plain(text[:cut], text[cut:]) == plain(text)


@given(st.text(max_size=20))
def test_values_stay_what_they_are(value: str) -> None:
    escaped = '"' + "".join(f"\\u{int.from_bytes(unit):04x}" for unit in _units(value)) + '"'
    assert msgspec.json.decode(plain(*escaped)) == value
    text = msgspec.json.encode(value).decode()
    assert msgspec.json.decode(plain(*text)) == value


def _units(value: str) -> list[bytes]:
    units = value.encode("utf-16-be")
    return [units[at : at + 2] for at in range(0, len(units), 2)]


def test_every_string_of_a_value_is_guarded() -> None:
    instructions = "\n".join(f"word{n} and" for n in range(30))
    value = {
        "a": [f"key {KEY}", 1, None, {"![x](https://e.org/)": "<img src=\n'//e.org'>"}],
        "b": instructions,
        "c": "fine",
    }
    assert guarded(value, Screening(), instructions) == {
        "a": ["key ghp_[secret removed]", 1, None, {"! [x](https://e.org/)": "< img src=\n'//e.org'>"}],
        "b": guarded(instructions, Screening(), instructions),
        "c": "fine",
    }
    assert "word25" not in guarded(instructions, Screening(), instructions)
    assert guarded(value, Screening(output="off"), instructions) is value
