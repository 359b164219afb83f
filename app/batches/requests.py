"""From an item of a batch to the request that a model gets: the same as a run of its own would send."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from app.agent import context
from app.domain.agents import Agent
from app.domain.batches import BatchRequest
from app.domain.fold import RunState
from app.domain.messages import JsonObject, Message

Render = Callable[[Agent, JsonObject], tuple[str, JsonObject]]
"""An agent's instructions with the caller's context filled in, and what is left of that. Raises `RequestError`."""


def request_id(part_id: str, n: int) -> str:
    """What item n is called at the provider."""
    return f"{part_id}_{n}"


def place(part_id: str, request_id: str) -> int | None:
    """The item that is called so in that part; None: it is none of its items."""
    part, _, n = request_id.rpartition("_")
    return int(n) if part == part_id and n.isascii() and n.isdigit() and len(n) < 10 else None


def request(agent: Agent, render: Render, part_id: str, n: int, given: Any, facts: JsonObject | None) -> BatchRequest:
    """Item n as a request. The same item gives the same request. Raises `RequestError` where its context does not fit the prompt."""
    system, unused = render(agent, facts or {})
    state = RunState(agent=agent, system=system, history=())
    content = given if isinstance(given, str) else msgspec.json.encode(given).decode()
    preface = msgspec.json.encode(unused).decode() if unused else None
    state.messages.append(Message(id=f"msg_{n}", role="user", content=content, context=preface))
    # All items share their prompt, and with it a cache where the provider is told who shares one.
    affinity = f"{agent.name} {agent.version}"
    return BatchRequest(request_id(part_id, n), context.build(state, "auto", affinity=affinity))
