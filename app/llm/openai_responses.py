"""OpenAI Responses: requests written, answers read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from app.domain.errors import ProviderError
from app.domain.messages import Message, ModelStop, Native, Usage
from app.domain.models import Completed, ModelRequest
from app.llm.answers import Answer, arguments_text, decode, event_type, native, tool_call
from app.llm.failures import event_failure
from app.llm.history import User, own_items, turns, wire_id
from app.llm.prefix import cache_key
from app.llm.schemas import enforceable
from app.llm.sse import Frame
from app.llm.target import ALL_TAKEN, Api, Written

WITHOUT_REASONING = ("gpt-3.5", "gpt-4", "chatgpt-4o")
"""Model families that refuse `include: reasoning.encrypted_content`."""

OPTIONAL = {"temperature": "temperature", "reasoning": "reasoning", "include": ""}
"""What a request can do without. Without `include` a model's reasoning is not kept from call to call."""

INCOMPLETE: dict[str, ModelStop] = {
    "max_output_tokens": "length",
    "max_messages": "length",
    "content_filter": "content_filter",
}
"""Why an answer is `incomplete`; any other reason: `stop`."""


# --- requests -----------------------------------------------------------------------------------------------------------


def api(*, own_host: bool) -> Api:
    """Responses at OpenAI itself, or at a compatible server, which is not told what requests share a cache: it may refuse what it does not know."""

    def write(request: ModelRequest, model: str, refused: frozenset[str] = ALL_TAKEN, /) -> Written:
        return _write(request, model, own_host, refused), {}

    return Api("/responses", write, Reading, OPTIONAL)


def _write(request: ModelRequest, model: str, own_host: bool, refused: frozenset[str]) -> bytes:
    """The request's body. The same request gives the same bytes. Nothing is stored at the vendor: reasoning comes back encrypted."""
    body: dict[str, Any] = {"model": model, "stream": True, "store": False}
    if own_host and request.affinity:
        body["prompt_cache_key"] = cache_key(request.affinity)
    if not model.startswith(WITHOUT_REASONING) and "include" not in refused:
        body["include"] = ["reasoning.encrypted_content"]
    if request.temperature is not None and "temperature" not in refused:
        body["temperature"] = request.temperature
    if request.max_output_tokens is not None:
        body["max_output_tokens"] = request.max_output_tokens
    if request.reasoning is not None and "reasoning" not in refused:
        body["reasoning"] = {"effort": request.reasoning}
    if request.output_schema is not None:
        body["text"] = {
            "format": {
                "type": "json_schema",
                "name": "answer",
                "schema": request.output_schema,
                "strict": enforceable(request.output_schema),
            }
        }
    if request.tools:
        # Left out, `strict` would be true here, and most tools' schemas refused.
        body["tools"] = [
            {"type": "function", "name": t.name, "description": t.description, "parameters": t.schema, "strict": False}
            for t in request.tools
        ]
        if request.tool_choice == "none":
            body["tool_choice"] = "none"
    if request.system:
        body["instructions"] = request.system
    body["input"] = _input(request.messages)
    return msgspec.json.encode(body)


def _input(messages: Sequence[Message]) -> list[Any]:
    written: list[Any] = []
    for turn in turns(messages, "openai-responses"):
        if isinstance(turn, User):
            written.append({"role": "user", "content": turn.text})
            continue
        message = turn.message
        items = own_items(message, "openai-responses")
        if items is not None:
            written += _RAW_ITEMS.decode(items)
        else:
            if message.content.strip():
                written.append({"role": "assistant", "content": message.content})
            for call in message.tool_calls:
                written.append(
                    {
                        "type": "function_call",
                        "call_id": wire_id(call.id),
                        "name": call.name,
                        "arguments": arguments_text(call),
                    }
                )
        for result in turn.results:
            written.append({"type": "function_call_output", "call_id": wire_id(result.call_id), "output": result.text})
    return written


_RAW_ITEMS = msgspec.json.Decoder(list[msgspec.Raw])


# --- answers ------------------------------------------------------------------------------------------------------------


class _InputDetails(msgspec.Struct, frozen=True):
    cached_tokens: int | None = None
    cache_write_tokens: int | None = None


class _OutputDetails(msgspec.Struct, frozen=True):
    reasoning_tokens: int | None = None


class _Usage(msgspec.Struct, frozen=True):
    input_tokens: int | None = None
    input_tokens_details: _InputDetails | None = None
    output_tokens: int | None = None
    output_tokens_details: _OutputDetails | None = None


class _Incomplete(msgspec.Struct, frozen=True):
    reason: str | None = None


class _Response(msgspec.Struct, frozen=True):
    id: str = ""
    model: str | None = None
    status: str | None = None
    output: list[dict[str, Any]] = []
    error: Any = None
    incomplete_details: _Incomplete | None = None
    usage: _Usage | None = None
    service_tier: str | None = None


class _Lifecycle(msgspec.Struct, frozen=True):
    response: _Response


class _Delta(msgspec.Struct, frozen=True):
    delta: str = ""


class _ItemDone(msgspec.Struct, frozen=True):
    output_index: int
    item: dict[str, Any]


