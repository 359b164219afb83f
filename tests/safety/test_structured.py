"""JSON hides nothing by how it is written: what is looked at, and what is handed on, are its values."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.screening import OutputGuards, Screening
from app.safety.guard import Screener
from app.safety.structured import Structured
from app.safety.values import guarded

KEY = "ghp_" + "aB3dE5fG7hJ9" * 3
PIECES = (
    "\\", "\\\\", "\\u", "00", "70", "\\u0070", "\\u005c", "\\u0022", "\\u000a", "\\n", "\\/", "\\ud83d", "\\ude00", "\\uD83D\\uDE00",
    "d8", "\\u00e9", "\\u001F", "u0041", "a", '"', "\\uZZ",
)  # fmt: skip


class Echo:
    def push(self, text: str) -> str:
        return text

    def end(self) -> str:
        return ""


def plain(*parts: str) -> str:
    """What becomes of the inside of a string."""
    writer = Structured(lambda _: Echo())
    return writer.push('"')[1:] + "".join(map(writer.push, parts)) + writer.end()


def out(text: str, size: int | None = None, *, output: OutputGuards = "secrets", instructions: str = "") -> str:
    guard = Screener().guard(Screening(output=output), instructions, structured=True)
    assert guard is not None
    size = size or len(text)
    return "".join(guard.push(text[at : at + size]) for at in range(0, len(text), size)) + guard.end()


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("gh\\u0070_", "ghp_"),
        ("!\\u005ba](https:\\u002f\\/e)", "![a](https://e)"),
        ("\\\\u0070 \\\\\\u0070", "\\\\u0070 \\\\p"),
        ("\\u0022\\u005c\\u000a\\u0009\\u0001\\n", '\\"\\\\\\n\\t\\u0001\\n'),
        ("\\ud83d\\ude00 \\ud83d \\ude00 \\u00e9", "\U0001f600 \\ud83d \\ude00 é"),
        ("\\uD83D\\u0041 \\u12", "\\ud83dA \\u12"),
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
    escaped = "".join(f"\\u{int.from_bytes(unit):04x}" for unit in _units(value))
    assert msgspec.json.decode(f'"{plain(*escaped)}"') == value
    text = msgspec.json.encode(value).decode()[1:-1]
    assert msgspec.json.decode(f'"{plain(*text)}"') == value


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


@pytest.mark.parametrize(
    "value",
    [
        {"answer": "As shown in [1]: https://docs.python.org/3/", "n": 1}, {"answer": "[1]:", "n": "https://docs.python.org/"},
        {"a": "![chart](", "b": "x)"}, {"a": "see ![x", "b": ["](//evil.io)"]}, {"token": 1.2345678901234567e22, "password": None, "secret": True},
        {"html": '<p class="x">a <a href="https://docs.example/">b</a></p>', "code": "if a < b:\n\treturn vec![1]"}, {"a": "x<y", "b": "z>"},
        ["-----BEGIN PRIVATE KEY-----", "and"], {"password": "", "name": "Ann-Kathrin9!x"}, "text", 12, [], {"api_key": ["", {"x": "Zx81kQw92mNb37LpTr65"}]},
        {"next_page_token": "CAEQx81kQw92mNb37LpTr65", "nextCursor": "Zx81kQw92mNb37LpTr65", "continuationToken": "Zx81kQw92mNb37LpTr65", "syncToken": "CPDAlvWDx70CEPDAlvWDx70CGAU="},
    ],
)  # fmt: skip
@pytest.mark.parametrize("size", [None, 1, 2, 3, 7])
def test_honest_answers_stay_as_they_are(value: Any, size: int | None) -> None:
    for text in (msgspec.json.encode(value).decode(), msgspec.json.format(msgspec.json.encode(value)).decode()):
        shown = out(text, size)
        if "![" in text and "vec" not in text:
            assert msgspec.json.decode(shown.replace("! [", "![")) == value
        else:
            assert shown == text


@pytest.mark.parametrize("size", [None, 1, 2, 3, 7])
def test_what_is_taken_out_of_a_string_ends_with_it(size: int | None) -> None:
    value = {
        "text": '{"password": "aB3$xyz99!kk"}', "api_key": "Zx81kQw92mNb37LpTr65", "note": f"key {KEY}", "image": "![x](//e.org/)",
        "link": f"[x](https://e.org/?q={'A1b2' * 60}", "pem": "-----BEGIN PRIVATE KEY-----\n" + "aB3dE5fG7h" * 20, "n": 1, "csrf_token": "Zx81kQw92mNb37LpTr65", "next_page_token": "ghp_aB3dE5fG7hJ9aB3dE5fG7hJ9aB3dE5fG7hJ9",
    }  # fmt: skip
    shown = msgspec.json.decode(out(msgspec.json.encode(value).decode(), size))
    assert shown == {
        "text": '{"password": "[secret removed]"}', "api_key": "[secret removed]", "note": "key ghp_[secret removed]", "image": "! [x](//e.org/)",
        "link": "[x](about:blank", "pem": "-----BEGIN PRIVATE KEY-----[secret removed]", "n": 1, "csrf_token": "[secret removed]", "next_page_token": "ghp_[secret removed]",
    }  # fmt: skip


def test_personal_data_is_taken_out_of_numbers_too() -> None:
    text = '{"mail":"ann@example.org","card":4111111111111111,"n":12}'
    assert (
        out(text, output="pii")
        == out(text, 1, output="pii")
        == '{"mail":"[e-mail address removed]","card":[card number removed],"n":12}'
    )


BROKEN = (
    "![a](//e.org/)", '{"a": ![a](//e.org/)}', '{"a": "x" ![a](//e.org/)}', '"\\x ![a](//e.org/)', '{"a": "line\n![a](//e.org/)"}', "```json\n{\"a\": \"![a](//e.org/)\"}",
    "Sure: ![a](//e.org/)", '"a"!"b"[c](//e.org)',
)  # fmt: skip


@pytest.mark.parametrize("text", BROKEN)
def test_what_is_no_json_is_guarded_too(text: str) -> None:
    for size in (None, 1, 2, 3, 7):
        assert "![a]" not in out(text, size)
        assert out(text, size) == out(text)
        assert out(text).replace("! [", "![") == text


@given(
    st.lists(st.sampled_from([*PIECES, "{", "}", ",", ":", "![a](", "//e", "token", "1", " "]), max_size=16),
    st.integers(0, 60),
)
def test_cuts_change_nothing_of_what_is_guarded(pieces: list[str], cut: int) -> None:
    text = "".join(pieces)
    if text:
        guard = Screener().guard(Screening(), "", structured=True)
        assert guard is not None
        assert guard.push(text[:cut]) + guard.push(text[cut:]) + guard.end() == out(text) == out(text, 1)
