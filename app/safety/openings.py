"""Where credentials begin in a text that grows, by the same table as those of whole texts (`app.safety.credentials`, `.secrets`)."""

from __future__ import annotations

import re
from collections.abc import Sequence

from app.safety.credentials import ALPHANUMERIC, BARE, LONGEST_NAME, RULE
from app.safety.secrets import CREDENTIALS, NO_PLACE, PLACES, authorizes

GAP = 16
"""Characters that may stand between the mark of an assignment and its body."""
NEAR = 40
"""Characters before a body in which the words begin that tell of it."""
_BY_END = tuple(literal for literal in BARE if literal[-1] == "/")
_WHOLE = sorted((literal for literal in BARE if literal[-1] not in "./"), key=len, reverse=True)
"""Literals that are marks as they are; of the others the last character is one."""
MARK = re.compile("|".join(map(re.escape, (*_WHOLE, *"-_./(=:|>"))))
"""What a beginning has, of a credential or an address."""
_PEM = re.compile(r"-----BEGIN (?:[A-Z0-9]{1,12} ){0,3}PRIVATE KEY(?: BLOCK)?-----\Z")
_AFTER = re.compile(r">?[*_]{0,2}+\s{0,3}+[*\\]{0,4}+[\"'`]?")
_BLANK = re.compile(r"\s{1,2}+")
_BEFORE_VALUE = re.compile(r"[ \t]{1,3}+[\"']?")
_PASS = re.compile(r"(?i)(?<![A-Za-z])pass\s?\Z")
_USER = re.compile(r"(?<!\S)(?:-u|--user)[ =][\"']?[^\s:\"'@/]{1,40}\Z")
_WORD = re.compile(rf"(?i)\b(?P<said>is|was)(?=\s)|\b(?P<bearer>bearer|basic|token)(?=\s)|--[a-z-]{{0,16}}?(?P<option>{'|'.join(map(re.escape, CREDENTIALS))}){NO_PLACE}(?=[ \t])")  # fmt: skip

Opening = tuple[str, int, int]
"""What kind of body follows; where what is known to everybody begins, and where the body does."""


def opening(window: str, at: int, mark: str) -> Opening | None:
    """That of a credential whose mark stands there."""
    rule = BARE.get(mark)
    if rule is not None and rule.start(window, at) is not None:
        return "key", at, at + len(mark)
    mark = mark[0]
    if mark == "-" and window[max(0, at - 4) : at + 1] == "-----":
        block = _PEM.search(window[max(0, at - 72) : at + 1])
        return None if block is None else ("pem", at + 1 - len(block[0]), at + 1)
    if mark in "-_.":
        before = window[max(0, at - LONGEST_NAME) : at]
        start = at - (len(before) - len(before.rstrip(ALPHANUMERIC)))
        known = RULE.get(window[start : at + 1])
        return None if known is None or known.start(window, start) is None else ("key", start, at + 1)
    if mark == "/":
        for literal in _BY_END:
            if window.endswith(literal, 0, at + 1):
                return "key", at + 1 - len(literal), at + 1
        return None
    named = _named(window, at) if mark in "=:|>" else None
    return None if named is None else ("value", named, _end(_AFTER, window, at + 1))


def spoken(window: str, base: int) -> Sequence[Opening]:
    """Those of credentials after words, whose body begins in window[base:], or will."""
    near = max(0, base - GAP)
    find = window.find
    far = find("--", max(0, base - NEAR))
    if (
        far < 0
        and find("is", near) < 0
        and find("was", near) < 0
        and find("earer", near) < 0
        and find("asic", near) < 0
    ):
        return () if find("oken", near) < 0 else _spoken(window, near, base)
    return _spoken(window, near if far < 0 else min(near, far), base)


def _spoken(window: str, near: int, base: int) -> list[Opening]:
    found: list[Opening] = []
    for word in _WORD.finditer(window, near):
        start, end = word.span()
        if word["said"]:
            if (named := _named(window, start)) is not None:
                found.append(("value", named, _end(_AFTER, window, end)))
        elif word["option"]:
            found.append(("value", start, _end(_BEFORE_VALUE, window, end)))
        elif word["bearer"][0] not in "tT" or authorizes(window, start):
            found.append(("bearer", start, _end(_BLANK, window, end)))
    return [one for one in found if one[2] >= base]


def _named(window: str, at: int) -> int | None:
    """Where the name of a credential begins that something is assigned to there."""
    before = window[max(0, at - NEAR) : at].rstrip(" \t\n:-")
    name = before.rstrip("]\"'\\*_`")[-20:].lower()
    if name.endswith(CREDENTIALS) and not name.endswith(PLACES):
        return at - 20
    if window[at] == "=" and _PASS.search(before):
        return at - 4
    option = window[max(0, at - 52) : at] if window[at] == ":" else ""
    return at - 1 if "-u" in option and _USER.search(option) else None


def _end(after: re.Pattern[str], window: str, at: int) -> int:
    matched = after.match(window, at)
    return at if matched is None else matched.end()
