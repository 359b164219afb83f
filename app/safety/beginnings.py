"""Where credentials, addresses and attributes begin in a text, and what belongs to them: one list of marks, one expression each.

No expression can go back over what it has read, and none looks back further than `LOOK`.
"""

from __future__ import annotations

import re

import msgspec

from app.safety.credentials import ALPHANUMERIC
from app.safety.openings import GAP, MARK, opening, spoken

BOUNDS = {
    "pem": 8_192,
    "key": 4_096,
    "value": 512,
    "bearer": 4_096,
    "url": 2_048,
    "destination": 2_048,
}
"""Characters that are held back at most, by what has begun: a private key of RSA has half of that. What is longer is judged by so much."""
TAIL = 80
"""Characters that the longest beginning has."""
LOOK = 96
"""Characters before that are remembered."""
TOKEN = frozenset(f"{ALPHANUMERIC}_-")
BACK = 4
"""Characters that what follows may still show to be no part of a body."""
_STAND_IN = "|".join((r"<(?=\Z|[A-Z])", *(rf"(?<=_{'[0-9]' * digits})>" for digits in range(1, 7))))
"""The ends of a placeholder: what stands in its place counts."""
_SPACE = r"(?:[\s>]|\\[nrt]|\\(?=[\"'\\\s]|\Z))*+"
"""White space, also as it is written in JSON, and within a quotation."""
_MORE = {
    "key": re.compile(r"[A-Za-z0-9_.+/=-]*+"),
    "pem": re.compile(r"(?:[A-Za-z0-9+/=\s\\:,;>|\"'#*]|-(?!----))*+"),
    "url": re.compile(rf"(?:[^\s<>\"`()]|{_STAND_IN})*+"),
    "destination": re.compile(rf"(?:[^\s<>()]|{_STAND_IN})*+"),
    "bearer": re.compile(r"[A-Za-z0-9._~+/=-]*+"),
    "value": re.compile(r"[^\s\"'`,;<>(){}\[\]\\]*+"),
}
"""What goes on with a body of which more than white space is there."""
_BODY = _MORE | {"url": re.compile(rf"(?:[^\s<>\"`]|{_STAND_IN})*+")}
REST = _MORE | {
    "pem": re.compile(r"[A-Za-z0-9+/=\s\\:,;>|\"'#*-]*+"),
    "url": re.compile(r"[^\s>\"`]*+"),
    "destination": re.compile(r"[^\s>)]*+"),
}
"""What is left out after a body that is longer than its bound: of single characters, so that cuts change nothing."""
_INSIDE = re.compile(r"\]\(<?[A-Za-z+.-]*:?\Z")
"""What stands before the slashes of an address in parentheses."""
BLANKS = re.compile(r"[\s\\>]*+")
LEADING = re.compile(rf"{_SPACE}<?{_SPACE}")
"""What stands before an address in a body."""


class Begin(msgspec.Struct, frozen=True):
    """A beginning that everybody knows: from `start` to before `first`, where the body begins."""

    kind: str
    start: int
    first: int


def body_end(window: str, begin: Begin) -> int:
    """Where what belongs to that beginning ends, at its bound at most. An address in parentheses ends with them, and may have some of its own.

    Nothing after that end is read, nor after the bound.
    """
    kind, first = begin.kind, begin.first
    limit = first + BOUNDS[kind]
    if kind == "destination":
        return _closed(window, _end(LEADING, window, first, limit), limit, kind)
    if kind == "url" and _INSIDE.search(window, max(0, begin.start - 24), begin.start):
        return _closed(window, first, limit, kind)
    return _end(_BODY[kind], window, first, limit)


def _closed(window: str, at: int, limit: int, kind: str) -> int:
    depth = 0
    while True:
        at = _end(_MORE[kind], window, at, limit)
        if at == limit or window[at : at + 1] not in ("(", ")"):
            return at
        depth += 1 if window[at] == "(" else -1
        if depth < 0:
            return at
        at += 1


def _end(expression: re.Pattern[str], window: str, at: int, limit: int) -> int:
    matched = expression.match(window, at, limit)
    assert matched is not None
    return matched.end()


def more(kind: str, body: str) -> re.Pattern[str] | None:
    """What goes on with a body that began so. None: there is only white space yet, and that depends on what comes."""
    if kind != "destination":
        return _MORE[kind]
    lead = LEADING.match(body)
    assert lead is not None
    return None if lead.end() == len(body) else _MORE[kind]


def dropped(kind: str, body: str) -> re.Pattern[str] | None:
    """What is left out after a body that began so. None: white space, and then what `REST` says."""
    return None if more(kind, body) is None else REST[kind]


def begins(window: str, base: int) -> list[Begin]:
    """Every beginning whose body begins in window[base:], or will, in order."""
    near = max(0, base - GAP)
    found: list[Begin] = []
    mark = MARK.search(window, near)
    while mark is not None:
        at = mark.start()
        begin = _marked(window, at, mark[0])
        if begin is not None and begin.first >= base:
            found.append(begin)
        mark = MARK.search(window, at + 1)
    said = spoken(window, base)
    return sorted((*found, *(Begin(*one) for one in said)), key=_place) if said else found


def _place(begin: Begin) -> int:
    return begin.first


def _marked(window: str, at: int, mark: str) -> Begin | None:
    """The beginning whose last mark stands there."""
    if mark == "/" and window[max(0, at - 2) : at] == ":/":
        return Begin("url", at - 1, at + 1)
    if mark == "." and window[max(0, at - 3) : at].lower() == "www" and window[max(0, at - 4) : at - 3] not in TOKEN:
        return Begin("url", at - 3, at + 1)
    if mark[0] in ":(" and at and window[at - 1] == "]":
        return Begin("destination", at - 1, at + 1)
    known = opening(window, at, mark)
    return None if known is None else Begin(*known)
