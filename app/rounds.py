"""Looking at what is due, again and again: how everything that nobody asks for goes on by itself."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from contextlib import suppress

from app.domain.errors import DatabaseUnavailable

log = logging.getLogger(__name__)


async def rounds(look: Callable[[], Awaitable[object]], *, what: str, every: float, wake: asyncio.Event) -> None:
    """Until cancelled: `look`, at once, whenever `wake` is set, and every so many seconds, jittered by a fifth.

    What breaks a look is logged, a database that is away once an outage, by the name of `what` is looked at; the next look follows.
    """
    away = False
    while True:
        wake.clear()
        try:
            await look()
            away = False
        except DatabaseUnavailable as error:
            if not away:
                log.warning("the database is away; %s wait for it", what, extra={"reason": str(error)})
            away = True
        except Exception:
            log.exception("a look at what %s are due broke; the next one follows", what)
        with suppress(TimeoutError):
            async with asyncio.timeout(every * random.uniform(0.8, 1.2)):
                await wake.wait()
