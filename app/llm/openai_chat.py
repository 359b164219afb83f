"""OpenAI Chat Completions, also as compatible servers speak it: requests written, answers read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from app.domain.errors import ProviderError
from app.domain.messages import Message, ModelStop, Native, Usage
from app.domain.models import Completed, ModelRequest
from app.llm.answers import Answer, arguments_text, decode, native, tool_call
from app.llm.failures import event_failure
from app.llm.history import User, own_items, turns, wire_id
from app.llm.prefix import cache_key
from app.llm.schemas import enforceable
from app.llm.sse import Frame
from app.llm.target import ALL_TAKEN, Api, Written

STOPS: dict[str, ModelStop] = {
    "stop": "stop",
    "length": "length",
    "tool_calls": "tool_calls",
    "function_call": "tool_calls",
    "content_filter": "content_filter",
}
"""Any other: `stop`."""


LIMITS = ("max_completion_tokens", "max_tokens")
"""The name of the limit at OpenAI itself, and the older one. A limit is never left out: a model that refuses one name gets the other."""

OPTIONAL = {
    "temperature": "temperature",
    "reasoning_effort": "reasoning",
    "max_completion_tokens": "max_output_tokens",
    "max_tokens": "max_output_tokens",
    "stream_options": "",
}
"""What a request can do without, or say in another way. Without `stream_options` some servers do not count what was used."""


# --- requests -----------------------------------------------------------------------------------------------------------


def api(*, own_host: bool) -> Api:
    """Chat Completions at OpenAI itself, or at a compatible server.

    They differ in three things: OpenAI's models want `max_completion_tokens`, of which many others know only the older
    `max_tokens`; others want back the reasoning that led to a tool call, which OpenAI does not send; and only OpenAI is told
    which requests share a cache, because others may refuse what they do not know.
    """

    def write(request: ModelRequest, model: str, refused: frozenset[str] = ALL_TAKEN, /) -> Written:
        return _write(request, model, own_host, refused), {}

    return Api("/chat/completions", write, Reading, OPTIONAL)


def _write(request: ModelRequest, model: str, own_host: bool, refused: frozenset[str]) -> bytes:
    body: dict[str, Any] = {"model": model, "stream": True}
    if "stream_options" not in refused:
        body["stream_options"] = {"include_usage": True}
    if own_host and request.affinity:
        body["prompt_cache_key"] = cache_key(request.affinity)
    if request.temperature is not None and "temperature" not in refused:
        body["temperature"] = request.temperature
    if request.max_output_tokens is not None:
        first, second = LIMITS if own_host else reversed(LIMITS)
        body[second if first in refused and second not in refused else first] = request.max_output_tokens
    if request.reasoning is not None and "reasoning_effort" not in refused:
        body["reasoning_effort"] = request.reasoning
    if request.output_schema is not None:
        body["response_format"] = {
            "type": "json_schema",
            "json_schema": {
                "name": "answer",
                "schema": request.output_schema,
                "strict": enforceable(request.output_schema),
            },
        }
    if request.tools:
        body["tools"] = [
            {"type": "function", "function": {"name": t.name, "description": t.description, "parameters": t.schema}}
            for t in request.tools
        ]
        if request.tool_choice == "none":
            body["tool_choice"] = "none"
    messages: list[Any] = [{"role": "system", "content": request.system}] if request.system else []
    body["messages"] = messages + _messages(request.messages, own_host)
    return msgspec.json.encode(body)


def _messages(messages: Sequence[Message], own_host: bool) -> list[Any]:
    written: list[Any] = []
    for turn in turns(messages, "openai-chat"):
        if isinstance(turn, User):
            written.append({"role": "user", "content": turn.text})
            continue
        items = None if own_host else own_items(turn.message, "openai-chat")
        written += [_assistant(turn.message)] if items is None else _RAW_ITEMS.decode(items)
        for result in turn.results:
            written.append({"role": "tool", "tool_call_id": wire_id(result.call_id), "content": result.text})
    return written


def _assistant(message: Message) -> dict[str, Any]:
    written: dict[str, Any] = {"role": "assistant", "content": message.content or None}
    if message.tool_calls:
        written["tool_calls"] = [
            {
                "id": wire_id(call.id),
                "type": "function",
                "function": {"name": call.name, "arguments": arguments_text(call)},
            }
            for call in message.tool_calls
        ]
    return written


_RAW_ITEMS = msgspec.json.Decoder(list[msgspec.Raw])


# --- answers ------------------------------------------------------------------------------------------------------------


class _Function(msgspec.Struct, frozen=True):
    name: str | None = None
    arguments: str | None = None


class _Call(msgspec.Struct, frozen=True):
    index: int | None = None
    id: str | None = None
    function: _Function | None = None
    extra_content: Any = None


class _Said(msgspec.Struct, frozen=True):
    content: str | None = None
    refusal: str | None = None
    reasoning_content: str | None = None
    reasoning: Any = None
    tool_calls: list[_Call] | None = None


class _Choice(msgspec.Struct, frozen=True):
    index: int = 0
    delta: _Said | None = None
    message: _Said | None = None
    finish_reason: str | None = None


class _PromptDetails(msgspec.Struct, frozen=True):
    cached_tokens: int | None = None
    cache_write_tokens: int | None = None


class _CompletionDetails(msgspec.Struct, frozen=True):
    reasoning_tokens: int | None = None


class _Usage(msgspec.Struct, frozen=True):
    prompt_tokens: int | None = None
    prompt_tokens_details: _PromptDetails | None = None
    completion_tokens: int | None = None
    completion_tokens_details: _CompletionDetails | None = None
    total_tokens: int | None = None


class _Chunk(msgspec.Struct, frozen=True):
    id: str | None = None
    model: str | None = None
    choices: list[_Choice] | None = None
    usage: _Usage | None = None
    service_tier: str | None = None
    error: Any = None


_CHUNK = msgspec.json.Decoder(_Chunk)


class _GrowingCall:
    """A call whose arguments still come. `extra` is what some servers want back with it."""

    def __init__(self, id: str) -> None:
        self.id = id
        self.name = ""
        self.arguments: list[str] = []
        self.extra: Any = None


class Reading:
    """One Chat Completions answer: a stream ends with `[DONE]`, and what was cut before it is not whole."""

    def __init__(self, answer: Answer) -> None:
        self._answer = answer
        self._calls: list[_GrowingCall] = []
        self._by_index: dict[int, _GrowingCall] = {}
        self._reasoning: list[str] = []
        self._refused = False
        self._finish: str | None = None
        self._tier: str | None = None

    def frame(self, frame: Frame) -> bool:
        if frame.data.strip() == b"[DONE]":
            self._check()
            return True
        self._chunk(decode(_CHUNK, frame.data))
        return False

    def body(self, data: bytes) -> None:
        self._chunk(decode(_CHUNK, data))
        self._check()

    def completed(self) -> Completed:
        stop = "refusal" if self._refused else STOPS.get(self._finish or "", "stop")
        response = self._answer.attempt.response_id or "response"
        calls = [
            tool_call(call.id or f"call_{response}_{n}", call.name, "".join(call.arguments))
            for n, call in enumerate(self._calls)
        ]
        message = Message(id="", role="assistant", content=self._answer.content, tool_calls=tuple(calls))
        return self._answer.completed(stop, calls, self._kept(message))

    def _chunk(self, chunk: _Chunk) -> None:
        if chunk.error:
            raise event_failure({"error": chunk.error})
        self._answer.seen(model=chunk.model, id=chunk.id)
        self._tier = chunk.service_tier or self._tier
        for choice in chunk.choices or ():
            if choice.index != 0:
                continue
            said = choice.delta or choice.message
            if said is not None:
                self._said(said)
            self._finish = choice.finish_reason or self._finish
        self._count(chunk.usage)

    def _said(self, said: _Said) -> None:
        self._answer.text(said.content)
        if said.refusal:
            self._refused = True
            self._answer.text(said.refusal)
        if said.reasoning_content:
            self._reasoning.append(said.reasoning_content)
            self._answer.reasoning(said.reasoning_content)
        elif isinstance(said.reasoning, str):
            self._answer.reasoning(said.reasoning)
        for call in said.tool_calls or ():
            if call.function is not None:
                self._call(call, call.function)

    def _call(self, piece: _Call, function: _Function) -> None:
        """Pieces belong together by index; a new id begins a new call, also where a server counts no indexes or always 0."""
        self._answer.progress(len(piece.id or "") + len(function.name or "") + len(function.arguments or ""))
        index = (
            piece.index if piece.index is not None else (len(self._calls) if piece.id else max(0, len(self._calls) - 1))
        )
        call = self._by_index.get(index)
        if call is None or (piece.id and call.id and piece.id != call.id):
            call = self._by_index[index] = _GrowingCall(piece.id or "")
            self._calls.append(call)
        call.name = call.name or function.name or ""
        call.arguments.append(function.arguments or "")
        call.extra = piece.extra_content or call.extra

    def _kept(self, message: Message) -> Native | None:
        """What compatible servers want back while their model works with tools: its reasoning, and extras of its calls."""
        if not self._calls or not (self._reasoning or any(call.extra for call in self._calls)):
            return None
        item = _assistant(message)
        if self._reasoning:
            item["reasoning_content"] = "".join(self._reasoning)
        for written, call in zip(item["tool_calls"], self._calls, strict=True):
            if call.extra:
                written["extra_content"] = call.extra
        return native("openai-chat", [item])

    def _count(self, usage: _Usage | None) -> None:
        if usage is None:
            return
        read = usage.prompt_tokens_details or _PromptDetails()
        wrote = usage.completion_tokens_details or _CompletionDetails()
        counted = Usage(
            input_tokens=usage.prompt_tokens,
            cached_input_tokens=read.cached_tokens,
            cache_write_tokens=read.cache_write_tokens,
            output_tokens=_written(usage, wrote.reasoning_tokens),
            reasoning_tokens=wrote.reasoning_tokens,
        )
        self._answer.used(counted, last=self._finish is not None, tier=self._tier)

    def _check(self) -> None:
        if self._finish is None:
            raise ProviderError("stream_broken", "the answer ended without a finish reason", status=200)


def _written(usage: _Usage, reasoning: int | None) -> int | None:
    """All that the model wrote. Some servers count reasoning beside `completion_tokens` and not in it: their total tells."""
    wrote = usage.completion_tokens
    if wrote is None or not reasoning or usage.total_tokens is None or usage.prompt_tokens is None:
        return wrote
    return wrote + reasoning if usage.total_tokens == usage.prompt_tokens + wrote + reasoning else wrote
