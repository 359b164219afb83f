"""A run's stream as server-sent events, under the log's own names or the quick ones. Every frame has data."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any

import msgspec

from app.api.problems import run_problem
from app.api.schemas import Metadata, run_status_error
from app.domain.events import MessageDelta, RunFinished
from app.runs.steps import Step
from app.runs.stream import KEEP_ALIVE, Item

OPENING = b"retry: 1000\n\n"
ALIVE = b": keep-alive\n\n"
LARGE = 65_536
"""A frame of more bytes than that is sent before the next one is made."""
GOODBYE = b": this process is closing, reconnect with Last-Event-ID\n\n"

_encode = msgspec.json.Encoder().encode
_delta = msgspec.json.Decoder(MessageDelta).decode
_finished = msgspec.json.Decoder(RunFinished).decode
_any = msgspec.json.Decoder().decode

Batches = AsyncGenerator[list[Item], None]
Steps = Callable[[], Awaitable[list[Step]]]


def frame(event_id: str | None, name: str, data: bytes) -> bytes:
    """One event. JSON has no line ends of its own, so `data` is one line."""
    head = b"" if event_id is None else b"id: %b\n" % event_id.encode()
    return b"%bevent: %b\ndata: %b\n\n" % (head, name.encode(), data)


def metadata(agent_version: str, end: RunFinished, steps: list[Step] | None) -> Metadata:
    """How an answer came about."""
    return Metadata(
        agent_version=agent_version,
        model=end.model,
        iterations=end.iterations,
        duration_ms=end.duration_ms,
        queue_ms=end.queue_ms,
        cached=end.cached,
        degraded=end.degraded,
        stop_reason=end.stop_reason,
        usage=end.usage,
        cost_usd=end.cost_usd,
        steps=msgspec.UNSET if steps is None else steps,
    )


class QuickView:
    """The quick names: start, chunk, tool, reset, done, error. Events that have none are left out."""

    def __init__(self, *, run_id: str, agent_version: str, request_id: str, steps: Steps | None = None) -> None:
        self._run_id = run_id
        self._agent_version = agent_version
        self._request_id = request_id
        self._steps = steps

    async def frames(self, item: Item) -> bytes:
        """The frame of one item, empty where it has no quick name."""
        if item.name == "message.delta":
            delta = _delta(item.payload)
            return frame(item.id, "chunk", _encode({"text": delta.text, "message_id": delta.message_id}))
        if item.name == "run.finished":
            return await self._end(item)
        if item.name == "run.created":
            created = _any(item.payload)
            start = {name: created[name] for name in ("run_id", "session_id", "agent")}
            return frame(item.id, "start", _encode(start))
        if item.name in ("tool.started", "tool.finished"):
            return frame(item.id, "tool", _encode(_tool(_any(item.payload))))
        if item.name == "message.reset":
            return frame(item.id, "reset", item.payload)
        return b""

    async def _end(self, item: Item) -> bytes:
        end = _finished(item.payload)
        if run_status_error(end.status):
            return frame(item.id, "error", _encode({"problem": run_problem(self._request_id, self._run_id, end)}))
        steps = await self._steps() if self._steps is not None else None
        about = metadata(self._agent_version, end, steps)
        return frame(item.id, "done", _encode({"result": end.output, "status": end.status, "metadata": about}))


def _tool(event: dict[str, Any]) -> dict[str, Any]:
    told = {"name": event["name"], "call_id": event["call_id"], "status": event.get("status", "started")}
    if "result" in event:
        told["result"] = event["result"]
    return told


async def log_frames(item: Item) -> bytes:
    """The frame of one item under the log's own name."""
    return frame(item.id, item.name, item.payload)


async def encode(
    batches: Batches,
    frames: Callable[[Item], Awaitable[bytes]],
    *,
    keep_alive: float = KEEP_ALIVE,
    clock: Callable[[], float] = time.monotonic,
) -> AsyncGenerator[bytes, None]:
    """The bytes of a stream; what is there at once is sent at once. Closes `batches`.

    A batch without a byte is a comment where the last bytes are `keep_alive` seconds old: `batches` is not silent
    while the stream is.
    """
    ended = False
    sent = clock()
    try:
        yield OPENING
        async for batch in batches:
            if not batch:
                yield ALIVE
                sent = clock()
                continue
            ended = batch[-1].name == "run.finished"
            waiting: list[bytes] = []
            for item in batch:
                waiting.append(await frames(item))
                if len(waiting[-1]) > LARGE:
                    yield b"".join(waiting)
                    waiting.clear()
                    sent = clock()
            data = b"".join(waiting)
            if data or clock() - sent >= keep_alive:
                yield data or ALIVE
                sent = clock()
        if not ended:
            yield GOODBYE
    finally:
        await batches.aclose()
