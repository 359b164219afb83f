"""Waiting for a database that is away."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import TypeVar

from app.domain.errors import DatabaseUnavailable

log = logging.getLogger(__name__)

FIRST_PAUSE = 0.05
LONGEST_PAUSE = 2.0
"""Seconds between attempts, doubled each time."""
T = TypeVar("T")


async def patiently(attempt: Callable[[], Awaitable[T]]) -> T:
    """What `attempt` gives, as soon as the database answers. For what may be said twice."""
    pause = FIRST_PAUSE
    while True:
        try:
            return await attempt()
        except DatabaseUnavailable as error:
            if pause == FIRST_PAUSE:
                log.warning("the database is away; the run waits for it", extra={"reason": str(error)})
        await asyncio.sleep(pause)
        pause = min(pause * 2, LONGEST_PAUSE)
