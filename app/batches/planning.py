"""What may be a batch, and in which parts it travels. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from app.batches.requests import Render, request
from app.domain.agents import Agent
from app.domain.batches import BatchItem, BatchProvider
from app.domain.errors import FieldError, RequestError
from app.domain.screening import as_text, too_long

ROOM = 1_000
"""Bytes of a part that are kept for what stands around its requests."""
LONGEST_ID = 60
"""Characters that the id of a part is taken to have at most, so that a request's size does not depend on it."""
MAX_ERRORS = 20
"""Problems that a refusal names."""


def check_agent(agent: Agent) -> None:
    """Raises `RequestError` for an agent whose items are more than one call of a model, or that must not see them as they are."""
    if agent.tools:
        names = ", ".join(tool.name for tool in agent.tools)
        why = f"has tools ({names}), and nobody is there to run them: a batch is one call of the model for each item"
        raise RequestError(
            "validation_error",
            f"Agent {agent.name} {why}. Take an agent without tools, or `POST /chat/async`.",
            [FieldError("agent", why)],
        )
    if agent.screening.pii != "off":
        why = "reads placeholders in the place of personal data, which a batch's items have no session for"
        raise RequestError(
            "validation_error", f"Agent {agent.name} {why}. Take `POST /chat/async`.", [FieldError("agent", why)]
        )


def plan(agent: Agent, render: Render, provider: BatchProvider, items: Sequence[BatchItem]) -> list[int]:
    """The part of each item, from 0: as few as the provider's limits allow, items in order.

    Raises `RequestError` for custom ids that stand there twice, an input that is too long for the agent, a context that does not fit the prompt, and an item that is larger
    than the provider takes.
    """
    errors = _repeated(items)
    limits, parts = provider.limits, []
    part = count = used = 0
    for n, item in enumerate(items):
        texts = [("input", as_text(item.input)), ("context", as_text(item.context or {}))]
        if long := too_long(agent.screening, texts):
            errors += [FieldError(f"items[{n}].{wrong.path}", wrong.message) for wrong in long]
            continue
        try:
            size = provider.size(request(agent, render, "x" * LONGEST_ID, n, item.input, item.context))
        except RequestError as error:
            errors += [FieldError(f"items[{n}].{wrong.path}", wrong.message) for wrong in error.errors]
            continue
        if size > limits.bytes - ROOM:
            errors.append(FieldError(f"items[{n}].input", "is larger than the provider takes in a whole batch"))
            continue
        if count == limits.requests or used + size > limits.bytes - ROOM:
            part, count, used = part + 1, 0, 0
        count, used = count + 1, used + size
        parts.append(part)
    if errors:
        raise RequestError("validation_error", "Items of the batch cannot be sent; see `errors`.", errors[:MAX_ERRORS])
    return parts


def _repeated(items: Sequence[BatchItem]) -> list[FieldError]:
    seen: set[str] = set()
    errors = []
    for n, item in enumerate(items):
        if item.custom_id in seen:
            errors.append(FieldError(f"items[{n}].custom_id", "stands there twice"))
        seen.add(item.custom_id)
    return errors
