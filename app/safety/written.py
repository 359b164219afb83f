"""JSON as it is written: escapes that need not be are taken out of a text that grows, so that what guards it sees its characters."""

from __future__ import annotations

import re

_H = "[0-9a-fA-F]"
_HIGH, _LOW = rf"\\u[dD][89abAB]{_H}{_H}", rf"\\u[dD][c-fC-F]{_H}{_H}"
_ESCAPE = re.compile(rf"(?P<pair>{_HIGH}{_LOW})|\\u(?P<code>{_H}{{4}})|\\.", re.DOTALL)
_OPEN = re.compile(rf"(?:\\(?:u{_H}{{0,3}})?|{_HIGH}(?:\\(?:u(?:[dD](?:[c-fC-F]{_H}?)?)?)?)?)\Z")
"""An escape that more characters may belong to: twelve at most, those of a pair of surrogates."""
_SHORT = {0x0A: "\\n", 0x0D: "\\r", 0x09: "\\t", 0x22: '\\"', 0x5C: "\\\\"}
_SPACE = 0x20
"""What is below it is written with an escape (RFC 8259 §7)."""


class Plain:
    """One JSON text, made plain while it grows: what it says is the same. An escape that is not whole is held back."""

    def __init__(self) -> None:
        self._held = ""

    def push(self, text: str) -> str:
        """What is known after that much more."""
        if not self._held and "\\" not in text:
            return text
        whole = self._held + text
        self._held = ""
        parts: list[str] = []
        last = 0
        at = whole.find("\\")
        while at >= 0:
            escape = None if _OPEN.match(whole, at) else _ESCAPE.match(whole, at)
            if escape is None:
                self._held = whole[at:]
                return "".join((*parts, whole[last:at]))
            parts += (whole[last:at], _character(escape))
            last = escape.end()
            at = whole.find("\\", last)
        return "".join((*parts, whole[last:]))

    def end(self) -> str:
        """The rest: the text is whole."""
        rest, self._held = self._held, ""
        return rest


def _character(escape: re.Match[str]) -> str:
    if escape["pair"] is not None:
        high, low = int(escape[0][2:6], 16), int(escape[0][8:12], 16)
        return chr(0x10000 + ((high - 0xD800) << 10) + low - 0xDC00)
    if escape["code"] is None:
        return "/" if escape[0] == "\\/" else escape[0]
    code = int(escape["code"], 16)
    if code in _SHORT:
        return _SHORT[code]
    return escape[0] if code < _SPACE or 0xD800 <= code < 0xE000 else chr(code)
