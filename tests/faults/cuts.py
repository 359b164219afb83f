"""Where a run is cut, and the one who cuts: every server outside the product tells it what passes."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Literal

import msgspec

Site = Literal["model", "effect", "statement"]
"""Requests at the provider, effects in the world, statements about a run on their way to PostgreSQL."""

Act = Callable[[int], bool | Awaitable[bool]]
"""Does it to the process of that id. Whether what is under way goes on, now or (awaited) later."""


class Cut(msgspec.Struct, frozen=True):
    """The `number`-th (from 1) at that site, `before` or `after` it; of a model call also after so many pieces of its answer.

    `linger`: seconds between what was sent and the cut, for the process to have read it.
    """

    site: Site
    number: int
    moment: str
    linger: float = 0.0

    def __str__(self) -> str:
        return f"{self.site} {self.number} {self.moment}" + (f" +{self.linger * 1000:.0f} ms" if self.linger else "")


def kill(pid: int) -> bool:
    """SIGKILL: nothing more comes of it."""
    os.kill(pid, signal.SIGKILL)
    return False


def stop(pid: int) -> bool:
    """SIGSTOP: what is on its way to the process waits for it."""
    os.kill(pid, signal.SIGSTOP)
    return True


def drain(pid: int) -> bool:
    """SIGTERM: what is under way ends."""
    os.kill(pid, signal.SIGTERM)
    return True


class Knife:
    """Counts what passes since it was armed, and acts once, at its cut. `pid` and `at` (Unix seconds): whom it met, and when."""

    def __init__(self) -> None:
        self.reached = asyncio.Event()
        self.pid: int | None = None
        self.at = 0.0
        self._cut: Cut | None = None
        self._act: Act = kill
        self._seen: Counter[Site] = Counter()
        self._striking: asyncio.Task[bool] | None = None

    def arm(self, cut: Cut | None, act: Act = kill) -> None:
        """Count from the beginning; with no cut nothing but that."""
        self._cut, self._act, self._seen = cut, act, Counter()
        self.reached, self.pid, self.at = asyncio.Event(), None, 0.0
        self._striking = None

    async def lay_down(self) -> None:
        """What passes from now on is safe; a cut that is being made is waited for."""
        self._cut = None
        if self._striking is not None:
            await asyncio.wait([self._striking])

    def count(self, site: Site) -> int:
        """One more of them: its number."""
        self._seen[site] += 1
        return self._seen[site]

    def seen(self, site: Site) -> int:
        return self._seen[site]

    async def passes(self, site: Site, number: int, moment: str, pid: Callable[[], int | None]) -> bool:
        """Whether what is under way goes on."""
        cut = self._cut
        if cut is None or (cut.site, cut.number, cut.moment) != (site, number, moment) or self.reached.is_set():
            return True
        whom = pid()
        if whom is None:
            return True
        # In a task of its own: the process may be done with this connection before the knife is.
        self._striking = asyncio.create_task(self._strike(cut, whom))
        return await asyncio.shield(self._striking)

    async def _strike(self, cut: Cut, whom: int) -> bool:
        if cut.linger:
            await asyncio.sleep(cut.linger)
        self.pid, self.at = whom, time.time()
        goes_on = self._act(whom)
        self.reached.set()
        return goes_on if isinstance(goes_on, bool) else await goes_on
