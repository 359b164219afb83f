"""Answers that are given again: what is kept of a turn, under which labels it can be dropped, and who keeps it.

A key names one question in all that a model would read of it (`app.runs.questions`). Labels are digests, so that neither a
server nor a hint between processes learns a tenant's names. All times are durations in seconds.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Literal, Protocol

import msgspec

Level = Literal["exact", "semantic"]
LookUp = Literal["hit", "miss", "bypass"]
MOST_BYTES = 1_000_000
"""Of one answer as UTF-8; a longer one is not kept."""
DIGITS = 32
"""Hex digits of a label: 128 bits of SHA-256."""


class Kept(msgspec.Struct, frozen=True):
    """The answer of one turn: the text of its last message, the model that wrote it, and the entry's labels.

    `tainted`: the model had read words from outside.
    """

    content: str
    model: str | None
    labels: tuple[str, ...]
    tainted: bool = False


class Found(msgspec.Struct, frozen=True):
    """An answer that is there for so many seconds more."""

    kept: Kept
    seconds: float


class Selection(msgspec.Struct, frozen=True, kw_only=True):
    """Which of a tenant's answers are meant: those to which everything given here applies. Nothing given: all of them.

    `prompt` is a name or `name@version`; `tag` is a tag's name or `name:value`.
    """

    agent: str | None = None
    prompt: str | None = None
    tag: str | None = None

    def labels(self, tenant: str) -> tuple[str, ...]:
        """The labels that such an answer has, all of them; the last one is the narrowest."""
        given = (("agent", self.agent), ("prompt", self.prompt), ("tag", self.tag))
        return tuple(label(tenant, kind, name) for kind, name in given if name is not None) or (
            label(tenant, "all", ""),
        )


def labels(tenant: str, agent: str, prompt: str | None, tags: Mapping[str, str]) -> tuple[str, ...]:
    """The labels of an answer of that agent, its prompt (`name@version`) and the run's tags."""
    found = [label(tenant, "all", ""), label(tenant, "agent", agent)]
    if prompt is not None:
        found += [label(tenant, "prompt", name) for name in (prompt.partition("@")[0], prompt)]
    for name, value in sorted(tags.items()):
        found += [label(tenant, "tag", name), label(tenant, "tag", f"{name}:{value}")]
    return tuple(found)


def label(tenant: str, kind: str, name: str) -> str:
    """The name under which a tenant's answers of that kind are dropped."""
    return hashlib.sha256(msgspec.json.encode((tenant, kind, name))).hexdigest()[:DIGITS]


Stamp = tuple[str, ...]
"""What a store had dropped when an answer was begun: an answer is kept only where nothing of its labels was dropped since."""


class AnswerStore(Protocol):
    """Keeps answers for a time. Nothing raises; a store that is away says None, and keeps or finds nothing."""

    async def get(self, key: str) -> Found | None:
        """The answer under that key, if there is one that can be read."""
        ...

    async def stamp(self, labels: Sequence[str]) -> Stamp | None:
        """To be taken before an answer with those labels is begun. None: the store is away."""
        ...

    async def put(self, key: str, kept: Kept, seconds: float, stamp: Stamp) -> bool:
        """Keep the answer for so long in the place of any other. False: some of its labels were dropped since the stamp, or the store is away."""
        ...

    async def drop(self, labels: Sequence[str]) -> int | None:
        """Answers that have all those labels are gone, and those begun before are not kept. How many there were; None: the store is away."""
        ...


class OwnAnswers(AnswerStore, Protocol):
    """What a process keeps for itself; never away."""

    def discard(self, labels: Sequence[str]) -> int:
        """As `drop`, at once."""
        ...

    def clear(self) -> None:
        """Nothing is kept any more, and nothing that was begun before will be: drops may have been missed."""
        ...


class Leads(Protocol):
    """Who works out which answer, among processes. A lead whose holder dies runs out. Nothing raises; None: nobody can say now."""

    async def take(self, key: str, holder: str, seconds: float) -> bool | None:
        """Be the one for so long. False: another one is."""
        ...

    async def hold(self, key: str, holder: str, seconds: float) -> bool | None:
        """Be it for so long from now. False: it ran out."""
        ...

    async def leave(self, key: str, holder: str) -> None:
        """It is free where that holder still has it."""
        ...


class SharedAnswers(AnswerStore, Leads, Protocol):
    """What processes keep together."""


class Embedded(msgspec.Struct, frozen=True):
    """A vector of length 1 for each text, and the tokens that were read, where the provider says."""

    vectors: list[list[float]]
    tokens: int | None = None


class Embedder(Protocol):
    """Turns texts into vectors of which near ones mean nearly the same. `provider` and `model` as the settings name them."""

    provider: str
    system: str
    model: str

    async def embed(self, texts: Sequence[str]) -> Embedded:
        """All vectors have the same dimensions, call after call. Raises `ProviderError`."""
        ...
