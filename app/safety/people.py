"""Personal data in a text that grows, taken out before anybody sees it, however the text was cut."""

from __future__ import annotations

import re

from app.domain.screening import Found
from app.safety.entities import find_now

LOOK = 64
"""Characters before that are remembered: a word that says what a number is stands in them."""
BOUND = 320
"""Characters that are held back at most: no address or number is longer."""
_LAST = re.compile(r"\S*")
_NAMES = {
    "EMAIL": "e-mail address", "PHONE": "phone number", "CARD": "card number", "IBAN": "account number",
    "NATIONAL_ID": "id number", "TAX_ID": "tax number", "IP": "IP address", "MAC": "MAC address",
}  # fmt: skip


class People:
    """One text, looked at while it grows. The last word is held back, with the numbers before it that it may belong to.

    `acted`: something was taken out.
    """

    def __init__(self) -> None:
        self.acted = False
        self._before = ""
        self._held = ""

    @property
    def held(self) -> int:
        """Characters that are held back."""
        return len(self._held)

    def push(self, text: str) -> str:
        """What may be shown after that much more."""
        whole = self._held + text
        return self._shown(whole, _open(whole))

    def end(self) -> str:
        """The rest: the text is whole."""
        return self._shown(self._held, len(self._held))

    def _shown(self, whole: str, at: int) -> str:
        self._held = whole[at:]
        if not at:
            return ""
        window = self._before + whole
        base = len(self._before)
        end = base + at
        parts: list[str] = []
        last = base
        for one in _within(window, base, end):
            parts += (window[last : one.start], f"[{_NAMES[one.kind]} removed]")
            last = one.end
            self.acted = True
        parts.append(window[last:end])
        self._before = window[max(0, end - LOOK) : end]
        return "".join(parts)


def _open(whole: str) -> int:
    """Where the last word begins, or the numbers and capitals before it that it may belong to."""
    least = max(0, len(whole) - BOUND)
    at = len(whole) - len(_LAST.match(whole[::-1])[0])  # type: ignore[index]  # it matches nothing, too
    while at - 1 > least and whole[at - 1] == " ":
        gap = 2 if whole[at - 2] == " " else 1
        if at - gap <= least or not (whole[at - gap - 1] in "0123456789)" or whole[at - gap - 1].isupper()):
            break
        at = whole.rfind(" ", least, at - gap) + 1
    return max(at, least)


def _within(window: str, base: int, end: int) -> list[Found]:
    """The personal data of window[base:end]."""
    return [one for one in find_now(window[:end]) if one.start >= base and one.kind != "SECRET"]
