"""Messages of a conversation and the normal form of what a model consumed.

A provider's own items that the normal form cannot express (thinking blocks with signatures, reasoning items,
server tools) ride along as `Native` and go back verbatim to the API that made them; any other API gets the normal form.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

Role = Literal["user", "assistant", "tool"]
Trust = Literal["trusted", "user", "untrusted"]
"""How far words may be followed: the operator's own; a user's, within what that user may do; those of somebody outside, never."""
ModelStop = Literal["stop", "tool_calls", "length", "refusal", "content_filter", "pause"]
"""Why a model ended its message. `pause`: send the turn back as it is and it goes on."""
Api = Literal["anthropic-messages", "openai-responses", "openai-chat", "offline"]


class ToolCall(msgspec.Struct, frozen=True):
    """A model's wish to run a tool. `arguments` is the JSON text as the model wrote it, which may not parse."""

    id: str
    name: str
    arguments: str


class Native(msgspec.Struct, frozen=True):
    """The items of one assistant message exactly as `api` sent them: a JSON array."""

    api: Api
    items: msgspec.Raw


class Message(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One message, immutable once it is complete.

    `assistant` messages may carry `tool_calls`, and a `stop`; `tool` messages answer one call (`call_id`, `name`, `is_error`);
    `user` messages may carry `context`, the caller's JSON object as JSON text, that the model reads before `content`.
    `trust` None: what messages of that role are by themselves (`provenance.parts`); `signals`: what the detector saw in it.
    """

    id: str
    role: Role
    content: str
    tool_calls: tuple[ToolCall, ...] = ()
    stop: ModelStop | None = None
    call_id: str | None = None
    name: str | None = None
    is_error: bool = False
    context: str | None = None
    native: Native | None = None
    trust: Trust | None = None
    signals: tuple[str, ...] = ()


class UsageParts(msgspec.Struct, frozen=True, kw_only=True):
    """The normal form of usage: every token in exactly one part, so that none is priced twice. The parts sum to the provider's total.

    `output` is without `reasoning`; cache writes are apart by how long they live.
    """

    uncached_input: int
    cache_read: int
    cache_write_5m: int
    cache_write_1h: int
    output: int
    reasoning: int

    @property
    def input_tokens(self) -> int:
        """All that the model read."""
        return self.uncached_input + self.cache_read + self.cache_write_5m + self.cache_write_1h

    @property
    def output_tokens(self) -> int:
        """All that the model wrote."""
        return self.output + self.reasoning


class Usage(msgspec.Struct, frozen=True, kw_only=True):
    """Tokens of one model call, or a sum of them.

    `input_tokens` includes `cached_input_tokens` and `cache_write_tokens`; `output_tokens` includes `reasoning_tokens`.
    `cache_write_1h_tokens` are those of `cache_write_tokens` that live an hour, left out where there are none.
    None: the provider did not say, which is not zero.
    """

    input_tokens: int | None = None
    cached_input_tokens: int | None = None
    cache_write_tokens: int | None = None
    output_tokens: int | None = None
    reasoning_tokens: int | None = None
    cache_write_1h_tokens: int | msgspec.UnsetType = msgspec.UNSET

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            input_tokens=_sum(self.input_tokens, other.input_tokens),
            cached_input_tokens=_sum(self.cached_input_tokens, other.cached_input_tokens),
            cache_write_tokens=_sum(self.cache_write_tokens, other.cache_write_tokens),
            output_tokens=_sum(self.output_tokens, other.output_tokens),
            reasoning_tokens=_sum(self.reasoning_tokens, other.reasoning_tokens),
            cache_write_1h_tokens=(self._hour + other._hour) or msgspec.UNSET,
        )

    def parts(self) -> UsageParts | None:
        """The normal form; None where a total is unknown, or smaller than what it should include.

        A part that the provider did not name is none of its total: the total is what it charges for.
        """
        if self.input_tokens is None or self.output_tokens is None:
            return None
        read, wrote, thought = self.cached_input_tokens or 0, self.cache_write_tokens or 0, self.reasoning_tokens or 0
        parts = UsageParts(
            uncached_input=self.input_tokens - read - wrote,
            cache_read=read,
            cache_write_5m=wrote - self._hour,
            cache_write_1h=self._hour,
            output=self.output_tokens - thought,
            reasoning=thought,
        )
        return None if min(msgspec.structs.astuple(parts)) < 0 else parts

    @property
    def _hour(self) -> int:
        return 0 if self.cache_write_1h_tokens is msgspec.UNSET else self.cache_write_1h_tokens


def _sum(a: int | None, b: int | None) -> int | None:
    if a is None:
        return b
    return a if b is None else a + b


JsonObject = dict[str, Any]
