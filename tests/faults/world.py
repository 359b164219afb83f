"""What the tools change: a server outside the product that counts every effect, by tool, call and idempotency key."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import msgspec

from tests.faults.cuts import Knife
from tests.faults.sockets import listening

TOOLS = '''
"""Tools whose effects somebody else counts."""

import asyncio
import json
import os
import signal
import urllib.request

from app.tools import ToolContext, tool

_WORLD = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def _told(name: str, what: str, ctx: ToolContext) -> str:
    effect = {"tool": name, "what": what, "call_id": ctx.call_id, "key": ctx.idempotency_key}
    body = json.dumps(effect | {"run_id": ctx.run_id, "pid": os.getpid()}).encode()
    with _WORLD.open(urllib.request.Request(os.environ["WORLD_URL"], body, method="POST"), timeout=60) as answer:
        return answer.read().decode()


@tool(risk="low", effect="read", timeout=50)
async def look_up(what: str, ctx: ToolContext) -> str:
    """Look something up."""
    return await asyncio.to_thread(_told, "look_up", what, ctx)


@tool(risk="low", effect="idempotent", timeout=50)
async def reserve(what: str, ctx: ToolContext) -> str:
    """Reserve something."""
    await ctx.emit("reserving", {"what": what})
    return await asyncio.to_thread(_told, "reserve", what, ctx)


@tool(risk="low", effect="write", timeout=50)
async def pay(what: str, ctx: ToolContext) -> str:
    """Pay for something."""
    return await asyncio.to_thread(_told, "pay", what, ctx)


@tool(risk="low", effect="write", timeout=50)
def ship(what: str, ctx: ToolContext) -> str:
    """Ship something."""
    return _told("ship", what, ctx)


@tool(risk="high", effect="write", timeout=50)
async def launch(what: str, ctx: ToolContext) -> str:
    """Launch something, with a person's approval."""
    return await asyncio.to_thread(_told, "launch", what, ctx)


@tool(risk="low", effect="idempotent", timeout=50)
def explode(what: str, ctx: ToolContext) -> str:
    """End the process that runs this, as long as the world says so."""
    answer = _told("explode", what, ctx)
    if "deadly" in answer:
        os.kill(os.getpid(), signal.SIGKILL)
    return answer
'''

WRITES = frozenset({"pay", "ship", "launch"})


class Effect(msgspec.Struct, frozen=True, kw_only=True):
    """What a tool did. `at` in Unix seconds, `pid` of the process that did it."""

    tool: str
    what: str
    call_id: str
    key: str
    run_id: str
    pid: int
    at: float = 0.0


class World:
    """`effects` in the order they happened. `gate` holds back every answer while it is not set; `deadly`: `explode` does.

    `holds`: an answer waits until this says so.
    """

    def __init__(self, *, knife: Knife) -> None:
        self.url = ""
        self.effects: list[Effect] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.deadly = False
        self.holds: Callable[[Effect], Awaitable[None]] | None = None
        self._knife = knife
        self._happened = asyncio.Condition()

    def of(self, run_id: str) -> list[Effect]:
        return [effect for effect in self.effects if effect.run_id == run_id]

    async def wait(self, count: int, within: float = 15.0) -> list[Effect]:
        """All effects, once there are so many."""
        async with asyncio.timeout(within), self._happened:
            await self._happened.wait_for(lambda: len(self.effects) >= count)
        return self.effects

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection: one effect."""
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
            length = int(head.partition("content-length:")[2].partition("\r\n")[0])
            effect = msgspec.json.decode(await reader.readexactly(length), type=Effect)
            if await self._happens(effect):
                answer = f"{effect.tool}: {effect.what} is {'deadly' if self.deadly else 'done'}".encode()
                writer.write(
                    b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(answer) + answer
                )
                await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # the tool's process is gone

    async def _happens(self, effect: Effect) -> bool:
        """Whether the tool gets its answer."""
        number = self._knife.count("effect")
        if not await self._knife.passes("effect", number, "before", lambda: effect.pid):
            return False
        async with self._happened:
            self.effects.append(msgspec.structs.replace(effect, at=time.time()))
            self._happened.notify_all()
        await self.gate.wait()
        if self.holds is not None:
            await self.holds(effect)
        return await self._knife.passes("effect", number, "after", lambda: effect.pid)


@asynccontextmanager
async def open_world(knife: Knife) -> AsyncIterator[World]:
    """A world on a free port; it goes to the tools as WORLD_URL."""
    world = World(knife=knife)
    async with listening(world.serve, lambda accept: asyncio.start_server(accept, "127.0.0.1", 0)) as server:
        world.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/effects"
        yield world
