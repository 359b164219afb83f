"""Where the parts of a conversation come from, and how far their words may be followed.

Labels stand in the journal (`tool.finished`, `message.completed`) and on the messages folded from it, so that they outlive turns,
forks, resumes and restarts, and whoever decided something by them can be shown to have decided right.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import msgspec

from app.domain.messages import Message, Trust

Source = Literal[
    "instructions", "user", "context", "steering", "model", "tool", "memory", "file", "summary", "sub_agent"
]
"""Who said it. `context`: the caller's JSON beside the question; `steering`: what a user said on the way."""


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """One part of what a model reads. `name`: the tool, where it is one's result. `signals`: what the detector saw in it."""

    source: Source
    trust: Trust
    name: str | None = None
    signals: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        """As people read it: `tool:NAME`, or the source."""
        return self.source if self.name is None else f"{self.source}:{self.name}"


Taint = Literal["clean", "tainted", "suspect"]
"""Of a whole context: `tainted` with anything untrusted in it, `suspect` where the detector also saw something in that."""
TAINTS: tuple[Taint, ...] = ("clean", "tainted", "suspect")
"""From the least to the worst."""


def parts(messages: Iterable[Message], steered: Iterable[str] = ()) -> list[Part]:
    """The parts of a conversation in order, the agent's own instructions first. `steered`: ids of messages that came on the way.

    What a model says is as far to be trusted as the least of what it had read.
    """
    found = [Part(source="instructions", trust="trusted")]
    on_the_way = frozenset(steered)
    read: Trust = "trusted"
    for message in messages:
        if message.role == "tool":
            part = Part(
                source="tool", trust=message.trust or "untrusted", name=message.name or "", signals=message.signals
            )
        elif message.role == "assistant":
            part = Part(source="model", trust=message.trust or read)
        else:
            if message.context is not None:
                found.append(Part(source="context", trust="user"))
            part = Part(source="steering" if message.id in on_the_way else "user", trust=message.trust or "user")
        found.append(part)
        read = "untrusted" if part.trust == "untrusted" else read
    return found


def taint(parts: Iterable[Part]) -> Taint:
    """That of a context of those parts."""
    found: Taint = "clean"
    for part in parts:
        if part.trust == "untrusted":
            if part.signals:
                return "suspect"
            found = "tainted"
    return found


def worse(one: Taint, other: Taint) -> Taint:
    """That of two contexts together."""
    return max(one, other, key=TAINTS.index)
