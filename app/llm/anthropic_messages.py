"""Anthropic Messages: requests written, answers read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from app.domain.errors import ProviderError
from app.domain.messages import Message, ModelStop, ToolCall, Usage
from app.domain.models import Completed, ModelRequest
from app.llm.answers import Answer, arguments, decode, event_type, native, tool_call
from app.llm.anthropic_caching import with_breakpoints
from app.llm.failures import event_failure
from app.llm.history import Result, User, own_items, turns, wire_id
from app.llm.schemas import enforceable
from app.llm.sse import Frame
from app.llm.target import Api

MAX_TOKENS = 8192
"""Sent where the agent sets no `max_output_tokens`: this API cannot do without."""

TEMPERATURE_VERSION = "2023-06-01"
"""The last API version that knows `temperature`; a request that has one is sent under it, any other under the SDK's."""

STOPS: dict[str, ModelStop] = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "tool_use": "tool_calls",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "refusal": "refusal",
    "pause_turn": "pause",
}
"""Any other, from the future: `stop`."""


# --- requests -----------------------------------------------------------------------------------------------------------


def write(request: ModelRequest, model: str, refused: frozenset[str] = frozenset(), /) -> tuple[bytes, dict[str, str]]:
    """The request's body and its own headers, without what the model refuses. The same request gives the same bytes."""
    body: dict[str, Any] = {"model": model, "max_tokens": request.max_output_tokens or MAX_TOKENS, "stream": True}
    headers = {}
    if request.temperature is not None and "temperature" not in refused:
        body["temperature"] = request.temperature
        headers["anthropic-version"] = TEMPERATURE_VERSION
    output: dict[str, Any] = {}
    if request.reasoning is not None and "thinking" not in refused:
        body["thinking"] = {"type": "adaptive"}
    if request.reasoning is not None and "effort" not in refused:
        output["effort"] = request.reasoning
    system = request.system
    if request.output_schema is not None:
        if enforceable(request.output_schema):
            output["format"] = {"type": "json_schema", "schema": request.output_schema}
        else:
            schema = msgspec.json.encode(request.output_schema).decode()
            system = f"{system}\n\nAnswer with one JSON document and nothing else. It matches this JSON Schema:\n{schema}".strip()
    if output:
        body["output_config"] = output
    tools = [{"name": t.name, "description": t.description, "input_schema": t.schema} for t in request.tools]
    if not tools:
        # Tool blocks in the history need definitions, also when the agent has no tools (any more).
        names = dict.fromkeys(call.name for message in request.messages for call in message.tool_calls)
        tools = [{"name": name, "description": "", "input_schema": {"type": "object"}} for name in names]
    if tools:
        body["tools"] = tools
        if request.tool_choice == "none" or not request.tools:
            body["tool_choice"] = {"type": "none"}
    if system:
        body["system"] = [{"type": "text", "text": system}]
    body["messages"] = _messages(request.messages)
    return msgspec.json.encode(with_breakpoints(body)), headers


def _messages(messages: Sequence[Message]) -> list[dict[str, Any]]:
    """Alternating turns: the results of one round and the user's words after them share one message, results first."""
    written: list[dict[str, Any]] = []
    said: list[dict[str, Any]] = []
    for turn in turns(messages, "anthropic-messages"):
        if isinstance(turn, User):
            said.append({"type": "text", "text": turn.text if turn.text.strip() else "(empty)"})
            continue
        if said:
            written.append({"role": "user", "content": said})
        items = own_items(turn.message, "anthropic-messages")
        written.append({"role": "assistant", "content": _blocks(turn.message) if items is None else items})
        said = [_tool_result(result) for result in turn.results]
    if said:
        written.append({"role": "user", "content": said})
    return written


def _blocks(message: Message) -> list[dict[str, Any]]:
    blocks: list[dict[str, Any]] = [{"type": "text", "text": message.content}] if message.content.strip() else []
    return blocks + [
        {"type": "tool_use", "id": wire_id(call.id), "name": call.name, "input": arguments(call)}
        for call in message.tool_calls
    ]


def _tool_result(result: Result) -> dict[str, Any]:
    block: dict[str, Any] = {"type": "tool_result", "tool_use_id": wire_id(result.call_id), "content": result.text}
    if result.is_error:
        block["is_error"] = True
        block["content"] = result.text or "failed without a word"
    return block


