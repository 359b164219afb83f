"""Everything that is found in a text: secrets, then what identifies people, in one order."""

from __future__ import annotations

import asyncio
import re

from app.domain.screening import Found
from app.safety import contacts, identities
from app.safety.plain import Plain, plain
from app.safety.secrets import secrets
from app.safety.spans import Spans

WINDOW = 8_192
"""Characters between two moments in which the event loop goes on: half a millisecond. A thread would not be of use, since an
expression is matched under the interpreter's lock."""
_SPACE = re.compile(r" ")
LONGEST = 24
"""Characters of the longest number that is no card."""
MOST_GROUPS = 4
"""Groups of digits before a number that are looked past."""
_NUMBER = re.compile(r"[+\d](?:(?:\) ?| \(|[ .\-/(])?+\d){6,40}+")


async def find(text: str) -> list[Found]:
    """The entities of a text, in order. A long one is looked through window by window, with a turn for others in between."""
    copy = Plain(text)
    for _ in copy.look():
        await asyncio.sleep(0)
    found: list[Found] = []
    for start in range(0, len(copy.text), WINDOW):
        if start:
            await asyncio.sleep(0)
        end = min(start + WINDOW, len(copy.text))
        found += within(copy.text, start, end, after=found[-1].end if found else 0)
    return copy.own(found)


def find_now(text: str) -> list[Found]:
    """The entities of a short text."""
    copy = plain(text)
    return copy.own(within(copy.text, 0, len(copy.text)))


def within(text: str, start: int, end: int, *, after: int = 0) -> list[Found]:
    """The entities that begin within text[start:end], and not before `after`. They may end beyond."""
    spans = Spans()
    for at, to in secrets(text, start, end):
        spans.add("SECRET", at, to)
    for at, to in contacts.emails(text, start, end):
        spans.add("EMAIL", at, to)
    for at, to in identities.accounts(text, start, end):
        spans.add("IBAN", at, to)
    for one in (*contacts.machines(text, start, end), *identities.lettered(text, start, end)):
        spans.add(*one)
    _numbers(text, start, end, spans)
    return [one for one in spans.sorted() if one.start >= after]


def _numbers(text: str, start: int, end: int, spans: Spans) -> None:
    reach = min(len(text), end + 64)
    matched = _NUMBER.search(text, start, reach)
    while matched is not None and matched.start() < end:
        at, to = matched.span()
        at -= text[max(0, at - 1) : at] == "(" and ")" in matched[0]
        if _apart(text[max(0, at - 1) : at], "_.") and _apart(text[to : to + 1], "_"):
            _digits(text, at, to, spans)
        matched = _NUMBER.search(text, to, reach)


def _apart(neighbour: str, joining: str) -> bool:
    return not neighbour or not (neighbour.isalnum() or neighbour in joining)


def _digits(text: str, at: int, to: int, spans: Spans) -> None:
    """What the digits of one candidate are: a card among them, or some of its groups a number of some kind."""
    found = list(identities.cards(text, at, to)) if to - at >= 13 else []
    for first, last in found:
        spans.add("CARD", first, last)
    if found:
        return
    told = contacts.said(text, at)
    spaces = [match.start() for match in _SPACE.finditer(text, at, to)][: 2 * MOST_GROUPS]
    for first in (at, *(space + 1 for space in spaces[:MOST_GROUPS])):
        for last in (to, *reversed(spaces)):
            if last - first > LONGEST:
                continue
            if last - first < 8:
                break
            kind = identities.number(text, first, last)
            if kind is None and contacts.phone(text, first, last, told=told):
                kind = "PHONE"
            if kind is not None:
                spans.add(kind, first, last)
                return
