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
from app.api.sse import GOODBYE, REFUSED
from app.domain.errors import RequestError
from app.domain.shares import has_room

STRANGERS = range(4, 100)
"""How many sockets may be open of whom it is not known who they are, at least and at most; between these a twentieth of all streams."""
SHORT_PATIENCE = 2.0
"""Seconds in which a client has to say who it is while many do not."""
GLANCE = 0.5
"""Seconds between looks whether many do not."""
SEND_TIMEOUT = 60.0
"""Seconds that a client may take to receive what it is sent at once; up to half as long again, until that is seen."""
LAST_WORD = 1.0
"""Seconds in which a client has to take what it is told last, once it may have no more."""
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
        send_timeout: float = SEND_TIMEOUT,
    ) -> None:
        """A stream also ends when `revocations` says so (None: nobody does). `refused` is told `streams` whenever one was too many."""
        self._limit = limit
        self._max_age = max_age
        self._revocations = revocations
        self._refused = refused
        self._send_timeout = send_timeout
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
        own = {**HEADERS, **(headers or {})}
        return EventStream(_Served(content, left, self._max_age, self._send_timeout, own, watch))

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

    __slots__ = ("_content", "_farewell", "_left", "_max_age", "_send_timeout", "_since", "_timers", "_watch")

    def __init__(
        self,
        content: Content,
        left: Callable[[], None],
        max_age: float,
        send_timeout: float,
        headers: dict[str, str],
        watch: Callable[[Cut], Cut],
    ) -> None:
        super().__init__(iterator=content, media_type=MEDIA_TYPE, headers=headers)
        self._content = content
        self._left = left
        self._max_age = max_age
        self._send_timeout = send_timeout
        self._watch = watch
        self._farewell = b""
        self._since: float | None = None
        """Since when something is being sent, by the loop's clock. None: nothing is."""
        self._timers: dict[str, asyncio.TimerHandle] = {}

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
        self._look(sending)
        if self._max_age:
            age = self._max_age * random.uniform(0.9, 1.0)
            self._timers["age"] = asyncio.get_running_loop().call_later(age, self._expire, sending)
        leave = self._watch(lambda: self._cut(sending))
        try:
            await asyncio.wait([gone, sending], return_when=asyncio.FIRST_COMPLETED)
        finally:
            leave()
            for timer in self._timers.values():
                timer.cancel()
            for task in (gone, sending):
                task.cancel()
            await asyncio.wait([gone, sending])
        if not sending.cancelled():
            sending.result()

    def _look(self, sending: asyncio.Task[None]) -> None:
        """Look again and again: a client that has taken nothing for so long has had its time."""
        loop = asyncio.get_running_loop()
        if self._since is not None and loop.time() - self._since >= self._send_timeout:
            sending.cancel()
        else:
            self._timers["look"] = loop.call_later(self._send_timeout / 2, self._look, sending)

    def _expire(self, sending: asyncio.Task[None]) -> None:
        """The stream is old enough: it ends now where it has nothing to send, else after what is being sent."""
        self._farewell = GOODBYE
        if self._since is None:
            sending.cancel()

    def _cut(self, sending: asyncio.Task[None]) -> None:
        """Its client may not have it any more: it ends now. It is told why and no more, and that only if it reads."""
        self._farewell = REFUSED
        sending.cancel()
        self._timers["cut"] = asyncio.get_running_loop().call_later(LAST_WORD, sending.cancel)

    async def _stream(self, send: Send) -> None:
        try:
            async for data in self._content:
                await self._tell(send, data)
                if self._farewell:
                    break
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if not self._farewell or self._since is not None or task is None or task.uncancel():
                raise
        if self._farewell:
            await self._tell(send, self._farewell)
        await self._tell(send, b"", more=False)

    async def _tell(self, send: Send, data: bytes, *, more: bool = True) -> None:
        self._since = asyncio.get_running_loop().time()
        await send({"type": "http.response.body", "body": data, "more_body": more})
        self._since = None


def _nothing() -> None:
    """What is called where nobody was told."""


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