# --- answers ------------------------------------------------------------------------------------------------------------


class _OutputDetails(msgspec.Struct, frozen=True):
    thinking_tokens: int | None = None


class _CacheCreation(msgspec.Struct, frozen=True):
    ephemeral_1h_input_tokens: int | None = None


class _Usage(msgspec.Struct, frozen=True):
    input_tokens: int | None = None
    cache_creation: _CacheCreation | None = None
    cache_creation_input_tokens: int | None = None
    cache_read_input_tokens: int | None = None
    output_tokens: int | None = None
    output_tokens_details: _OutputDetails | None = None
    service_tier: str | None = None
    speed: str | None = None


class _Message(msgspec.Struct, frozen=True):
    id: str = ""
    model: str = ""
    content: list[dict[str, Any]] = []
    stop_reason: str | None = None
    usage: _Usage | None = None


class _Start(msgspec.Struct, frozen=True):
    message: _Message


class _BlockStart(msgspec.Struct, frozen=True):
    index: int
    content_block: dict[str, Any]


class _Delta(msgspec.Struct, frozen=True):
    type: str = ""
    text: str = ""
    partial_json: str = ""
    thinking: str = ""
    signature: str = ""
    citation: Any = None
    content: Any = None
    encrypted_content: Any = None


class _BlockDelta(msgspec.Struct, frozen=True):
    index: int
    delta: _Delta


class _Stop(msgspec.Struct, frozen=True):
    stop_reason: str | None = None


class _MessageDelta(msgspec.Struct, frozen=True):
    delta: _Stop = _Stop()
    usage: _Usage | None = None


_START = msgspec.json.Decoder(_Start)
_BLOCK_START = msgspec.json.Decoder(_BlockStart)
_BLOCK_DELTA = msgspec.json.Decoder(_BlockDelta)
_MESSAGE_DELTA = msgspec.json.Decoder(_MessageDelta)
_MESSAGE = msgspec.json.Decoder(_Message)
_ANY = msgspec.json.Decoder()


class _Block:
    """One content block as it grows: what its start said, and the pieces of its text, thinking, signature and input."""

    def __init__(self, start: dict[str, Any]) -> None:
        self.start = start
        self.kind = str(start.get("type", ""))
        self.pieces: dict[str, list[str]] = {}

    def add(self, field: str, piece: str) -> None:
        self.pieces.setdefault(field, []).append(piece)

    @property
    def input_text(self) -> str:
        """The arguments as the model wrote them."""
        if "input" in self.pieces:
            return "".join(self.pieces["input"])
        return msgspec.json.encode(self.start["input"]).decode() if self.start.get("input") else ""

    def item(self) -> dict[str, Any]:
        """The block as it goes back."""
        item = dict(self.start)
        for field, pieces in self.pieces.items():
            if field == "input":
                item["input"] = arguments(ToolCall(id="", name="", arguments="".join(pieces)))
            else:
                item[field] = str(item.get(field) or "") + "".join(pieces)
        return item


