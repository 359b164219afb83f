"""A board of breakers that a test holds."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager

from app.domain.breakers import BreakerNews
from app.llm.breaker import Breakers


class Board:
    """What the other processes see: everything told, and one place a target."""

    def __init__(self) -> None:
        self.there = asyncio.Event()
        self.there.set()
        self.told: list[BreakerNews] = []
        self.known: dict[tuple[str, str], BreakerNews] = {}
        self.places: dict[tuple[str, str], str] = {}
        self.asked = 0
        self.said: Callable[[BreakerNews], None] | None = None
        self.again: Callable[[], Awaitable[bool]] | None = None
        self.slow: asyncio.Event | None = None
        self.waiting = 0
        self.mute = False

    async def back(self) -> None:
        await self.there.wait()

    async def tell(self, news: BreakerNews) -> bool | None:
        self.asked += 1
        if not self.there.is_set():
            return None
        if self.said is not None and not self.mute:
            self.said(news)
        news = BreakerNews(news.provider, news.model, news.open_for)
        self.told.append(news)
        self.known[news.provider, news.model] = news
        return True

    async def read(self, targets: Sequence[tuple[str, str]]) -> Mapping[tuple[str, str], BreakerNews] | None:
        found = {key: self.known[key] for key in targets if key in self.known} if self.there.is_set() else None
        if self.slow is not None:
            self.waiting += 1
            await self.slow.wait()
        return found

    async def claim(self, provider: str, model: str, place: str, seconds: float) -> bool | None:
        self.asked += 1
        if self.slow is not None:
            self.waiting += 1
            await self.slow.wait()
        if not self.there.is_set():
            return None
        return self.places.setdefault((provider, model), place) == place

    async def give_back(self, provider: str, model: str, place: str) -> None:
        if self.places.get((provider, model)) == place:
            del self.places[provider, model]

    async def receive(self, said: Callable[[BreakerNews], None], again: Callable[[], Awaitable[bool]]) -> None:
        self.said, self.again = said, again
        await again()
        await asyncio.Event().wait()


@asynccontextmanager
async def sharing(breakers: Breakers) -> AsyncIterator[None]:
    """What others know is known, and for the block each learns what the other does."""
    await breakers.learn()
    async with asyncio.TaskGroup() as group:
        task = group.create_task(breakers.share())
        try:
            yield
        finally:
            task.cancel()
