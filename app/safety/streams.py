"""Secrets, and links that carry something away, in a text that grows, taken out before anybody sees them, however the text was cut.

A credential has a beginning that everybody knows (`ghp_`, `password=`, `://user:`): that is shown. What comes after it is held back
until it is known to be whole, and then shown or not. Text without such a beginning is never held back.

Every body is judged once, by at most its bound of characters. So a text takes the time of its length, whatever is in it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from app.domain.screening import GuardKind
from app.safety.beginnings import (
    BACK,
    BLANKS,
    BOUNDS,
    LEADING,
    LOOK,
    REST,
    TAIL,
    Begin,
    begins,
    body_end,
    dropped,
    more,
)
from app.safety.credentials import PEM, RULE, random
from app.safety.links import carries, leads_out
from app.safety.secrets import LOGIN, assigned, public

REMOVED = "[secret removed]"
NOWHERE = "about:blank"
LINK = "[link removed]"
NESTED = 16
"""Beginnings within one another that are judged; those after them are taken out: nobody writes that for a reader."""


class Stream:
    """One text, looked at while it grows. `hosts`: where links may lead. `acted`: what was taken out of it."""

    def __init__(self, hosts: Sequence[str]) -> None:
        self.acted: set[GuardKind] = set()
        self._hosts = hosts
        self._before: list[str] = []
        self._start = 0  # where what is remembered begins in the text
        self._tail = ""
        self._held = ""
        self._open: str | None = None
        self._more: re.Pattern[str] | None = None
        self._dropping: str | None = None
        self._dropped: re.Pattern[str] | None = None
        self._reach = 0
        self._nested = 0

    def push(self, text: str) -> str:
        """What may be shown after that much more."""
        near = self._tail + text
        base = len(self._tail)
        self._tail = near[-TAIL:]
        if self._open is not None and self._goes_on(text):
            self._held += text
            return ""
        if self._held or self._dropping is not None or begins(near, base):
            return self._look(text, final=False)
        self._before.append(text)
        return text

    def end(self) -> str:
        """The rest: the text is whole."""
        return self._look("", final=True)

    def _goes_on(self, text: str) -> bool:
        """Whether what is held back only becomes longer by that, and not too long."""
        assert self._open is not None
        if len(self._held) + len(text) >= BOUNDS[self._open]:
            return False
        if self._more is None:
            return text.isspace()
        last = self._held[-2 * BACK :]
        whole = last + text
        went = self._more.match(whole, max(0, len(last) - BACK))
        return went is not None and went.end() == len(whole)

    def _look(self, text: str, *, final: bool) -> str:
        if self._dropping is not None:
            to = self._drop(text, 0)
            self._before.append(text[:to])
            if to == len(text) and not final:
                return ""
            text = text[to:]
            self._dropping = None
        before = "".join(self._before)
        window = before + self._held + text
        shown, hold = self._walked(window, len(before), final=final)
        kept = max(0, hold - LOOK)
        self._start += kept
        self._before = [window[kept:hold]]
        self._held = window[hold:]
        return shown

    def _drop(self, window: str, at: int) -> int:
        """Where the rest of what is taken out ends."""
        assert self._dropping is not None
        if self._dropped is None:
            lead = BLANKS.match(window, at)
            assert lead is not None
            at = lead.end()
            if at == len(window):
                return at
            self._dropped = REST[self._dropping]
            at += window[at] == "<"
        rest = self._dropped.match(window, at)
        assert rest is not None
        return rest.end()

    def _walked(self, window: str, base: int, *, final: bool) -> tuple[str, int]:
        """What may be shown of window[base:], and from where on it is held back."""
        shown: list[str] = []
        self._open = None
        at = base
        for begin in begins(window, base):
            first = begin.first
            if first < at:
                continue
            end = body_end(window, begin)
            if end == first:
                continue
            bound = first + BOUNDS[begin.kind] - BACK
            to = min(end, bound)
            if end == len(window) < bound + BACK and not final:
                self._open = begin.kind
                self._more = more(begin.kind, window[first:])
                shown.append(window[at:first])
                return "".join(shown), first
            self._nested = self._nested + 1 if self._start + first < self._reach else 0
            self._reach = max(self._reach, self._start + to)
            taken = self._judged(begin, window, to)
            if taken is not None:
                guard, last, instead = taken
                self.acted.add(guard)
                shown += (window[at:first], instead)
                at = last
                if last == bound:
                    self._dropping, self._dropped = begin.kind, dropped(begin.kind, window[first:to])
                    at = self._drop(window, last)
                    if at < len(window):
                        self._dropping = None
        shown.append(window[at:])
        return "".join(shown), len(window)

    def _judged(self, begin: Begin, window: str, to: int) -> tuple[GuardKind, int, str] | None:
        """What is taken out after that beginning, up to where, and what stands there instead. None: nothing is."""
        kind, first = begin.kind, begin.first
        body = window[first:to]
        if self._nested > NESTED:
            link = kind in ("url", "destination")
            return ("link", to, LINK) if link else ("secret", to, REMOVED)
        if kind == "key":
            rule = RULE[window[begin.start : first]]
            key = rule.form.match(window, begin.start, to + 1)
            good = key is not None and (rule.check is None or rule.check(key[0]))
            return ("secret", min(key.end(), to), REMOVED) if key is not None and good else None
        if kind == "pem":
            block = PEM.form.match(window, begin.start, to)
            return None if block is None else ("secret", block.end(), REMOVED)
        if kind in ("value", "bearer"):
            good = assigned(body) if kind == "value" else len(body) >= 20 and random(body)
            return ("secret", first + len(body.rstrip(".!?")), REMOVED) if good else None
        if kind == "url":
            return self._url(window, begin, body)
        return self._address(begin, body)

    def _url(self, window: str, begin: Begin, body: str) -> tuple[GuardKind, int, str] | None:
        first = begin.first
        login = LOGIN.match(window, first, first + len(body) + 1) if window[first - 1] == "/" else None
        if login is not None and not public(login["value"]):
            return "secret", login.end("value"), f"{window[first : login.start('value')]}{REMOVED}"
        body = body.partition("](")[0].rstrip("\\")  # in JSON that belongs to a quote
        said = body.rstrip(").,;:!?'*_]}")
        return ("link", first + len(said), LINK) if carries(f"https://{said.lstrip('/')}", self._hosts) else None

    def _address(self, begin: Begin, body: str) -> tuple[GuardKind, int, str] | None:
        """Of a link, in its place or in a definition. Where it is longer than its bound, also with white space, it is taken out as it is."""
        lead = LEADING.match(body)
        assert lead is not None
        long = len(body) >= BOUNDS[begin.kind] - BACK
        bad = long or leads_out(body[lead.end() :], self._hosts)
        last = len(body) if long else len(body.rstrip("\\"))
        return ("link", begin.first + last, f"{lead[0]}{NOWHERE}") if bad else None
