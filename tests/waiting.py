"""Waiting for what happens elsewhere."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any


async def until(condition: Callable[[], Any], *, within: float = 20.0) -> None:
    """Return once the condition (plain, or to be awaited) holds. It is asked again at once, then every few milliseconds."""
    deadline, pause = time.monotonic() + within, 0.0
    while True:
        holds = condition()
        if asyncio.iscoroutine(holds):
            holds = await holds
        if holds:
            return
        assert time.monotonic() < deadline, f"not within {within} s: {condition}"
        await asyncio.sleep(pause)
        pause = min(pause + 0.001, 0.01)
