"""Everything that is found in a text: secrets, then what identifies people, in one order."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator

from app.domain.screening import EntityKind, Found
from app.safety import contacts, identities
from app.safety.plain import Plain, plain
from app.safety.secrets import secrets
from app.safety.spans import Spans

WINDOW = 8_192
"""Characters between two moments in which the event loop goes on: half a millisecond. A thread would not be of use, since an
expression is matched under the interpreter's lock."""
REACH = 128
"""Characters by which a mark may stand before its entity (a long name, then the password) or after its beginning (an `@`)."""
ROW = 256
"""Characters of the longest row of digits that is read at once, and more."""
Entity = tuple[EntityKind, int, int]
_REST = re.compile(r"\w*+")
_SPACE = re.compile(r" ")
LONGEST = 24
"""Characters of the longest number that is no card."""
MOST_GROUPS = 4
"""Groups of digits before a number that are looked past."""
_NUMBER = re.compile(r"[+\d](?:(?:\) ?| \(| {1,2}|[.\-/(])?+\d){6,40}+")


async def find(text: str) -> list[Found]:
    """The entities of a text, in order. A long one is looked through window by window, with a turn for others in between."""
    copy = Plain(text)
    for _ in copy.look():
        await asyncio.sleep(0)
    spans = Spans()
    for start in range(0, len(copy.text), WINDOW):
        if start:
            await asyncio.sleep(0)
        look(copy.text, start, min(start + WINDOW, len(copy.text)), spans)
    return copy.own(spans.found)


def find_now(text: str) -> list[Found]:
    """The entities of a short text."""
    copy = plain(text)
    spans = Spans()
    look(copy.text, 0, len(copy.text), spans)
    return copy.own(spans.found)


def look(text: str, start: int, end: int, spans: Spans) -> None:
    """Add the entities that begin within text[start:end]. They may end beyond.

    Rules look for what gives an entity away, and that may stand before it or late in it. So each is asked for the marks of a wider
    piece, and of what it finds only that counts which begins here: windows find together what one of the whole text would.
    """
    first, last = max(0, start - REACH), min(len(text), end + REACH)
    for rank, found in enumerate(
        (
            (("SECRET", at, to) for at, to in secrets(text, first, last)),
            (("EMAIL", at, to) for at, to in contacts.emails(text, first, last)),
            (("IBAN", at, to) for at, to in identities.accounts(text, first, last)),
            contacts.machines(text, first, last),
            identities.lettered(text, _word(text, first, last), last),
            _numbers(text, _word(text, first, last), last),
        )
    ):
        for kind, at, to in found:
            if start <= at < end:
                spans.add(rank, kind, at, to)
    spans.settle()


def _word(text: str, first: int, last: int) -> int:
    """That place, or where the word ends in whose midst it is."""
    if not first or not (text[first - 1].isalnum() or text[first - 1] == "_"):
        return first
    rest = _REST.match(text, first, last)
    return first if rest is None else rest.end()


def _numbers(text: str, start: int, end: int) -> Iterator[Entity]:
    reach = min(len(text), end + ROW)
    matched = _NUMBER.search(text, start, reach)
    while matched is not None and matched.start() < end:
        at, to = matched.span()
        at -= text[max(0, at - 1) : at] == "(" and ")" in matched[0]
        if _apart(text[max(0, at - 1) : at], "_.") and _apart(text[to : to + 1], "_"):
            yield from _digits(text, at, to)
        matched = _NUMBER.search(text, to, reach)


def _apart(neighbour: str, joining: str) -> bool:
    return not neighbour or not (neighbour.isalnum() or neighbour in joining)


def _digits(text: str, at: int, to: int) -> Iterator[Entity]:
    """What the digits of one candidate are: a card among them, or some of its groups a number of some kind."""
    found = list(identities.cards(text, at, to)) if to - at >= 13 else []
    for first, last in found:
        yield "CARD", first, last
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
            if text[first] == " " or text[last - 1] == " ":
                continue
            kind = identities.number(text, first, last)
            if kind is None and contacts.phone(text, first, last, told=told):
                kind = "PHONE"
            if kind is not None:
                yield kind, first, last
                return
