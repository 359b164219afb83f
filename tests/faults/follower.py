"""A client of a run's stream that loses its connection, comes back with the last id that it saw, and keeps what it was told."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

import msgspec

PAUSE = 0.02
"""Seconds before it comes back."""


class Broken(Exception):
    """The connection ended, or the service sent the client away."""


class Follower:
    """Reads `path` until `run.finished`. With `drop_after` it leaves after so many events and comes back.

    `texts`: what the deltas of each message spell; `finished`: the payload of `run.finished`; `problems`: every promise of
    the stream that was not kept. Ids of stored events follow each other without a gap or a repetition; a delta begins where
    the text before it ended; a whole message is what its deltas spelt.
    """

    def __init__(self, *, port: int, path: str, drop_after: int | None = None, cursor: str | None = None) -> None:
        self.port = port
        self.path = path
        self.texts: dict[str, str] = {}
        self.whole: dict[str, str] = {}
        self.names: list[str] = []
        self.finished: dict[str, Any] | None = None
        self.problems: list[str] = []
        self.connections = 0
        self.at: list[tuple[float, str]] = []
        self._drop_after = drop_after
        self._cursor = cursor
        self._seq = int((cursor or "0").partition(".")[0])

    @property
    def spelt(self) -> str:
        """The last message."""
        return list(self.whole.values())[-1] if self.whole else ""

    async def run(self, within: float = 30.0) -> Follower:
        """Itself, once `run.finished` has come."""
        deadline = time.monotonic() + within
        while self.finished is None:
            left = deadline - time.monotonic()
            assert left > 0, f"no run.finished within {within} s, at {self._cursor} of {self.path}: {self.names[-5:]}"
            with suppress(OSError, Broken, TimeoutError, asyncio.IncompleteReadError):
                async with asyncio.timeout(left):
                    await self._visit()
            if self.finished is None:
                await asyncio.sleep(PAUSE)
        return self

    async def _visit(self) -> None:
        """One connection."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        self.connections += 1
        try:
            lines = [f"GET {self.path} HTTP/1.1", "Host: localhost", "Accept: text/event-stream"]
            if self._cursor is not None:
                lines.append(f"Last-Event-ID: {self._cursor}")
            writer.write("\r\n".join([*lines, "", ""]).encode())
            await self._opened(reader)
            seen = 0
            async for fields in _events(reader):
                self._take(fields)
                seen += 1
                if self.finished is not None or seen == self._drop_after:
                    return
        finally:
            writer.transport.abort()

    async def _opened(self, reader: asyncio.StreamReader) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        status = int(head.split(" ")[1])
        if status == 503:
            raise Broken(head)
        if status != 200:
            said = await reader.read(2000)
            raise AssertionError(f"{head}{said.decode(errors='replace')}")

    def _take(self, fields: dict[str, str]) -> None:
        id, name = fields.get("id"), fields["event"]
        data: dict[str, Any] = msgspec.json.decode(fields["data"])
        self.names.append(name)
        self.at.append((time.monotonic(), name))
        if name == "message.delta":
            self._delta(id or "", data)
        elif name == "message.reset":
            self.texts.pop(data["message_id"], None)
            self._stored(id, again=True)
        elif id is not None:
            self._stored(id)
        if name == "message.completed" and data["message"]["role"] == "assistant":
            message = data["message"]
            if (spelt := self.texts.get(message["id"], "")) != message["content"]:
                self._wrong(f"{message['id']} is {message['content']!r}, its deltas spell {spelt!r}")
            self.whole[message["id"]] = message["content"]
        if name == "run.finished":
            self.finished = data
        if id is not None:
            self._cursor = id

    def _delta(self, id: str, data: dict[str, Any]) -> None:
        had = self.texts.get(data["message_id"], "")
        if data["offset"] != len(had):
            self._wrong(f"a delta at {data['offset']} after {len(had)} code points: {data}")
        self.texts[data["message_id"]] = had + data["text"]
        if id != f"{self._seq}.{data['offset'] + len(data['text'])}":
            self._wrong(f"a delta has the id {id} after event {self._seq}: {data}")

    def _stored(self, id: str | None, *, again: bool = False) -> None:
        seq = int(id or 0)
        if seq != self._seq + 1 and not (again and seq == self._seq):
            self._wrong(f"event {id} came after {self._seq}")
        self._seq = seq

    def _wrong(self, said: str) -> None:
        self.problems.append(f"connection {self.connections}: {said}")


async def _events(reader: asyncio.StreamReader) -> AsyncIterator[dict[str, str]]:
    """The frames with data of a chunked SSE body; raises `Broken` at its end."""
    rest = b""
    while size := int((await reader.readline()).strip() or b"0", 16):
        rest += (await reader.readexactly(size + 2))[:-2]
        *frames, rest = rest.split(b"\n\n")
        for frame in frames:
            fields = dict(
                line.split(": ", 1) for line in frame.decode().split("\n") if ": " in line and not line.startswith(":")
            )
            if "data" in fields:
                yield fields
    raise Broken
