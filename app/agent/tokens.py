"""How many tokens a text, a message or a tool takes: an estimate from lengths alone, without a network and without a vendor's vocabulary.

Prose has about 4 ASCII characters a token; JSON, code and logs about 3. A character beyond ASCII costs half a token more for
each further UTF-8 byte: Cyrillic or Arabic come to 0.75 tokens a character, Chinese, Japanese or Hindi to 1.25, an emoji to 1.75.
Natural text comes within an eighth of what the vocabulary cl100k_base needs, and to between 0.9 times (English, emoji) and three
times (Hindi) what o200k_base does: rather too many than too few. Long runs of digits or base64 need more than it says.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from app.domain.messages import JsonObject, Message, ToolCall
from app.domain.tools import ToolSpec

PER_MESSAGE = 6
"""Tokens of a message beside its text: its role and its bounds."""
PER_CALL = 12
"""Tokens of a call, or of a tool's definition, beside its name and JSON: ids and framing."""
MOST_PER_CHARACTER = 11 / 6
"""No text is estimated at more tokens a character, rounding aside."""


def prose(text: str) -> int:
    """Tokens of natural language."""
    return -(-(len(text) + 2 * _beyond(text)) // 4)


def dense(text: str) -> int:
    """Tokens of JSON, code or a log."""
    return -(-(2 * len(text) + 3 * _beyond(text)) // 6)


def message(said: Message) -> int:
    """Tokens of one message. One that has the provider's own items counts as the longer of these and the normal form."""
    if said.role == "tool":
        return PER_MESSAGE + PER_CALL + dense(said.content)
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


def _json(value: JsonObject) -> int:
    return -(-len(msgspec.json.encode(value)) // 3)


def _beyond(text: str) -> int:
    """UTF-8 bytes beyond one a character."""
    return 0 if text.isascii() else len(text.encode(errors="surrogatepass")) - len(text)
