"""The intermediate steps of a run, read off its journal."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

import msgspec

from app.domain import events as ev
from app.domain.messages import Usage


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """One attempt at a model or one tool call. `status` is the attempt's outcome or the call's status; times are UTC.

    `input`: a tool's arguments; `output`: a tool's result, or a model's {content, tool_calls} where it answered.
    """

    index: int
    kind: Literal["model", "tool"]
    name: str
    status: str
    started_at: datetime
    duration_ms: float
    input: Any = None
    output: Any = None
    usage: Usage | None = None
    cost_usd: float | None = None


def steps(events: Iterable[ev.StoredEvent]) -> list[Step]:
    """The steps of a run in the order they ended."""
    found: list[Step] = []
    arguments: dict[str, Any] = {}
    answer: ev.VisibleMessage | None = None
    for stored in events:
        event = ev.decode(stored)
        ended = datetime.fromtimestamp(stored.at, UTC)
        if isinstance(event, ev.ToolStarted):
            arguments[event.call_id] = event.arguments
        elif isinstance(event, ev.MessageCompleted):
            answer = event.message
        elif isinstance(event, ev.ToolFinished):
            found.append(
                Step(
                    index=len(found),
                    kind="tool",
                    name=event.name,
                    status=event.status,
                    started_at=ended - timedelta(milliseconds=event.duration_ms),
                    duration_ms=event.duration_ms,
                    input=arguments.get(event.call_id),
                    output=msgspec.json.decode(event.result),
                )
            )
        elif isinstance(event, ev.UsageRecorded):
            said = answer if event.outcome == "ok" and event.purpose is msgspec.UNSET else None
            found.append(
                Step(
                    index=len(found),
                    kind="model",
                    name=f"{event.provider}/{event.model}",
                    status=event.outcome,
                    started_at=ended - timedelta(milliseconds=event.duration_ms),
                    duration_ms=event.duration_ms,
                    output=None if said is None else {"content": said.content, "tool_calls": said.tool_calls},
                    usage=event.usage,
                    cost_usd=event.cost_usd,
                )
            )
    return found
