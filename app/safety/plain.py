"""A copy of a text as rules read it: without characters that nobody sees, with spaces, dashes, digits and letters of ASCII.

People paste card numbers with narrow spaces, pages hide soft hyphens in addresses, JSON writes `\\u0040`: rules are written once, for
plain text, and what they find is told in places of the text as it is.
"""

from __future__ import annotations

import re
import unicodedata
from bisect import bisect_right
from collections.abc import Iterator
from functools import lru_cache

from app.domain.screening import Found

LOOKED = 8_192
"""Characters between two moments in which others may go on."""
_ODD = re.compile(r"\\u[0-9A-Fa-f]{4}|[^\x00-\x7f]{1,256}+")
_MINUS = "\N{MINUS SIGN}"
_UNSEEN = "\N{COMBINING GRAPHEME JOINER}\N{VARIATION SELECTOR-15}\N{VARIATION SELECTOR-16}"


@lru_cache(maxsize=4_096)
def read(character: str) -> str:
    """That character as rules read it: one of ASCII, several, or none; itself where it has no such form."""
    category = unicodedata.category(character)
    if category == "Cf" or character in _UNSEEN:
        return ""
    if category == "Zs":
        return " "
    if category == "Pd" or character == _MINUS:
        return "-"
    if category == "Nd":
        return str(unicodedata.decimal(character))
    form = unicodedata.normalize("NFKC", character)
    return form if form.isascii() else character


class Plain:
    """A text and its copy. `text` is whole after `look` has ended."""

    def __init__(self, text: str) -> None:
        self.text = text
        self._own = text
        self._at: list[int] = []
        self._to: list[int] = []
        self._own_at: list[int] = []
        self._own_to: list[int] = []

    def look(self) -> Iterator[None]:
        """Make the copy. Stops now and then."""
        if self._own.isascii() and "\\u" not in self._own:
            return
        parts: list[str] = []
        last = length = looked = 0
        for match in _ODD.finditer(self._own):
            if match.start() - looked >= LOOKED:
                looked = match.start()
                yield
            for start, end, form in _forms(match):
                parts += (self._own[last:start], form)
                length += start - last
                self._at.append(length)
                length += len(form)
                self._to.append(length)
                self._own_at.append(start)
                self._own_to.append(end)
                last = end
        if parts:
            self.text = "".join((*parts, self._own[last:]))

    def own(self, found: list[Found]) -> list[Found]:
        """Entities of the copy as they stand in the text."""
        if not self._at:
            return found
        return [Found(one.kind, self._place(one.start)[0], self._place(one.end - 1)[1]) for one in found]

    def _place(self, at: int) -> tuple[int, int]:
        n = bisect_right(self._at, at) - 1
        if n < 0:
            return at, at + 1
        if at < self._to[n]:
            return self._own_at[n], self._own_to[n]
        own = self._own_to[n] + at - self._to[n]
        return own, own + 1


def plain(text: str) -> Plain:
    """The copy of a short text."""
    copy = Plain(text)
    for _ in copy.look():
        pass
    return copy


def _forms(match: re.Match[str]) -> Iterator[tuple[int, int, str]]:
    """What is read differently there: from, to, and how."""
    if match[0][0] == "\\":
        character = chr(int(match[0][2:], 16))
        if not "\ud800" <= character <= "\udfff":
            yield match.start(), match.end(), read(character)
        return
    for at, character in enumerate(match[0], match.start()):
        form = read(character)
        if form != character:
            yield at, at + 1, form
