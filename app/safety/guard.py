"""What looks at an answer on its way out, in the order of the policy."""

from __future__ import annotations

from functools import lru_cache

from app.domain.screening import Found, GuardKind, OutputGuard, Screening
from app.safety import entities
from app.safety.leaks import Instructions, Leaks
from app.safety.people import People
from app.safety.rendering import Rendering
from app.safety.streams import Stream

KEPT = 256
"""Instructions whose places are kept ready."""


class Guard:
    """One text of one agent, looked at while it grows. `acted`: what was taken out of it so far."""

    def __init__(self, policy: Screening, instructions: Instructions) -> None:
        self._stream = Stream(policy.link_hosts)
        self._leaks = Leaks(instructions) if instructions.enough else None
        self._people = People() if policy.output == "pii" else None
        self._rendering = Rendering(policy.link_hosts)

    @property
    def acted(self) -> set[GuardKind]:
        """What was taken out."""
        acted = set(self._stream.acted)
        if self._leaks is not None and self._leaks.acted:
            acted.add("prompt")
        if self._people is not None and self._people.acted:
            acted.add("pii")
        if self._rendering.acted:
            acted.add("link")
        return acted

    def push(self, text: str) -> str:
        """What may be shown after that much more."""
        text = self._stream.push(text)
        if self._leaks is not None and text:
            text = self._leaks.push(text)
        if self._people is not None and text:
            text = self._people.push(text)
        return self._rendering.push(text) if text else text

    def end(self) -> str:
        """The rest: the text is whole."""
        text = self._stream.end()
        if self._leaks is not None:
            text = self._leaks.push(text) + self._leaks.end()
        if self._people is not None:
            text = self._people.push(text) + self._people.end()
        return self._rendering.push(text) + self._rendering.end()


class Screener:
    """Finds and guards for a process."""

    def __init__(self) -> None:
        self._instructions = lru_cache(maxsize=KEPT)(Instructions)

    async def find(self, text: str) -> list[Found]:
        """The entities of a text, in order, none within another. A long text lets others have their turn on the way."""
        return await entities.find(text)

    def guard(self, policy: Screening, instructions: str) -> OutputGuard | None:
        """A guard for one text of an agent with those instructions. None: the policy is to look at nothing."""
        return None if policy.output == "off" else Guard(policy, self._instructions(instructions))