_LIFECYCLE = msgspec.json.Decoder(_Lifecycle)
_DELTA = msgspec.json.Decoder(_Delta)
_ITEM_DONE = msgspec.json.Decoder(_ItemDone)
_RESPONSE = msgspec.json.Decoder(_Response)
_ANY = msgspec.json.Decoder()

_TEXT = frozenset({"response.output_text.delta", "response.refusal.delta"})
_REASONING = frozenset({"response.reasoning_summary_text.delta", "response.reasoning_text.delta"})
_TERMINAL = frozenset({"response.completed", "response.incomplete", "response.failed"})


class Reading:
    """One Responses answer."""

    def __init__(self, answer: Answer) -> None:
        self._answer = answer
        self._texts: list[str] = []
        self._items: dict[int, dict[str, Any]] = {}
        self._response = _Response()

    def frame(self, frame: Frame) -> bool:
        kind = event_type(frame.data, frame.event)
        if kind in _TEXT:
            piece = decode(_DELTA, frame.data).delta
            self._texts.append(piece)
            self._answer.text(piece)
        elif kind in _REASONING:
            self._answer.reasoning(decode(_DELTA, frame.data).delta)
        elif kind == "response.output_item.done":
            done = decode(_ITEM_DONE, frame.data)
            self._items[done.output_index] = done.item
            self._answer.progress(len(frame.data))
        elif kind in _TERMINAL:
            self._end(decode(_LIFECYCLE, frame.data).response)
            return True
        elif kind == "error":
            raise event_failure(decode(_ANY, frame.data))
        elif kind == "response.created":
            response = decode(_LIFECYCLE, frame.data).response
            self._answer.seen(model=response.model, id=response.id)
        else:
            decode(_ANY, frame.data)
            if kind.endswith(".delta") or kind == "response.output_item.added":
                self._answer.progress()
        return False

    def body(self, data: bytes) -> None:
        self._end(decode(_RESPONSE, data))

    def completed(self) -> Completed:
        items = self._response.output
        calls = [
            tool_call(str(item.get("call_id", "")), str(item.get("name", "")), str(item.get("arguments") or ""))
            for item in items
            if item.get("type") == "function_call"
        ]
        return self._answer.completed(self._stop(), calls, _kept(items))

    def _end(self, response: _Response) -> None:
        """The terminal response. Its items are the answer's; servers that leave them out have sent them one by one."""
        if response.status == "failed" or response.error:
            self._count(response)
            raise event_failure(response.error or {})
        if response.status is None:
            raise ProviderError("stream_broken", "the answer ended without a status", status=200)
        if not response.output:
            response = msgspec.structs.replace(response, output=[item for _, item in sorted(self._items.items())])
        self._response = response
        self._answer.seen(model=response.model, id=response.id)
        self._count(response)
        whole, shown = "".join(_texts(response.output)), "".join(self._texts)
        if whole.startswith(shown):
            self._answer.text(whole[len(shown) :])

    def _stop(self) -> ModelStop:
        response = self._response
        if any(part.get("type") == "refusal" for part in _parts(response.output)):
            return "refusal"
        if response.status == "incomplete":
            reason = response.incomplete_details.reason if response.incomplete_details else None
            return INCOMPLETE.get(reason or "", "stop")
        return "pause" if response.status in ("queued", "in_progress") else "stop"

    def _count(self, response: _Response) -> None:
        usage = response.usage
        if usage is None:
            return
        read = usage.input_tokens_details or _InputDetails()
        wrote = usage.output_tokens_details or _OutputDetails()
        counted = Usage(
            input_tokens=usage.input_tokens,
            cached_input_tokens=read.cached_tokens,
            cache_write_tokens=read.cache_write_tokens,
            output_tokens=usage.output_tokens,
            reasoning_tokens=wrote.reasoning_tokens,
        )
        self._answer.used(counted, last=True, tier=response.service_tier)


def _parts(items: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The content parts of every message, in order."""
    return [
        part
        for item in items
        if item.get("type") == "message"
        for part in item.get("content") or ()
        if isinstance(part, dict)
    ]


def _texts(items: Sequence[dict[str, Any]]) -> list[str]:
    return [str(part.get("text") or part.get("refusal") or "") for part in _parts(items)]


_PLAIN: dict[str, frozenset[str]] = {
    "message": frozenset({"type", "id", "role", "status", "content"}),
    "function_call": frozenset({"type", "id", "status", "call_id", "name", "arguments"}),
    "output_text": frozenset({"type", "text"}),
    "refusal": frozenset({"type", "refusal"}),
}


def _is_plain(item: dict[str, Any]) -> bool:
    """Whether the normal form says all that the item says."""
    known = _PLAIN.get(str(item.get("type")))
    if known is None or any(value and field not in known for field, value in item.items()):
        return False
    return item["type"] != "message" or all(_is_plain(part) for part in _parts([item]))


def _kept(items: Sequence[dict[str, Any]]) -> Native | None:
    """The items that must go back as they came; None where the normal form will do.

    Reasoning goes back only encrypted (nothing is stored at the vendor), and only before the item that it led to.
    """
    if any(item.get("type") == "reasoning" and not item.get("encrypted_content") for item in items):
        return None
    kept = list(items)
    while kept and kept[-1].get("type") == "reasoning":
        kept.pop()
    return None if all(_is_plain(item) for item in kept) else native("openai-responses", kept)
