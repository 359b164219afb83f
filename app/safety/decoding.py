"""The texts that a text may hide: in look-alike, unseen or spread letters, backwards, or in an encoding. Bounded in number and length."""

from __future__ import annotations

import base64
import binascii
import codecs
import re
import unicodedata
from collections.abc import Callable, Iterator
from urllib.parse import unquote

MOST_RUNS = 12
"""Encoded runs that are tried, of each kind."""
LONGEST_RUN = 4_000
"""Characters that are decoded of one run, and read again of the text as a whole."""

_LOOKS = str.maketrans("авсеһіјкмнорѕтухуԛԝαβεικνορτυχωԁɡⅼոցօ", "abcehijkmhopstyxyqwabeiknoptuxwdglngo")
_LEET = str.maketrans("0134578@$", "oieastbas")
_UNSEEN = re.compile(
    "[\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufe00-\ufe0f\ufeff\U000e0000-\U000e0fff]"
)
_TAGS = re.compile("[\U000e0020-\U000e007e]{4,}")
_SELECTORS = re.compile("[\ufe00-\ufe0f\U000e0100-\U000e01ef]{8,}")
_BITS = re.compile("[\u200b\u200c\u200d\u2060\ufeff]{32,}")
_SPACED = re.compile(r"\b(?:\w[ .\-_*]){4,}\w\b")
_RUNS: tuple[tuple[re.Pattern[str], Callable[[str], bytes]], ...] = (
    (re.compile(r"(?:[0-9a-fA-F]{2}[ :]?){16,}"), lambda run: bytes.fromhex(re.sub(r"[^0-9a-fA-F]", "", run))),
    (re.compile(r"(?:[01]{8}\s?){4,}"), lambda run: bytes(int(byte, 2) for byte in re.findall("[01]{8}", run))),
    (
        re.compile(r"[A-Z2-7]{24,}={0,6}"),
        lambda run: base64.b32decode(run.rstrip("=") + "=" * (-len(run.rstrip("=")) % 8)),
    ),
    (re.compile(r"[A-Za-z0-9+/_-]{16,}={0,2}"), lambda run: _base64(run)),
    (
        re.compile(r"(?:\\u[0-9a-fA-F]{4}|\\x[0-9a-fA-F]{2}){6,}"),
        lambda run: run.encode().decode("unicode_escape").encode(),
    ),
    (
        re.compile(r"(?:&#x?[0-9a-fA-F]{2,5};){6,}"),
        lambda run: "".join(_entity(e) for e in re.findall(r"&#(x?[0-9a-fA-F]+);", run)).encode(),
    ),
    (re.compile(r"(?:[.\-]{1,5}[ /]+){12,}[.\-]{1,5}"), lambda run: _morse(run).encode()),
)
_MORSE = dict(
    zip(
        [".-", "-...", "-.-.", "-..", ".", "..-.", "--.", "....", "..", ".---", "-.-", ".-..", "--", "-.", "---", ".--.", "--.-", ".-.", "...", "-", "..-", "...-", ".--", "-..-", "-.--", "--.."],
        "abcdefghijklmnopqrstuvwxyz",
        strict=True,
    )
)  # fmt: skip


def normalised(text: str) -> str:
    """The text in plain small letters: no accents, no unseen characters, no look-alikes, single spaces (line breaks stay)."""
    if not text.isascii():
        text = unicodedata.normalize("NFKD", _UNSEEN.sub("", text))
        text = "".join(char for char in text if not unicodedata.combining(char)) if not text.isascii() else text
        text = text.casefold().translate(_LOOKS).replace("’", "'")
    return re.sub(r"[^\S\n]+", " ", text.lower())


def hidden(text: str) -> Iterator[str]:
    """What stands in it in characters that no reader sees."""
    if text.isascii():
        return
    for run in _TAGS.findall(text)[:MOST_RUNS]:
        yield "".join(chr(ord(char) - 0xE0000) for char in run[:LONGEST_RUN])
    for run in _SELECTORS.findall(text)[:MOST_RUNS]:
        codes = [ord(char) - (0xFE00 if ord(char) < 0xE0000 else 0xE0100 - 16) for char in run[:LONGEST_RUN]]
        yield bytes(code & 0xFF for code in codes).decode("utf-8", "replace")
    for run in _BITS.findall(text)[:MOST_RUNS]:
        kinds = sorted(set(run))
        for one in kinds[:2]:
            bits = "".join("1" if char == one else "0" for char in run[:LONGEST_RUN])
            yield bytes(int(bits[at : at + 8], 2) for at in range(0, len(bits) - 7, 8)).decode("utf-8", "replace")


def decoded(text: str) -> Iterator[str]:
    """What it may say once it is decoded: every encoded run, and the text as a whole in the ways that leave letters letters."""
    for pattern, decode in _RUNS:
        for n, match in enumerate(pattern.finditer(text)):
            if n == MOST_RUNS:
                break
            if (inner := _readable(match[0][:LONGEST_RUN], decode)) is not None:
                yield inner
                yield from _again(inner)
    if "%" in text and (plain := unquote(text[: 2 * LONGEST_RUN])) != text[: 2 * LONGEST_RUN]:
        yield plain
    for part in (text,) if len(text) <= LONGEST_RUN else (text[: LONGEST_RUN // 2], text[-LONGEST_RUN // 2 :]):
        yield codecs.encode(part, "rot13")
        yield part[::-1]
        if sum(char.isdigit() for char in part) * 12 > len(part):
            yield normalised(part).translate(_LEET)
        if (joined := _SPACED.sub(lambda found: re.sub(r"[ .\-_*]", "", found[0]), part)) != part:
            yield joined


def _again(text: str) -> Iterator[str]:
    """One layer more of the commonest encoding."""
    match = _RUNS[3][0].search(text)
    if match is not None and (inner := _readable(match[0], _base64)) is not None:
        yield inner


def _readable(run: str, decode: Callable[[str], bytes]) -> str | None:
    """What the run says; None where that is no text."""
    try:
        text = decode(run).decode("utf-8")
    except (ValueError, binascii.Error, OverflowError):
        return None
    printable = sum(char.isprintable() or char.isspace() for char in text)
    return text if len(text) >= 6 and printable >= 0.95 * len(text) else None


def _base64(run: str) -> bytes:
    """Also where the run was cut off."""
    run = run.rstrip("=").replace("-", "+").replace("_", "/")
    data = base64.b64decode(run[: len(run) - (len(run) % 4 == 1)] + "=" * (-len(run) % 4 % 3))
    return data.decode("utf-8", "ignore").encode() if len(run) % 4 else data


def _entity(code: str) -> str:
    return chr(int(code[1:], 16) if code.startswith("x") else int(code))


def _morse(run: str) -> str:
    return " ".join("".join(_MORSE.get(letter, "") for letter in word.split()) for word in run.split("/"))
