"""Conversations that several tests use."""

from __future__ import annotations

from app.domain.messages import Message, ToolCall
from app.domain.models import ModelRequest
from app.domain.tools import ToolSpec

CALCULATOR = ToolSpec(
    name="calculator",
    description="Works out a sum.",
    schema={"type": "object", "properties": {"expression": {"type": "string"}}, "required": ["expression"]},
)


def user(content: str, context: str | None = None) -> Message:
    return Message(id="m", role="user", content=content, context=context)


def assistant(content: str, *calls: ToolCall) -> Message:
    return Message(id="m", role="assistant", content=content, tool_calls=calls)


def result(call_id: str, content: str, *, is_error: bool = False) -> Message:
    return Message(id="m", role="tool", content=content, call_id=call_id, name="calculator", is_error=is_error)


REQUEST = ModelRequest(route="default", system="Be brief.", messages=(user("What is 6 times 7?"),), tools=(CALCULATOR,))
