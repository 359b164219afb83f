"""Responses that stream events: no more of them at once than allowed, each closed by whoever serves it."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from functools import partial
from typing import Any

from litestar import Litestar, Request
from litestar.response import Stream
from litestar.response.base import ASGIResponse
from litestar.response.streaming import ASGIStreamingResponse
from litestar.types import Receive, Scope, Send

from app.api.revocations import Cut, Revocations
from app.api.sse import GOODBYE
from app.domain.errors import RequestError
from app.domain.shares import has_room

STRANGERS = range(4, 100)
"""How many sockets may be open of whom it is not known who they are, at least and at most; between these a twentieth of all streams."""
SHORT_PATIENCE = 2.0
"""Seconds in which a client has to say who it is while many do not."""
GLANCE = 0.5
"""Seconds between looks whether many do not."""
MEDIA_TYPE = "text/event-stream"
HEADERS = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}

Content = AsyncGenerator[bytes, None]


class OpenStreams:
    """Counts the streams of this process up to `limit`, which tenants share (`app.domain.shares`). One that is `max_age` seconds old is handed over: its client is told to reconnect.

    By then some end up to a tenth earlier, so that clients that came together do not all come back together. 0: at no age.
    """

    def __init__(
        self,
        *,
        limit: int,
        max_age: float = 0.0,
        revocations: Revocations | None = None,
        refused: Callable[[str], None] = lambda _: None,
    ) -> None:
        """A stream also ends when `revocations` says so (None: nobody does). `refused` is told `streams` whenever one was too many."""
        self._limit = limit
        self._max_age = max_age
        self._revocations = revocations
        self._refused = refused
        self._of_tenants: Counter[str] = Counter()
        self._most_strangers = min(max(limit // 20, STRANGERS.start), STRANGERS.stop)
        self._strangers = 0
        self.count = 0

    async def open(
        self,
        begin: Callable[[], Awaitable[Content]],
        *,
        tenant: str,
        headers: Mapping[str, str] | None = None,
        credential: str | None = None,
    ) -> EventStream:
        """The tenant's response that streams what `begin` gives, counted from now to its end; `begin` is called only if there is room.

        `headers` are looked at when it has returned. It is for whoever has that credential. Raises `RequestError` queue_full where one more would be too many.
        """
        self.enter(tenant)
        try:
            content = await begin()
        except BaseException:
            self.leave(tenant)
            raise

        def watch(cut: Cut) -> Cut:
            return _nothing if self._revocations is None else self._revocations.enter(credential, cut)

        left = partial(self.leave, tenant)
        return EventStream(_Served(content, left, self._max_age, {**HEADERS, **(headers or {})}, watch))

    def enter(self, tenant: str) -> None:
        """One more of the tenant is open, also one of another kind. Raises `RequestError` queue_full where it would be too many."""
        if not has_room(self._limit, self.count, self._of_tenants[tenant]):
            self._refused("streams")
            raise RequestError("queue_full", f"{self._limit} streams are open already. Try again later, or elsewhere.")
        self.count += 1
        self._of_tenants[tenant] += 1

    def leave(self, tenant: str) -> None:
        """One of them is over."""
        self.count -= 1
        self._of_tenants[tenant] -= 1
        if not self._of_tenants[tenant]:
            del self._of_tenants[tenant]

    def enter_stranger(self) -> None:
        """One more is open that may become anybody's; it takes nobody's place. Raises `RequestError` queue_full where it would be too many."""
        if self._strangers >= self._most_strangers:
            self._refused("streams")
            raise RequestError(
                "queue_full",
                f"{self._strangers} sockets have not said yet who they are. Try again in a moment, or send the key with the handshake.",
            )
        self._strangers += 1

    def leave_stranger(self) -> None:
        """One of those is over, or somebody's."""
        self._strangers -= 1

    @property
    def crowded(self) -> bool:
        """Whether half of the places for strangers are taken."""
        return self._strangers * 2 >= self._most_strangers


class Seat:
    """A place among the open streams: a tenant's, or (None) among the few for those of whom it is not known who they are.

    Raises `RequestError` queue_full.
    """

    def __init__(self, streams: OpenStreams, tenant: str | None = None) -> None:
        self._streams = streams
        self._tenant = tenant
        if tenant is None:
            streams.enter_stranger()
        else:
            streams.enter(tenant)

    async def waited(self, patience: float) -> None:
        """Returns after so many seconds; earlier, though not before `SHORT_PATIENCE`, once strangers are many."""
        clock = asyncio.get_running_loop().time
        began, until = clock(), min(SHORT_PATIENCE, patience)
        while (left := began + until - clock()) > 0:
            await asyncio.sleep(left)
            if not self._streams.crowded:
                until = min(until + GLANCE, patience)

    def take(self, tenant: str) -> None:
        """It is that tenant's from now on. Raises `RequestError` queue_full; then nothing has changed."""
        if tenant != self._tenant:
            self._streams.enter(tenant)
            self.leave()
            self._tenant = tenant

    def leave(self) -> None:
        """It is free."""
        if self._tenant is None:
            self._streams.leave_stranger()
        else:
            self._streams.leave(self._tenant)


class EventStream(Stream):
    """A response that is served by one of our own, through proxies unbuffered."""

    def __init__(self, served: _Served) -> None:
        super().__init__((), media_type=MEDIA_TYPE, status_code=200)
        self._served = served

    def to_asgi_response(self, app: Litestar | None, request: Request[Any, Any, Any], **_: Any) -> ASGIResponse:
        """What serves it; the route has no headers or cookies to add."""
        return self._served


class _Served(ASGIStreamingResponse):
    """Streams those bytes; calls `left` when it is over, however it ends."""

    __slots__ = ("_content", "_expired", "_left", "_max_age", "_resting", "_watch")

    def __init__(
        self,
        content: Content,
        left: Callable[[], None],
        max_age: float,
        headers: dict[str, str],
        watch: Callable[[Cut], Cut],
    ) -> None:
        super().__init__(iterator=content, media_type=MEDIA_TYPE, headers=headers)
        self._content = content
        self._left = left
        self._max_age = max_age
        self._watch = watch
        self._expired = False
        self._resting = False

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
        timer = None
        if self._max_age:
            age = self._max_age * random.uniform(0.9, 1.0)
            timer = asyncio.get_running_loop().call_later(age, self._expire, sending)
        leave = self._watch(lambda: self._expire(sending))
        try:
            await asyncio.wait([gone, sending], return_when=asyncio.FIRST_COMPLETED)
        finally:
            leave()
            if timer is not None:
                timer.cancel()
            for task in (gone, sending):
                task.cancel()
            await asyncio.wait([gone, sending])
        if not sending.cancelled():
            sending.result()

    def _expire(self, sending: asyncio.Task[None]) -> None:
        """The stream is old enough, or its client may not have it any more: it ends now where it has nothing to send, else after what is being sent."""
        self._expired = True
        if self._resting:
            sending.cancel()

    async def _stream(self, send: Send) -> None:
        try:
            async for data in self._content:
                self._resting = False
                await send({"type": "http.response.body", "body": data, "more_body": True})
                if self._expired:
                    await send({"type": "http.response.body", "body": GOODBYE, "more_body": True})
                    break
                self._resting = True
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if not (self._expired and self._resting) or task is None or task.uncancel():
                raise
            await send({"type": "http.response.body", "body": GOODBYE, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


def _nothing() -> None:
    """What is called where nobody was told."""


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
