"""The HTTP server of a process, on a socket that was opened before."""

from __future__ import annotations

import asyncio
import socket
import sys
from typing import Any

from granian.constants import HTTPModes, Interfaces
from granian.http import HTTP1Settings
from granian.net import SocketHolder  # type: ignore[attr-defined]  # without an `as` in granian
from granian.server.embed import Server

from app.domain.errors import SteadyhandError
from app.telemetry.http import AsgiApp

BACKLOG = 2048
MAX_HEADERS = 65_536
"""Bytes of headers that are read before a request is refused, and then what one read brings."""
REACHED_BY = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104  # compared with, not bound


class HeldServer(Server):
    """A server on a socket that listens already, and is the server's once that serves.

    By itself it binds with SO_REUSEPORT: two of them share a port, and its connections, without a word. It speaks HTTP/1.1 only:
    while it finds out whether a client means HTTP/2, no time limit holds. `read_timeout`: seconds for a request's headers, and
    for a connection without a request.
    """

    _shd: Any

    def __init__(self, app: AsgiApp, held: socket.socket, *, backpressure: int, read_timeout: float = 30.0) -> None:
        address, port = held.getsockname()[:2]
        super().__init__(
            app,
            address=address,
            port=port,
            interface=Interfaces.ASGINL,
            http=HTTPModes.http1,
            http1_settings=HTTP1Settings(header_read_timeout=round(read_timeout * 1000), max_buffer_size=MAX_HEADERS),
            backlog=BACKLOG,
            backpressure=backpressure,
            log_enabled=False,
        )
        self._held = held

    def _init_shared_socket(self) -> None:
        posix = () if sys.platform == "win32" else (False, BACKLOG)  # not a Unix socket
        self._shd = SocketHolder(self._held.detach(), *posix)  # type: ignore[call-arg]  # granian's stub has no arguments


async def answers(address: str, port: int, listening: asyncio.Task[None]) -> None:
    """Returns when a request was answered. Raises what ended the server instead."""
    asking = asyncio.create_task(_ask(REACHED_BY.get(address, address), port))
    try:
        await asyncio.wait([asking, listening], return_when=asyncio.FIRST_COMPLETED)
        await (listening if listening.done() else asking)
    finally:
        asking.cancel()
        await asyncio.wait([asking])


async def _ask(host: str, port: int) -> None:
    reader, writer = await asyncio.open_connection(host, port)
    try:
        writer.write(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        answer = await reader.read()
    finally:
        writer.close()
    if not answer.startswith(b"HTTP/1.1 200 "):
        raise SteadyhandError(f"the server on {host}:{port} does not answer: {answer[:80]!r}")
