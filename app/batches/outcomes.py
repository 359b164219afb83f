"""What a provider's word on one request means for its item."""

from __future__ import annotations

import msgspec

from app.agent import structured
from app.domain.agents import Agent
from app.domain.batches import ItemError, ItemOutcome, ItemStatus, RemoteResult

MAX_OUTPUT = 4 * 1024 * 1024
"""Bytes of one item's output, as JSON."""

ENDINGS: dict[str, ItemStatus] = {"failed": "errored", "expired": "expired", "cancelled": "cancelled"}


def outcome(agent: Agent, n: int, result: RemoteResult, *, expired: bool) -> ItemOutcome:
    """Item n's outcome. What its provider cancelled because the batch had `expired` has expired. An answer that does not fit the agent's `output_schema`, or is too large, is an error that was paid for."""
    if result.ending == "cancelled" and expired:
        return ItemOutcome(
            n=n, status="expired", error=ItemError("expired", "the batch expired before this was answered")
        )
    if result.answer is None:
        return ItemOutcome(
            n=n, status=ENDINGS[result.ending], error=result.error, attempt=result.attempt, again=result.again
        )
    answer, error = result.answer, None
    output: object = answer.content
    if agent.output_schema is not None and answer.stop not in ("refusal", "content_filter"):
        output, problem = structured.read(answer.content, agent.output_schema)
        if problem is not None:
            error = ItemError("invalid_output", f"the answer does not fit the agent's output_schema: {problem}")
    written = msgspec.json.encode(output)
    if error is None and len(written) > MAX_OUTPUT:
        error = ItemError("output_too_large", f"the answer has {len(written)} bytes, more than {MAX_OUTPUT}")
    if error is not None:
        return ItemOutcome(n=n, status="errored", error=error, attempt=result.attempt)
    return ItemOutcome(n=n, status="succeeded", output=written, attempt=result.attempt)
