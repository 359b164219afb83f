"""What holds for every exchange, whatever the route: headers of safety, pages of other origins, a `Host`, bodies that come in time."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec

from app.api.cors import Headers, Origins
from app.api.problems import MEDIA_TYPE, problem
from app.api.proxies import AsgiApp, AsgiMessage, Receive, Scope, Send
from app.domain.errors import RequestError

ALWAYS: Headers = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"cache-control", b"no-store"),
    (b"server", b""),
)
"""What every response has where its handler says nothing else. The empty `server` is in the place of the server's own name."""
ENCRYPTED: Headers = (*ALWAYS, (b"strict-transport-security", b"max-age=31536000"))
"""The same over TLS, which ends at a proxy: only one that is trusted can say so."""
BODY_RATE = 10_000
"""Bytes of a body that must come in a second, once its first time is over."""
PREFLIGHT = "preflight"
"""The route under which preflights are counted."""
HEALTH = frozenset({"/health", "/healthz", "/readiness"})
"""Paths that answer HEAD as GET, as some load balancers ask."""
DENIAL = "websocket.http.response"
"""The extension of ASGI by which a handshake is refused with a whole response."""
_FAULT, _NOT_FOUND = 4500, "Not Found"
"""What Litestar closes a socket with where it failed, and why it says that it did where there is none at its path."""
_BODILESS = frozenset({"GET", "HEAD", "OPTIONS"})


class HttpEdge:
    """Wraps an ASGI application. `read_timeout` in seconds: a body that has not come by then, and a second more for every
    10,000 bytes of it that have, is 408 for whoever reads it."""

    def __init__(self, *, app: AsgiApp, origins: Origins, read_timeout: float) -> None:
        self._app = app
        self._origins = origins
        self._read_timeout = read_timeout

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection. Preflights of allowed origins, requests without one `Host` and paths with `//` are answered here."""
        if scope["type"] == "websocket" and DENIAL in (scope.get("extensions") or {}):
            more = ENCRYPTED if scope.get("scheme") == "wss" else ALWAYS
            await self._app(scope, receive, _denying(scope, send, more))
            return
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if scope["method"] == "HEAD" and scope["path"] in HEALTH:
            scope, send = {**scope, "method": "GET"}, _bodiless(send)
        hosts, host, origin, asked = 0, b"", None, False
        for name, value in scope["headers"]:
            if name == b"host":
                hosts, host = hosts + 1, value
            elif name == b"origin":
                origin = value
            elif name == b"access-control-request-method":
                asked = True
        more = ENCRYPTED if scope.get("scheme") == "https" else ALWAYS
        if self._origins:
            more = (*more, *self._origins.answer(origin))
        if hosts > 1 or (not host and scope.get("http_version") == "1.1"):  # granian makes up an empty one
            told = "A request has one Host header, no more and no less (RFC 9112, 3.2)."
            await _refuse(scope, _adding(send, more), "malformed_request", told, (b"connection", b"close"))
        elif "//" in scope["path"]:
            # Litestar takes it for one slash; what stands before us and looks at paths may not.
            told = "There is nothing at this path: it holds two slashes side by side."
            await _refuse(scope, _adding(send, more), "not_found", told)
        elif asked and origin is not None and scope["method"] == "OPTIONS" and self._origins.allows(origin):
            scope["path_template"] = PREFLIGHT
            send = _adding(send, more)
            await send({"type": "http.response.start", "status": 204, "headers": self._origins.preflight()})
            await send({"type": "http.response.body", "body": b""})
        else:
            if scope["method"] not in _BODILESS:
                receive = _Body(receive, self._read_timeout).receive
            await self._app(scope, receive, _adding(send, more))


def _adding(send: Send, more: Headers) -> Send:
    """Sends with those headers in the response, but for those that it has already."""

    async def adding(message: AsgiMessage) -> None:
        if message["type"] == "http.response.start":
            headers = message.get("headers", ())
            there = {name for name, _ in headers}
            headers = [*headers, *(header for header in more if header[0] not in there or header[0] == b"vary")]
            message = {**message, "headers": headers}
        await send(message)

    return adding


def _bodiless(send: Send) -> Send:
    """Sends all but the body."""

    async def bodiless(message: AsgiMessage) -> None:
        if message["type"] == "http.response.body":
            message = {**message, "body": b""}
        await send(message)

    return bodiless


def _denying(scope: Scope, send: Send, more: Headers) -> Send:
    """Sends a problem in the place of a close that comes before the socket was accepted."""
    accepted = False

    async def denying(message: AsgiMessage) -> None:
        nonlocal accepted
        accepted = accepted or message["type"] == "websocket.accept"
        if accepted or message["type"] != "websocket.close":
            await send(message)
            return
        code = "forbidden"
        detail = message.get("reason") or "This socket is refused."
        if message.get("code") == _FAULT:
            missing = detail == _NOT_FOUND
            code = "not_found" if missing else "internal"
            detail = "There is no socket at this path." if missing else "The service failed."
        told = problem(str(scope.get("steadyhand.request_id", "")), code, detail)
        headers = [(b"content-type", MEDIA_TYPE.encode()), *more]
        await send({"type": f"{DENIAL}.start", "status": told.status, "headers": headers})
        await send({"type": f"{DENIAL}.body", "body": msgspec.json.encode(told)})

    return denying


async def _refuse(scope: Scope, send: Send, code: str, detail: str, *more: tuple[bytes, bytes]) -> None:
    told = problem(str(scope.get("steadyhand.request_id", "")), code, detail)
    headers = [(b"content-type", MEDIA_TYPE.encode()), *more]
    await send({"type": "http.response.start", "status": told.status, "headers": headers})
    await send({"type": "http.response.body", "body": msgspec.json.encode(told)})


class _Body:
    """The body of one request, as far as it has come."""

    __slots__ = ("_began", "_come", "_receive", "_seconds", "_whole")

    def __init__(self, receive: Receive, seconds: float) -> None:
        self._receive = receive
        self._seconds = seconds
        self._began: float | None = None
        self._come = 0
        self._whole = False

    async def receive(self) -> Any:
        """The next message. Raises `RequestError` request_timeout."""
        if self._whole:
            return await self._receive()
        if self._began is None:
            self._began = asyncio.get_running_loop().time()
        try:
            async with asyncio.timeout_at(self._began + self._seconds + self._come / BODY_RATE):
                message = await self._receive()
        except TimeoutError:
            raise RequestError(
                "request_timeout", "The body did not come in time. Send it again, over a better connection or in parts."
            ) from None
        self._come += len(message.get("body", b""))
        self._whole = message["type"] != "http.request" or not message.get("more_body", False)
        return message
