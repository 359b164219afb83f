"""A run's stream as server-sent events, under the log's own names or the quick ones. Every frame has data."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any

import msgspec

from app.api.problems import run_problem
from app.api.schemas import Metadata, run_status_error
from app.domain.events import MessageDelta, RunFinished, RunWaiting
from app.runs.steps import Step
from app.runs.stream import KEEP_ALIVE, Item

OPENING = b"retry: 1000\n\n"
ALIVE = b": keep-alive\n\n"
LARGE = 65_536
"""A frame of more bytes than that is sent before the next one is made."""
GOODBYE = b": this connection ends before the run does, reconnect with Last-Event-ID\n\n"
REFUSED = b": this connection ends, its key or token is not valid any more\n\n"

_encode = msgspec.json.Encoder().encode
_delta = msgspec.json.Decoder(MessageDelta).decode
_finished = msgspec.json.Decoder(RunFinished).decode
_waiting = msgspec.json.Decoder(RunWaiting).decode
_any = msgspec.json.Decoder().decode

Batches = AsyncGenerator[list[Item], None]
Steps = Callable[[], Awaitable[list[Step]]]


def frame(event_id: str | None, name: str, data: bytes) -> bytes:
    """One event. JSON has no line ends of its own, so `data` is one line."""
    head = b"" if event_id is None else b"id: %b\n" % event_id.encode()
    return b"%bevent: %b\ndata: %b\n\n" % (head, name.encode(), data)


def metadata(
    agent_version: str, end: RunFinished | RunWaiting, steps: list[Step] | None, experiments: dict[str, str]
) -> Metadata:
    """How an answer came about, or how far it has come."""
    return Metadata(
        agent_version=agent_version,
        model=end.model,
        iterations=end.iterations,
        duration_ms=end.duration_ms,
        queue_ms=end.queue_ms,
        cached=isinstance(end, RunFinished) and end.cached,
        degraded=isinstance(end, RunFinished) and end.degraded,
        stop_reason=end.stop_reason,
        usage=end.usage,
        cost_usd=end.cost_usd,
        tier=end.tier,
        experiments=experiments or msgspec.UNSET,
        steps=msgspec.UNSET if steps is None else steps,
    )


class QuickView:
    """The quick names: start, chunk, tool, reset, done, error. Events that have none are left out."""

    def __init__(
        self,
        *,
        run_id: str,
        agent_version: str,
        request_id: str,
        experiments: dict[str, str] | None = None,
        steps: Steps | None = None,
    ) -> None:
        self._run_id = run_id
        self._agent_version = agent_version
        self._request_id = request_id
        self._experiments = experiments or {}
        self._steps = steps

    async def frames(self, item: Item) -> bytes:
        """The frame of one item, empty where it has no quick name."""
        if item.name == "message.delta":
            delta = _delta(item.payload)
            return frame(item.id, "chunk", _encode({"text": delta.text, "message_id": delta.message_id}))
        if item.name == "run.finished":
            return await self._end(item)
        if item.name == "run.waiting":
            return await self._wait(item)
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
        about = metadata(self._agent_version, end, await self._all_steps(), self._experiments)
        return frame(item.id, "done", _encode({"result": end.output, "status": end.status, "metadata": about}))

    async def _wait(self, item: Item) -> bytes:
        wait = _waiting(item.payload)
        told = {
            "result": None,
            "status": "waiting",
            "run_id": self._run_id,
            "approvals": wait.approvals,
            "metadata": metadata(self._agent_version, wait, await self._all_steps(), self._experiments),
        }
        return frame(item.id, "done", _encode(told))

    async def _all_steps(self) -> list[Step] | None:
        return None if self._steps is None else await self._steps()


def _tool(event: dict[str, Any]) -> dict[str, Any]:
    told = {"name": event["name"], "call_id": event["call_id"], "status": event.get("status", "started")}
    if "result" in event:
        told["result"] = event["result"]
    return told


async def log_frames(item: Item) -> bytes:
    """The frame of one item under the log's own name."""
    return frame(item.id, item.name, item.payload)


def _to_the_wait(batch: list[Item]) -> tuple[list[Item], bool]:
    """The batch up to where the run waits, and whether it does; a wait that is over is left out."""
    for index, item in enumerate(batch):
        if item.name == "run.waiting":
            after = batch[index + 1 :]
            if not any(later.name in ("run.started", "run.finished") for later in after):
                return [*batch[:index], item], True
            return _to_the_wait([*batch[:index], *after])
    return batch, False


async def encode(
    batches: Batches,
    frames: Callable[[Item], Awaitable[bytes]],
    *,
    through_waits: bool = True,
    keep_alive: float = KEEP_ALIVE,
    clock: Callable[[], float] = time.monotonic,
) -> AsyncGenerator[bytes, None]:
    """The bytes of a stream; what is there at once is sent at once, and never a part of a frame. Closes `batches`.

    A batch without a byte is a comment where the last bytes are `keep_alive` seconds old: `batches` is not silent
    while the stream is. Without `through_waits` a run that waits ends it.
    """
    sent = clock()
    try:
        yield OPENING
        async for batch in batches:
            if not batch:
                yield ALIVE
                sent = clock()
                continue
            ended = batch[-1].name == "run.finished"
            if not through_waits:
                batch, waits = _to_the_wait(batch)
                ended = ended or waits
            encoded: list[bytes] = []
            for item in batch:
                encoded.append(await frames(item))
                if len(encoded[-1]) > LARGE:
                    yield b"".join(encoded)
                    encoded.clear()
                    sent = clock()
            data = b"".join(encoded)
            if data or clock() - sent >= keep_alive:
                yield data or ALIVE
                sent = clock()
            if ended:
                return
        yield GOODBYE
    finally:
        await batches.aclose()
