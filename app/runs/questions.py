"""What makes two turns the same question: everything that a model would read, and everybody whose secrets might be in it.

Ids are left out, since they are never the same twice; calls are told apart by their order. So are the provider's own items of
earlier answers (reasoning, signatures): they are of no meaning beside the messages that they belong to.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import msgspec

from app.domain.agents import Caching
from app.domain.cache import labels
from app.domain.fold import RunState
from app.domain.messages import Message
from app.domain.stores import Owned

_FORM = "steadyhand answer 2"
"""Changes whenever the same question would get another key."""


class Question(msgspec.Struct, frozen=True, kw_only=True):
    """A turn that has only been asked. `key` names all of it; `scope` all but `text`, the user's message. The rest is about its answer."""

    key: str
    scope: str
    text: str
    caching: Caching
    labels: tuple[str, ...]


def question(owned: Owned, state: RunState, tags: dict[str, str]) -> Question:
    """The question that a run begins with; its agent has `cache`."""
    agent = state.agent
    assert isinstance(agent.cache, Caching)
    (asked,) = state.messages
    before = (
        _FORM,
        owned.tenant,
        # What a tool answers may be the user's own; what a model answers without tools is all in what it was told.
        owned.user_id if agent.tools else None,
        sorted(state.granted),
        agent.name,
        agent.version,
        agent.model,
        agent.tools,
        agent.output_schema,
        state.system,
        _said(state.history),
        asked.context,
    )
    return Question(
        key=_digest((before, "exact", asked.content)),
        scope=_digest((before, "scope")),
        text=asked.content,
        caching=agent.cache,
        labels=labels(owned.tenant, agent.name, agent.prompt, tags),
    )


def _said(messages: Sequence[Message]) -> list[tuple[Any, ...]]:
    numbers: dict[str, int] = {}
    found: list[tuple[Any, ...]] = []
    for message in messages:
        calls = [(numbers.setdefault(c.id, len(numbers)), c.name, c.arguments) for c in message.tool_calls]
        answers = None if message.call_id is None else numbers.get(message.call_id)
        found.append((message.role, message.content, calls, answers, message.name, message.is_error, message.context))
    return found


def _digest(parts: Any) -> str:
    return hashlib.sha256(msgspec.json.encode(parts, order="deterministic")).hexdigest()
