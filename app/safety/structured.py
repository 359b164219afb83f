"""An answer in JSON, of which every string is looked at as it reads, while it grows. So what is taken out of one ends with it.

Strings are written again with as few escapes as JSON needs. What stands between two of them is one text, too. As soon as it has what
JSON does not have there, this is none, and the rest belongs to that text.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Protocol

_BETWEEN = re.compile(r"[\s{}\[\],:0-9+.\-eEtrufalsn]*+")
_PLAIN = re.compile(r"[^\"\\\x00-\x1f]*+")
_H = "[0-9a-fA-F]"
_ESCAPE = re.compile(
    rf"\\u(?P<high>[dD][89abAB]{_H}{_H})\\u(?P<low>[dD][c-fC-F]{_H}{_H})|\\u(?P<code>{_H}{{4}})|\\(?P<short>[\"\\/bfnrt])"
)
_OPEN = re.compile(rf"\\(?:u{_H}{{0,3}})?\Z|\\u[dD][89abAB]{_H}{_H}(?:\\(?:u(?:[dD](?:[c-fC-F]{_H}?)?)?)?)?\Z")
"""An escape that more characters may belong to."""
_SHORT = {'"': '"', "\\": "\\", "/": "/", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}
_WRITTEN = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t"}
_NEEDED = re.compile(r"[\"\\\x00-\x1f\ud800-\udfff]")
_NAME = 40
"""Characters of a member's name that are remembered."""


class Text(Protocol):
    """One text, looked at while it grows."""

    def push(self, text: str) -> str:
        """What may be shown after that much more."""
        ...

    def end(self) -> str:
        """The rest: the text is whole."""
        ...


class Structured:
    """One JSON text. `begin`: what looks at a string, by the name of its member, and at what is between strings (no name)."""

    def __init__(self, begin: Callable[[str], Text]) -> None:
        self._begin = begin
        self._held = ""
        self._text = begin("")
        self._string = self._prose = False
        self._name = ""
        self._last = ""

    def push(self, text: str) -> str:
        """What may be shown after that much more. An escape that is not whole is held back, too."""
        text = self._held + text
        self._held = ""
        shown: list[str] = []
        at = 0
        while at < len(text):
            if self._prose:
                shown.append(self._text.push(text[at:]))
                break
            at = self._within(text, at, shown) if self._string else self._between(text, at, shown)
            if self._held:
                break
        return "".join(shown)

    def end(self) -> str:
        """The rest: the text is whole."""
        rest, self._held = self._held, ""
        last = self._text.end()
        return (_written(last) if self._string else last) + rest

    def _between(self, text: str, at: int, shown: list[str]) -> int:
        match = _BETWEEN.match(text, at)
        assert match is not None
        self._named(match[0])
        shown.append(self._text.push(match[0]))
        to = match.end()
        if to == len(text):
            return to
        if text[to] != '"':
            self._prose = True
            return to
        shown += (self._text.end(), '"')
        self._text = self._begin(self._name)
        self._string = True
        self._last = ""
        return to + 1

    def _named(self, between: str) -> None:
        for mark in between:
            if mark == ":":
                self._name = self._last
            elif mark in "{},]":
                self._name = self._last = ""

    def _within(self, text: str, at: int, shown: list[str]) -> int:
        plain = _PLAIN.match(text, at)
        assert plain is not None
        to = plain.end()
        if to > at:
            self._say(plain[0], shown)
        if to == len(text):
            return to
        if text[to] != '"' and _OPEN.match(text, to) is not None:
            self._held = text[to:]
            return to
        escape = _ESCAPE.match(text, to)
        if escape is not None:
            self._say(_character(escape), shown)
            return escape.end()
        shown.append(_written(self._text.end()))
        self._text = self._begin("")
        self._string = False
        self._prose = text[to] != '"'
        if self._prose:
            return to
        shown.append('"')
        return to + 1

    def _say(self, text: str, shown: list[str]) -> None:
        self._last = (self._last + text)[-_NAME:]
        shown.append(_written(self._text.push(text)))


def _character(escape: re.Match[str]) -> str:
    if escape["high"] is not None:
        return chr(0x10000 + ((int(escape["high"], 16) - 0xD800) << 10) + int(escape["low"], 16) - 0xDC00)
    return chr(int(escape["code"], 16)) if escape["code"] is not None else _SHORT[escape["short"]]


def _written(text: str) -> str:
    """That as it stands in a string of JSON."""
    return _NEEDED.sub(lambda match: _WRITTEN.get(match[0]) or f"\\u{ord(match[0]):04x}", text)