class Reading:
    """One Messages answer."""

    def __init__(self, answer: Answer) -> None:
        self._answer = answer
        self._blocks: dict[int, _Block] = {}
        self._usage = _Usage()
        self._stop: str | None = None

    def frame(self, frame: Frame) -> bool:
        kind = event_type(frame.data, frame.event)
        if kind == "content_block_delta":
            self._delta(decode(_BLOCK_DELTA, frame.data), len(frame.data))
        elif kind == "content_block_start":
            start = decode(_BLOCK_START, frame.data)
            self._start(start.index, start.content_block, len(frame.data))
        elif kind == "message_start":
            self._message(decode(_START, frame.data).message)
        elif kind == "message_delta":
            delta = decode(_MESSAGE_DELTA, frame.data)
            self._stop = delta.delta.stop_reason or self._stop
            self._count(delta.usage)
        elif kind == "error":
            raise event_failure(decode(_ANY, frame.data))
        elif kind == "message_stop":
            self._check()
            return True
        else:
            decode(_ANY, frame.data)
        return False

    def body(self, data: bytes) -> None:
        if event_type(data, "") == "error":
            raise event_failure(decode(_ANY, data))
        self._message(decode(_MESSAGE, data))
        self._check()

    def completed(self) -> Completed:
        blocks = [block for _, block in sorted(self._blocks.items())]
        calls = [
            tool_call(str(block.start.get("id", "")), str(block.start.get("name", "")), block.input_text)
            for block in blocks
            if block.kind == "tool_use"
        ]
        items = [item for item in (block.item() for block in blocks) if _may_go_back(item)]
        kept = None if all(_is_plain(item) for item in items) else native("anthropic-messages", items)
        return self._answer.completed(STOPS.get(self._stop or "", "stop"), calls, kept)

    def _message(self, message: _Message) -> None:
        """A stream's first event may hold the whole message, too: a call made by a running server tool comes so."""
        self._answer.seen(model=message.model, id=message.id)
        self._stop = message.stop_reason
        self._count(message.usage)
        for index, block in enumerate(message.content):
            self._start(index, block, 0)

    def _start(self, index: int, block: dict[str, Any], size: int) -> None:
        self._blocks[index] = _Block(block)
        if block.get("type") == "text":
            self._answer.text(block.get("text"))
        elif block.get("type") == "thinking":
            self._answer.reasoning(block.get("thinking"))
        else:
            self._answer.progress(size)

    def _delta(self, event: _BlockDelta, size: int) -> None:
        block = self._blocks.get(event.index)
        if block is None:
            raise ProviderError("stream_broken", "the stream goes on with a block that it never began", status=200)
        delta = event.delta
        if delta.type == "text_delta":
            block.add("text", delta.text)
            self._answer.text(delta.text)
            return
        if delta.type == "thinking_delta":
            block.add("thinking", delta.thinking)
            self._answer.reasoning(delta.thinking)
            return
        self._answer.progress(size)
        if delta.type == "input_json_delta":
            block.add("input", delta.partial_json)
        elif delta.type == "signature_delta":
            block.add("signature", delta.signature)
        elif delta.type == "citations_delta":
            block.start["citations"] = [*(block.start.get("citations") or ()), delta.citation]
        elif delta.type == "compaction_delta":
            block.start |= {"content": delta.content, "encrypted_content": delta.encrypted_content}

    def _count(self, usage: _Usage | None) -> None:
        """Counts are cumulative: a later one replaces an earlier one, and the one beside the stop reason is the last."""
        if usage is None:
            return
        known = {field: value for field, value in msgspec.structs.asdict(usage).items() if value is not None}
        self._usage = total = msgspec.structs.replace(self._usage, **known)
        details = total.output_tokens_details or _OutputDetails()
        writes = total.cache_creation or _CacheCreation()
        parts = (total.input_tokens, total.cache_read_input_tokens, total.cache_creation_input_tokens)
        counted = Usage(
            input_tokens=None if total.input_tokens is None else sum(part or 0 for part in parts),
            cached_input_tokens=total.cache_read_input_tokens,
            cache_write_tokens=total.cache_creation_input_tokens,
            output_tokens=total.output_tokens,
            reasoning_tokens=details.thinking_tokens,
            cache_write_1h_tokens=writes.ephemeral_1h_input_tokens or msgspec.UNSET,
        )
        self._answer.used(counted, last=self._stop is not None, tier=total.service_tier, speed=total.speed)

    def _check(self) -> None:
        if self._stop is None:
            raise ProviderError("stream_broken", "the answer ended without a stop reason", status=200)


_PLAIN: dict[str, frozenset[str]] = {
    "text": frozenset({"type", "text"}),
    "tool_use": frozenset({"type", "id", "name", "input"}),
}


def _is_plain(item: dict[str, Any]) -> bool:
    """Whether the normal form says all that the block says."""
    known = _PLAIN.get(str(item.get("type")))
    if known is None:
        return False
    return all(field in known or not value or value == {"type": "direct"} for field, value in item.items())


def _may_go_back(item: dict[str, Any]) -> bool:
    """Blank text and thinking that was cut before its signature are refused by the API that sent them."""
    if item.get("type") == "text":
        return bool(str(item.get("text") or "").strip())
    return item.get("type") != "thinking" or bool(item.get("signature"))


API = Api(
    "/v1/messages", write, Reading, {"temperature": "temperature", "thinking": "reasoning", "effort": "reasoning"}
)
