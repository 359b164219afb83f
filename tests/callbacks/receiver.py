"""A receiver of callbacks on this machine: keeps what comes, answers as told, and checks signatures by code of its own."""

from __future__ import annotations

import asyncio
import base64
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import msgspec

Answer = bytes | Callable[[asyncio.StreamWriter], Awaitable[None]]


class Received(msgspec.Struct, frozen=True):
    """One request. Header names in lower case."""

    target: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return msgspec.json.decode(self.body)


def answer(status: str = "204 No Content", body: bytes = b"", **headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status}", *(f"{name.replace('_', '-')}: {value}" for name, value in headers.items())]
    if not status.startswith("204"):
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


class Receiver:
    """Gives `answers` in turn, then `always`."""

    def __init__(self) -> None:
        self.port = 0
        self.answers: list[Answer] = []
        self.always: Answer = answer()
        self.requests: list[Received] = []
        self.shakes_hands: asyncio.Event | None = None
        self._more = asyncio.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hook?token=1"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            begun = await reader.read(1)
            if begun == b"\x16":  # TLS
                return await self.hello(writer)
            head = (begun + await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            first, *lines = head.rstrip().split("\r\n")
            headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
            body = await reader.readexactly(int(headers["content-length"]))
            self.requests.append(Received(first.split()[1], headers, body))
            self._more.set()
            said = self.answers.pop(0) if self.answers else self.always
            if isinstance(said, bytes):
                writer.write(said)
                await writer.drain()
            else:
                await said(writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    async def hello(self, writer: asyncio.StreamWriter) -> None:
        """It speaks no TLS, and says so, if ever."""
        if self.shakes_hands is not None:
            await self.shakes_hands.wait()
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    async def got(self, count: int) -> list[Received]:
        """What came, once so many did."""
        async with asyncio.timeout(20):
            while len(self.requests) < count:
                self._more.clear()
                await self._more.wait()
        return self.requests


@asynccontextmanager
async def receiving() -> AsyncIterator[Receiver]:
    receiver = Receiver()
    server = await asyncio.start_server(receiver.serve, "127.0.0.1", 0)
    receiver.port = server.sockets[0].getsockname()[1]
    try:
        yield receiver
    finally:
        server.close()


def verified(secret: str, received: Received) -> bool:
    """Whether the request is signed with that secret: HMAC as RFC 2104 defines it, over what the specification names."""
    headers = received.headers
    told = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + received.body
    key = base64.b64decode(secret.split("_", 1)[1]).ljust(64, b"\0")
    inner = hashlib.sha256(bytes(byte ^ 0x36 for byte in key) + told).digest()
    signature = hashlib.sha256(bytes(byte ^ 0x5C for byte in key) + inner).digest()
    return f"v1,{base64.b64encode(signature).decode()}" in headers["webhook-signature"].split(" ")
