"""A client of `/ws` over a real connection."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp

from app.telemetry.http import AsgiApp
from tests.api.edge import listening


class Talk:
    """One open socket: what is said to it, and what it says."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self.socket = socket

    async def say(self, kind: str, **more: Any) -> None:
        await self.socket.send_json({"type": kind} | more)

    async def hear(self) -> dict[str, Any]:
        """The next frame."""
        message = await self.socket.receive(timeout=20)
        assert message.type == aiohttp.WSMsgType.TEXT, message
        frame: dict[str, Any] = message.json()
        return frame

    async def hear_all(self, runs: int = 1) -> list[dict[str, Any]]:
        """Every frame until so many runs have ended."""
        frames = []
        while runs:
            frames.append(await self.hear())
            runs -= frames[-1].get("event") == "run.finished"
        return frames

    async def refused(self, code: str) -> dict[str, Any]:
        """The next frame, which is an error of that code."""
        frame = await self.hear()
        assert (frame["type"], frame.get("problem", {}).get("code")) == ("error", code), frame
        assert frame["problem"]["request_id"]
        return frame

    async def closed(self) -> int | None:
        """The code that the service closed the socket with, after whatever it still said."""
        while (message := await self.socket.receive(timeout=20)).type == aiohttp.WSMsgType.TEXT:
            pass
        assert message.type in (aiohttp.WSMsgType.CLOSE, aiohttp.WSMsgType.CLOSED), message
        return self.socket.close_code


@asynccontextmanager
async def talking(app: AsgiApp, **options: Any) -> AsyncIterator[Talk]:
    """A socket to the application behind the real server."""
    async with listening(app) as port, talking_to(port, **options) as talk:
        yield talk


@asynccontextmanager
async def talking_to(port: int, **options: Any) -> AsyncIterator[Talk]:
    """A socket to that port of this machine."""
    async with (
        aiohttp.ClientSession() as session,
        session.ws_connect(f"ws://127.0.0.1:{port}/ws", **options) as socket,
    ):
        yield Talk(socket)
    await asyncio.sleep(0)
