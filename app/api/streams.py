"""Responses that stream events: no more of them at once than allowed, each closed by whoever serves it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any

from litestar import Litestar, Request
from litestar.response import Stream
from litestar.response.base import ASGIResponse
from litestar.response.streaming import ASGIStreamingResponse
from litestar.types import Receive, Scope, Send

from app.domain.errors import RequestError

MEDIA_TYPE = "text/event-stream"
HEADERS = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}

Content = AsyncGenerator[bytes, None]


class OpenStreams:
    """Counts the streams of this process up to `limit`."""

    def __init__(self, *, limit: int) -> None:
        self._limit = limit
        self.count = 0

    async def open(self, begin: Callable[[], Awaitable[Content]]) -> EventStream:
        """The response that streams what `begin` gives, counted from now to its end; `begin` is called only if there is room.

        Raises `RequestError` queue_full where one more would be too many.
        """
        if self.count >= self._limit:
            raise RequestError("queue_full", f"{self._limit} streams are open already. Try again later, or elsewhere.")
        self.count += 1
        try:
            content = await begin()
        except BaseException:
            self.count -= 1
            raise
        return EventStream(content, self._left)

    def _left(self) -> None:
        self.count -= 1


class EventStream(Stream):
    """A response that streams those bytes, through proxies unbuffered; calls `left` when it is over, however it ends."""

    def __init__(self, content: Content, left: Callable[[], None]) -> None:
        super().__init__(content, media_type=MEDIA_TYPE, headers=HEADERS, status_code=200)
        self._served = _Served(content, left)

    def to_asgi_response(self, app: Litestar | None, request: Request[Any, Any, Any], **_: Any) -> ASGIResponse:
        """What serves it; the route has no headers or cookies to add."""
        return self._served


class _Served(ASGIStreamingResponse):
    __slots__ = ("_content", "_left")

    def __init__(self, content: Content, left: Callable[[], None]) -> None:
        super().__init__(iterator=content, media_type=MEDIA_TYPE, headers=HEADERS)
        self._content = content
        self._left = left

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._left()
            await self._content.aclose()

    async def send_body(self, send: Send, receive: Receive) -> None:
        """Send until the stream ends or the client is gone, and wait for nothing more: a server may never say that one left who had all."""
        gone = asyncio.create_task(_disconnected(receive))
        sending = asyncio.create_task(self._stream(send))
        try:
            await asyncio.wait([gone, sending], return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (gone, sending):
                task.cancel()
            await asyncio.wait([gone, sending])
        if not sending.cancelled():
            sending.result()


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
