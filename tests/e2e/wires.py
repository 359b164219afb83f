"""What the stand-in says, in each of the three APIs: whole answers, errors, and answers that go wrong on the way."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, Literal

import msgspec

ApiName = Literal["responses", "chat", "anthropic"]
APIS: tuple[ApiName, ...] = ("responses", "chat", "anthropic")
End = Literal["whole", "cut", "reset"]
ToolUse = tuple[str, str, str]
"""id, name, arguments as JSON text"""


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What goes over the wire. `head` is waited for before anything does; `end`: the body ends as announced, or the connection does."""

    status: int = 200
    content_type: str = "text/event-stream"
    headers: dict[str, str] = {}
    head: asyncio.Event | None = None
    pieces: Sequence[bytes | asyncio.Event] = ()
    end: End = "whole"


Reply = Callable[[ApiName], Answer]


# --- replies ------------------------------------------------------------------------------------------------------------


def says(
    *text: str | asyncio.Event,
    calls: Sequence[ToolUse] = (),
    usage: tuple[int, int] = (10, 5),
    head: asyncio.Event | None = None,
) -> Reply:
    """A whole answer: text in these pieces, then tool calls; `usage` is input and output tokens."""
    return lambda api: Answer(pieces=_FRAMES[api](text, calls, usage), head=head)


def bodies(text: str = "", calls: Sequence[ToolUse] = ()) -> Reply:
    """A whole answer in one JSON document."""

    def reply(api: ApiName) -> Answer:
        return Answer(content_type="application/json", pieces=[_json(_BODY[api](text, calls, (10, 5)))])

    return reply


def fails(status: int, code: str = "", message: str = "said by the stand-in", **headers: str) -> Reply:
    """An HTTP error in the vendor's shape."""

    def reply(api: ApiName) -> Answer:
        kind = code or {400: "invalid_request_error", 429: "rate_limit_error", 529: "overloaded_error"}.get(
            status, "api_error"
        )
        error = {"type": kind, "message": message} | ({} if api == "anthropic" else {"code": code or None})
        body = {"error": error} if api != "anthropic" else {"type": "error", "error": error}
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return Answer(status=status, content_type="application/json", headers=named, pieces=[_json(body)])

    return reply


def sends(*pieces: bytes, content_type: str = "text/event-stream", end: End = "whole") -> Reply:
    """Bytes that are what they are."""
    return lambda _: Answer(content_type=content_type, pieces=pieces, end=end)


