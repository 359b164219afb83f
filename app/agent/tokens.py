"""How many tokens a message, a call or a tool takes: an estimate, by that of the texts in them (`app.domain.tokens`)."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from app.domain.messages import JsonObject, Message, ToolCall
from app.domain.models import ModelRequest
from app.domain.tokens import MOST_PER_CHARACTER as MOST_PER_CHARACTER
from app.domain.tokens import dense as dense
from app.domain.tokens import prose as prose
from app.domain.tools import ToolSpec

PER_MESSAGE = 6
"""Tokens of a message beside its text: its role and its bounds."""
PER_CALL = 12
"""Tokens of a call, or of a tool's definition, beside its name and JSON: ids and framing."""


PER_MARK = 30
"""Tokens of the marks around words from outside."""


def message(said: Message) -> int:
    """Tokens of one message. One that has the provider's own items counts as the longer of these and the normal form."""
    if said.role == "tool":
        return PER_MESSAGE + PER_CALL + dense(said.content) + (PER_MARK if said.trust == "untrusted" else 0)
    tokens = PER_MESSAGE + prose(said.content) + sum(map(call, said.tool_calls))
    if said.context is not None:
        tokens += PER_MESSAGE + dense(said.context)
    if said.native is not None:
        tokens = max(tokens, PER_MESSAGE + -(-len(bytes(said.native.items)) // 3))
    return tokens


def call(made: ToolCall) -> int:
    """Tokens of one call."""
    return PER_CALL + dense(made.name) + dense(made.arguments)


def fixed(system: str, tools: Iterable[ToolSpec], schema: JsonObject | None) -> int:
    """Tokens of what every request of an agent has: system text, tools, output schema."""
    tokens = PER_MESSAGE + prose(system)
    for tool in tools:
        tokens += PER_CALL + dense(tool.name) + prose(tool.description) + _json(tool.schema)
    return tokens + (0 if schema is None else PER_CALL + _json(schema))


def request(asked: ModelRequest) -> int:
    """Tokens of a whole request."""
    return fixed(asked.system, asked.tools, asked.output_schema) + sum(map(message, asked.messages))


def _json(value: JsonObject) -> int:
    return -(-len(msgspec.json.encode(value)) // 3)
