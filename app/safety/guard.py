"""What looks at an answer on its way out, in the order of the policy."""

from __future__ import annotations

import re
from functools import lru_cache

from app.domain.screening import Found, GuardKind, OutputGuard, Screening
from app.safety import entities
from app.safety.leaks import Instructions, Leaks
from app.safety.people import People
from app.safety.rendering import Rendering
from app.safety.streams import Stream
from app.safety.structured import Structured, Text

KEPT = 256
"""Instructions whose places are kept ready."""


_PRIMES = re.compile(r"[A-Za-z0-9_-]{1,40}\Z")


class Clean:
    """One text without secrets, links that carry something away, and what is fetched by being shown. `acted`: gets what was taken out.

    `name`: what it is said to be.
    """

    def __init__(self, policy: Screening, acted: set[GuardKind], name: str = "") -> None:
        self._acted = acted
        self._stream = Stream(policy.link_hosts)
        primed = _PRIMES.search(name)
        if primed is not None and self._stream.push(f"{primed[0]}: ") != f"{primed[0]}: ":
            self._stream = Stream(policy.link_hosts)
        self._people = People() if policy.output == "pii" else None
        self._rendering = Rendering(policy.link_hosts)

    def push(self, text: str) -> str:
        """What may be shown after that much more."""
        text = self._stream.push(text)
        if self._people is not None and text:
            text = self._people.push(text)
        return self._said(self._rendering.push(text)) if text else text

    def end(self) -> str:
        """The rest: the text is whole."""
        text = self._stream.end()
        if self._people is not None:
            text = self._people.push(text) + self._people.end()
        return self._said(self._rendering.push(text) + self._rendering.end())

    def _said(self, text: str) -> str:
        self._acted |= self._stream.acted
        if self._people is not None and self._people.acted:
            self._acted.add("pii")
        if self._rendering.acted:
            self._acted.add("link")
        return text


class Guard:
    """One text of one agent, looked at while it grows. `acted`: what was taken out of it so far. `structured`: it is JSON."""

    def __init__(self, policy: Screening, instructions: Instructions, *, structured: bool = False) -> None:
        self.acted: set[GuardKind] = set()
        self._leaks = Leaks(instructions) if instructions.enough else None
        self._clean: Text = (
            Structured(lambda name: Clean(policy, self.acted, name)) if structured else Clean(policy, self.acted)
        )

    def push(self, text: str) -> str:
        """What may be shown after that much more."""
        if self._leaks is not None:
            text = self._leaked(self._leaks.push(text), self._leaks)
        return self._clean.push(text) if text else text

    def end(self) -> str:
        """The rest: the text is whole."""
        text = "" if self._leaks is None else self._leaked(self._leaks.end(), self._leaks)
        return self._clean.push(text) + self._clean.end()

    def _leaked(self, text: str, leaks: Leaks) -> str:
        if leaks.acted:
            self.acted.add("prompt")
        return text


class Screener:
    """Finds and guards for a process."""

    def __init__(self) -> None:
        self._instructions = lru_cache(maxsize=KEPT)(Instructions)

    async def find(self, text: str) -> list[Found]:
        """The entities of a text, in order, none within another. A long text lets others have their turn on the way."""
        return await entities.find(text)

    def guard(self, policy: Screening, instructions: str, *, structured: bool = False) -> OutputGuard | None:
        """A guard for one text of an agent with those instructions; of JSON, if it is `structured`. None: the policy is to look at nothing."""
        return (
            None if policy.output == "off" else Guard(policy, self._instructions(instructions), structured=structured)
        )
