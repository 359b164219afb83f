"""Prompts and answers as span attributes: the JSON of the GenAI conventions. Used only where the operator asked for content."""

from __future__ import annotations

from typing import Any

import msgspec
from opentelemetry.util.types import AttributeValue

from app.domain.messages import Message, ToolCall
from app.domain.models import Completed, ModelRequest
from app.telemetry import names


def asked(request: ModelRequest) -> dict[str, AttributeValue]:
    """What the model is given."""
    attributes: dict[str, AttributeValue] = {names.CONTENT_INPUT: _json([_message(m) for m in request.messages])}
    if request.system:
        attributes[names.CONTENT_SYSTEM] = _json([{"type": "text", "content": request.system}])
    if request.tools:
        attributes[names.CONTENT_TOOLS] = _json(
            [
                {"type": "function", "name": t.name, "description": t.description, "parameters": t.schema}
                for t in request.tools
            ]
        )
    return attributes


def answered(completed: Completed) -> dict[str, AttributeValue]:
    """What the model said."""
    parts = _parts(completed.content, completed.tool_calls)
    return {names.CONTENT_OUTPUT: _json([{"role": "assistant", "parts": parts, "finish_reason": completed.stop}])}


def _message(message: Message) -> dict[str, Any]:
    if message.role == "tool":
        parts = [{"type": "tool_call_response", "id": message.call_id, "response": message.content}]
    else:
        parts = _parts(message.content, message.tool_calls)
        if message.context is not None:
            parts.insert(0, {"type": "text", "content": message.context})
    return {"role": message.role, "parts": parts}


def _parts(text: str, calls: tuple[ToolCall, ...]) -> list[dict[str, Any]]:
    parts: list[dict[str, Any]] = [{"type": "text", "content": text}] if text else []
    parts.extend({"type": "tool_call", "id": c.id, "name": c.name, "arguments": c.arguments} for c in calls)
    return parts


def _json(value: Any) -> str:
    return msgspec.json.encode(value).decode()
