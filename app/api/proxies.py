"""The service behind proxies: who really asks, and under which path the world sees us."""

from __future__ import annotations

import ipaddress
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from typing import Any

Scope = MutableMapping[str, Any]
AsgiMessage = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[AsgiMessage]]
Send = Callable[[AsgiMessage], Awaitable[None]]
AsgiApp = Callable[[Scope, Receive, Send], Awaitable[None]]
Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

MAX_HOPS = 32
"""Addresses of X-Forwarded-For that are looked at, from its end: what stands before them is anybody's text."""
_SCHEMES = {b"http": ("http", "ws"), b"https": ("https", "wss")}


def behind_proxies(app: AsgiApp, *, trusted: Sequence[str], root_path: str) -> AsgiApp:
    """The application as those proxies show it; itself where there is nothing to know of any."""
    if not trusted and not root_path:
        return app
    return BehindProxies(app=app, trusted=[ipaddress.ip_network(network) for network in trusted], root_path=root_path)


class BehindProxies:
    """Wraps an ASGI application.

    Where the peer is in a trusted network, the client is the last address of X-Forwarded-For that is in none of them, and scheme
    and `Host` are those of X-Forwarded-Proto and X-Forwarded-Host (the last ones: each is what the nearest proxy says). From any
    other peer these headers mean nothing. Paths are taken with `root_path` and without it, as some proxies take it away and some
    leave it; `Location` has it.
    """

    def __init__(self, *, app: AsgiApp, trusted: Sequence[Network], root_path: str) -> None:
        self._app = app
        self._trusted = tuple(trusted)
        self._root_path = root_path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection, seen from before the proxies."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        scope = dict(scope)
        peer = _address((scope.get("client") or ("",))[0])
        if peer is not None and self._trusts(peer):
            self._believe(scope, peer)
        if self._root_path:
            self._strip(scope)
            send = self._located(send)
        await self._app(scope, receive, send)

    def _trusts(self, address: Address) -> bool:
        return any(address in network for network in self._trusted)

    def _believe(self, scope: Scope, peer: Address) -> None:
        hops: list[bytes] = []
        scheme = host = None
        for name, value in scope["headers"]:
            if name == b"x-forwarded-for":
                hops += value.split(b",")
            elif name == b"x-forwarded-proto":
                scheme = value.rsplit(b",", 1)[-1].strip().lower()
            elif name == b"x-forwarded-host":
                host = value.rsplit(b",", 1)[-1].strip()
        client = self._client(hops, peer)
        if client is not peer:
            scope["client"] = (str(client), 0)
        if scheme in _SCHEMES:
            scope["scheme"] = _SCHEMES[scheme][scope["type"] == "websocket"]
        if host:
            scope["headers"] = [
                *((name, value) for name, value in scope["headers"] if name != b"host"),
                (b"host", host),
            ]

    def _client(self, hops: Sequence[bytes], peer: Address) -> Address:
        client = peer
        for hop in reversed(hops[-MAX_HOPS:]):
            address = _address(hop.decode("latin-1").strip())
            if address is None:
                break
            client = address
            if not self._trusts(address):
                break
        return client

    def _strip(self, scope: Scope) -> None:
        """The path as the application knows it."""
        root = self._root_path
        if scope["path"] == root or scope["path"].startswith(root + "/"):
            scope["path"] = scope["path"][len(root) :] or "/"
            raw = scope.get("raw_path")
            if raw is not None and raw.startswith(root.encode()):
                scope["raw_path"] = raw[len(root) :] or b"/"

    def _located(self, send: Send) -> Send:
        root = self._root_path.encode()

        async def located(message: AsgiMessage) -> None:
            if message["type"] == "http.response.start":
                headers = [
                    (name, root + value if name == b"location" and value.startswith(b"/") else value)
                    for name, value in message.get("headers", ())
                ]
                message = {**message, "headers": headers}
            await send(message)

        return located


def _address(text: str) -> Address | None:
    """An address, also with a port behind it, as some proxies write it."""
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address
