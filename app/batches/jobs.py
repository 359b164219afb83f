"""Looks after the parts of batches: claims what is due, a few at once, and keeps each claim for as long as it works on the part."""

from __future__ import annotations

import asyncio
import logging

from app.batches.parts import PartWork
from app.domain.batches import BatchStore, Part
from app.domain.errors import DatabaseUnavailable
from app.rounds import rounds

log = logging.getLogger(__name__)

POLL = 1.0
"""Seconds between looks at what is due when nobody wakes us; jittered by a fifth."""
CLAIM = 60.0
"""Seconds after which a part whose owner gives no sign of life is another's."""


class BatchJobs:
    """Works on due parts of every tenant, `concurrency` at once. `claim`: seconds without a sign of life."""

    def __init__(self, *, store: BatchStore, work: PartWork, concurrency: int = 4, claim: float = CLAIM) -> None:
        self._store = store
        self._work = work
        self._concurrency = concurrency
        self._claim = claim
        self._running = 0
        self._wake = asyncio.Event()

    def wake(self) -> None:
        """Something is due: look now."""
        self._wake.set()

    async def serve(self) -> None:
        """Work on what is due until cancelled; what is under way then is left as it stands in storage, for another process."""
        async with asyncio.TaskGroup() as group:
            await rounds(lambda: self._begin_due(group), what="batches", every=POLL, wake=self._wake)

    async def _begin_due(self, group: asyncio.TaskGroup) -> None:
        while self._running < self._concurrency and (part := await self._store.claim(self._claim)):
            self._running += 1
            group.create_task(self._owned(part), name=f"batch part {part.id}")

    async def _owned(self, part: Part) -> None:
        """Work on it until it is let go of, or lost to another process."""
        working = asyncio.create_task(self._work.work(part))
        keeping = asyncio.create_task(self._keep(part))
        try:
            await asyncio.wait([working, keeping], return_when=asyncio.FIRST_COMPLETED)
            if not working.done():
                log.warning("a part of a batch was lost to another process", extra={"part": part.id})
        except asyncio.CancelledError:
            working.cancel()
            await asyncio.wait([working])
            await self._give_back(part)
            raise
        finally:
            for task in (working, keeping):
                task.cancel()
            self._running -= 1
            self._wake.set()
            await asyncio.wait([working, keeping])
        for task in (working, keeping):
            error = None if task.cancelled() else task.exception()
            if isinstance(error, DatabaseUnavailable):  # its claim runs out, and it goes on from where it stands
                log.warning("a part of a batch could not be stored", extra={"part": part.id, "reason": str(error)})
            elif error is not None:
                log.error(
                    "the work on a part of a batch broke; it is tried again", extra={"part": part.id}, exc_info=error
                )

    async def _give_back(self, part: Part) -> None:
        try:
            await self._store.give_back(part)
        except DatabaseUnavailable as error:
            log.warning(
                "a part of a batch could not be given back; its claim runs out",
                extra={"part": part.id, "reason": str(error)},
            )

    async def _keep(self, part: Part) -> None:
        """Extend the claim; ends when it is lost, or was not extended in time."""
        loop = asyncio.get_running_loop()
        until = loop.time() + self._claim
        while True:
            await asyncio.sleep(self._claim / 4)
            asked = loop.time()
            try:
                if not await self._store.extend(part, self._claim):
                    return
                until = asked + self._claim
            except DatabaseUnavailable:
                if loop.time() > until - self._claim / 4:
                    return
