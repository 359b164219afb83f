"""A web that is not there: names, their addresses, and raw servers behind them."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, Sequence
from ipaddress import ip_address
from typing import Any

import httpcore2

from app.egress.addresses import is_public
from app.tools.http_fetch import Fetcher

PUBLIC = "93.184.215.14"


OTHER = "2606:2800:21f:cb07:6820:80da:af6b:8b2c"


Handler = Callable[[bytes, asyncio.StreamWriter], Awaitable[None]]


def answer(body: bytes, kind: str = "text/plain", status: str = "200 OK", **headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status}", f"Content-Type: {kind}", f"Content-Length: {len(body)}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def redirect(location: str, status: str = "302 Found") -> bytes:
    return answer(b"", status=status, Location=location)


def numeric(host: str) -> str:
    """A number in any of the spellings that `getaddrinfo` understands."""
    return "127.0.0.1" if host == "localhost" else socket.inet_ntoa(socket.inet_aton(host))


class Web:
    """A server on this machine that stands for every public address, and the DNS that leads to it."""

    def __init__(self) -> None:
        self.names: dict[str, list[list[str]]] = {"example.com": [[PUBLIC]]}
        self.pages: dict[str, bytes | Handler] = {}
        self.connections: list[tuple[str, int]] = []
        self.lookups: list[str] = []
        self.requests: list[bytes] = []
        self.refused: set[str] = set()
        self.port = 0

    async def resolve(self, host: str, port: int) -> Sequence[str]:
        self.lookups.append(host)
        if host not in self.names:
            return [str(ip_address(host)) if ":" in host else numeric(host)]
        answers = self.names[host]
        return answers.pop(0) if len(answers) > 1 else answers[0]

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            self.requests.append(head)
            page = self.pages.get(head.split()[1].decode(), answer(b"nothing here", status="404 Not Found"))
            if isinstance(page, bytes):
                writer.write(page)
                await writer.drain()
            else:
                await page(head, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    def fetcher(self, time_limit: float = 20, permits: Callable[[str], str | None] = lambda _: None) -> Fetcher:
        return Fetcher(
            resolver=self.resolve, allow=is_public, network=Cable(self), time_limit=time_limit, permits=permits
        )


class Cable(httpcore2.AsyncNetworkBackend):
    """Leads every connection to the web's one server."""

    def __init__(self, web: Web) -> None:
        self._web = web

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Any = None,
    ) -> httpcore2.AsyncNetworkStream:
        self._web.connections.append((host, port))
        if host in self._web.refused:
            raise httpcore2.ConnectError("refused")
        return await httpcore2.AnyIOBackend().connect_tcp("127.0.0.1", self._web.port, timeout)
