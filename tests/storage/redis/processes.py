"""Processes that share their breakers over a real server."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from redis.asyncio import Redis

from app.llm.breaker import Breakers, Permit
from app.storage.redis.breakers import RedisBreakers
from app.storage.redis.live import open_live
from tests.llm.board import sharing
from tests.waiting import until

P = ("openai", "org/model:free")
WINDOW = 30.0


class Process:
    """One process: its own clock, which only the test moves, and its own link. `call`: the last one that was admitted."""

    def __init__(self, url: str, window: float) -> None:
        self.url = url
        self.now = 5000.0
        self.window = window
        self.breakers: Breakers
        self.call: Permit
        self.board: RedisBreakers

    @property
    def state(self) -> str:
        return self.breakers.state(*P).name

    @property
    def left(self) -> float | None:
        return self.breakers.state(*P).retry_in

    async def asks(self) -> bool:
        permit = await self.breakers.admit(*P)
        if permit is not None:
            self.call = permit
        return permit is not None

    async def opens(self, retry_after: float | None = None) -> None:
        assert await self.asks()
        self.call.failed("opens", retry_after)


@asynccontextmanager
async def process(
    url: str, *, window: float = WINDOW, timeout: float = 5.0, idle: float = 5.0
) -> AsyncIterator[Process]:
    async with open_live(url, timeout=timeout, retry=0.1) as live:
        one = Process(url, window)
        one.board = RedisBreakers(link=live.link, idle=idle)
        one.breakers = Breakers(open_seconds=window, targets=[P], board=one.board, clock=lambda: one.now)
        async with sharing(one.breakers):
            yield one


async def listeners(url: str, count: int) -> None:
    """So many processes hear the news of that database."""
    async with Redis.from_url(url) as admin:
        channel = f"steadyhand:breakers:{url.rpartition('/')[2] if url.count('/') > 2 else 0}"

        async def enough() -> bool:
            ((_, heard),) = await admin.pubsub_numsub(channel)
            return bool(heard == count)

        await until(enough)
