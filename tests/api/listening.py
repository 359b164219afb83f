"""A client that reads a stream at its own pace: as an ASGI server would see it, or over a real connection."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx2
import msgspec

from app.telemetry.http import AsgiApp
from tests.api.edge import Frame, parse


class Listener:
    """One request to an application. Takes what is sent while `reading`; hangs up when told."""

    def __init__(self) -> None:
        self.reading = asyncio.Event()
        self.reading.set()
        self.gone = asyncio.Event()
        self.status = 0
        self.content = bytearray()
        self.offered = 0
        self.offering = asyncio.Event()
        self.ended = False
        self._more = asyncio.Event()

    async def receive_gone(self) -> dict[str, Any]:
        await self.gone.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Any) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
        else:
            self.offered += len(message["body"])
            self.offering.set()
            await self.reading.wait()
            self.content += message["body"]
            self.ended = not message["more_body"]
        self._more.set()

    async def seen(self, text: bytes) -> None:
        """Returns once that was received."""
        while text not in self.content:
            self._more.clear()
            await self._more.wait()


@asynccontextmanager
async def listener(
    app: AsgiApp, method: str, path: str, body: Any = None, *, reading: bool = True
) -> AsyncIterator[Listener]:
    """A client of the application; at the end it hangs up, and the application has returned."""
    client = Listener()
    if not reading:
        client.reading.clear()
    plain, _, query = path.partition("?")
    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": method, "scheme": "http",
        "path": plain, "raw_path": plain.encode(), "query_string": query.encode(), "root_path": "",
        "headers": [(b"host", b"x"), (b"content-type", b"application/json")],
        "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 2),
    }  # fmt: skip
    unread = [
        {"type": "http.request", "body": msgspec.json.encode(body) if body is not None else b"", "more_body": False}
    ]

    async def receive() -> dict[str, Any]:
        return unread.pop() if unread else await client.receive_gone()

    task = asyncio.ensure_future(app(scope, receive, client.send))
    try:
        yield client
    finally:
        client.gone.set()
        await task


@asynccontextmanager
async def streaming(
    client: httpx2.AsyncClient, method: str, path: str, body: Any = None, **headers: str
) -> AsyncIterator[AsyncIterator[Frame | None]]:
    """The events of a stream as they come over the wire, None for a comment; leaving hangs up."""
    async with client.stream(method, path, json=body, headers=headers) as response:
        assert response.status_code == 200, await response.aread()
        yield _frames(response)


async def _frames(response: httpx2.Response) -> AsyncIterator[Frame | None]:
    pending = ""
    async for text in response.aiter_text():
        *blocks, pending = (pending + text).split("\n\n")
        for block in blocks:
            if block != "retry: 1000":
                yield parse(block)
    assert pending == ""