def breaks(*text: str, end: End = "cut", frames: int | None = None, inside: bool = False) -> Reply:
    """An answer that stops after its text (or so many frames), the last frame `inside` cut in the middle."""

    def reply(api: ApiName) -> Answer:
        whole = _FRAMES[api](text, (), (10, 5))
        kept = [piece for piece in whole if isinstance(piece, bytes)]
        kept = kept[: frames if frames is not None else len(kept) - _ENDING[api]]
        if inside:
            kept[-1] = kept[-1][: len(kept[-1]) // 2]
        return Answer(pieces=kept, end=end)

    return reply


def hangs(*text: str, headers: bool = True) -> Reply:
    """Says that much of an answer (with no `headers`: nothing at all) and then nothing, until the caller leaves."""

    def reply(api: ApiName) -> Answer:
        never = asyncio.Event()
        if not headers:
            return Answer(head=never)
        whole = [piece for piece in _FRAMES[api](text, (), (10, 5)) if isinstance(piece, bytes)]
        said = whole[: len(whole) - _ENDING[api]] if text else []
        return Answer(pieces=[*said, never])

    return reply


# --- the three wires ----------------------------------------------------------------------------------------------------

Pieces = Sequence[str | asyncio.Event]
MODEL = "stand-in-2026"


def _json(value: Any) -> bytes:
    return msgspec.json.encode(value)


def _data(value: Any) -> bytes:
    return b"data: %b\n\n" % _json(value)


def _event(value: dict[str, Any]) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (value["type"].encode(), _json(value))


def _whole_text(pieces: Pieces) -> str:
    return "".join(piece for piece in pieces if isinstance(piece, str))


def _chat_calls(calls: Sequence[ToolUse]) -> list[dict[str, Any]]:
    return [
        {"index": n, "id": id, "type": "function", "function": {"name": name, "arguments": arguments}}
        for n, (id, name, arguments) in enumerate(calls)
    ]


def _chat_usage(usage: tuple[int, int]) -> dict[str, Any]:
    return {"prompt_tokens": usage[0], "completion_tokens": usage[1], "total_tokens": sum(usage)}


def _chat_frames(text: Pieces, calls: Sequence[ToolUse], usage: tuple[int, int]) -> list[bytes | asyncio.Event]:
    def chunk(delta: dict[str, Any], finish: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "finish_reason": finish}
        return _data({"id": "chatcmpl-1", "object": "chat.completion.chunk", "model": MODEL, "choices": [choice]})

    frames: list[bytes | asyncio.Event] = [chunk({"role": "assistant", "content": ""})]
    frames += [chunk({"content": piece}) if isinstance(piece, str) else piece for piece in text]
    for call in _chat_calls(calls):
        whole = call["function"]["arguments"]
        begun = call | {"function": call["function"] | {"arguments": ""}}
        frames.append(chunk({"tool_calls": [begun]}))
        half = len(whole) // 2
        for part in (whole[:half], whole[half:]):
            frames.append(chunk({"tool_calls": [{"index": call["index"], "function": {"arguments": part}}]}))
    frames.append(chunk({}, "tool_calls" if calls else "stop"))
    frames.append(_data({"id": "chatcmpl-1", "model": MODEL, "choices": [], "usage": _chat_usage(usage)}))
    return [*frames, b"data: [DONE]\n\n"]


def _chat_body(text: str, calls: Sequence[ToolUse], usage: tuple[int, int]) -> dict[str, Any]:
    message = {"role": "assistant", "content": text or None, "tool_calls": _chat_calls(calls) or None}
    choice = {"index": 0, "message": message, "finish_reason": "tool_calls" if calls else "stop"}
    return {"id": "chatcmpl-1", "model": MODEL, "choices": [choice], "usage": _chat_usage(usage)}


def _responses_items(text: str, calls: Sequence[ToolUse]) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = []
    if text:
        part = {"type": "output_text", "text": text, "annotations": []}
        items.append({"type": "message", "id": "msg_1", "role": "assistant", "status": "completed", "content": [part]})
    for id, name, arguments in calls:
        items.append(
            {"type": "function_call", "id": f"fc_{id}", "call_id": id, "name": name, "arguments": arguments}
            | {"status": "completed"}
        )
    return items


def _responses_body(text: str, calls: Sequence[ToolUse], usage: tuple[int, int]) -> dict[str, Any]:
    used = {"input_tokens": usage[0], "output_tokens": usage[1], "total_tokens": sum(usage)}
    output = _responses_items(text, calls)
    return {
        "id": "resp_1",
        "object": "response",
        "model": MODEL,
        "status": "completed",
        "output": output,
        "usage": used,
    }


def _responses_frames(text: Pieces, calls: Sequence[ToolUse], usage: tuple[int, int]) -> list[bytes | asyncio.Event]:
    whole = _responses_body(_whole_text(text), calls, usage)
    begun = whole | {"status": "in_progress", "output": [], "usage": None}
    frames: list[bytes | asyncio.Event] = [_event({"type": "response.created", "response": begun})]
    for piece in text:
        delta = {"type": "response.output_text.delta", "item_id": "msg_1", "output_index": 0, "content_index": 0}
        frames.append(_event(delta | {"delta": piece}) if isinstance(piece, str) else piece)
    for n, item in enumerate(whole["output"]):
        frames.append(_event({"type": "response.output_item.done", "output_index": n, "item": item}))
    return [*frames, _event({"type": "response.completed", "response": whole})]


def _anthropic_body(text: str, calls: Sequence[ToolUse], usage: tuple[int, int]) -> dict[str, Any]:
    content: list[dict[str, Any]] = [{"type": "text", "text": text}] if text else []
    for id, name, arguments in calls:
        content.append({"type": "tool_use", "id": id, "name": name, "input": msgspec.json.decode(arguments)})
    return {
        "id": "msg_1", "type": "message", "role": "assistant", "model": MODEL, "content": content,
        "stop_reason": "tool_use" if calls else "end_turn", "stop_sequence": None,
        "usage": {"input_tokens": usage[0], "output_tokens": usage[1]},
    }  # fmt: skip


def _anthropic_frames(text: Pieces, calls: Sequence[ToolUse], usage: tuple[int, int]) -> list[bytes | asyncio.Event]:
    begun = _anthropic_body("", (), (usage[0], 1)) | {"stop_reason": None}
    frames: list[bytes | asyncio.Event] = [_event({"type": "message_start", "message": begun})]
    if text:
        frames.append(_start(0, {"type": "text", "text": ""}))
        for piece in text:
            delta = {"type": "text_delta", "text": piece}
            frames.append(_delta(0, delta) if isinstance(piece, str) else piece)
        frames.append(_event({"type": "content_block_stop", "index": 0}))
    for n, (id, name, arguments) in enumerate(calls, 1):
        frames.append(_start(n, {"type": "tool_use", "id": id, "name": name, "input": {}}))
        half = len(arguments) // 2
        frames += [
            _delta(n, {"type": "input_json_delta", "partial_json": part})
            for part in (arguments[:half], arguments[half:])
        ]
        frames.append(_event({"type": "content_block_stop", "index": n}))
    ended = {"stop_reason": "tool_use" if calls else "end_turn", "stop_sequence": None}
    frames.append(_event({"type": "message_delta", "delta": ended, "usage": {"output_tokens": usage[1]}}))
    return [*frames, _event({"type": "message_stop"})]


def _start(index: int, block: dict[str, Any]) -> bytes:
    return _event({"type": "content_block_start", "index": index, "content_block": block})


def _delta(index: int, delta: dict[str, Any]) -> bytes:
    return _event({"type": "content_block_delta", "index": index, "delta": delta})


_FRAMES: dict[ApiName, Callable[[Pieces, Sequence[ToolUse], tuple[int, int]], list[bytes | asyncio.Event]]] = {
    "responses": _responses_frames,
    "chat": _chat_frames,
    "anthropic": _anthropic_frames,
}
_BODY: dict[ApiName, Callable[[str, Sequence[ToolUse], tuple[int, int]], dict[str, Any]]] = {
    "responses": _responses_body,
    "chat": _chat_body,
    "anthropic": _anthropic_body,
}
_ENDING: dict[ApiName, int] = {"responses": 2, "chat": 3, "anthropic": 3}
"""How many frames follow the text of an answer without calls."""
