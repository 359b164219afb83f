"""The only writer of a run that this process owns: numbers events, stores them behind the fence, then publishes them."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from uuid import uuid4

import msgspec

from app.domain import events as ev
from app.domain.errors import DatabaseUnavailable, Fenced
from app.domain.stores import NewEvent, RunStore
from app.runs.live import Feed

log = logging.getLogger(__name__)

FIRST_PAUSE = 0.05
LONGEST_PAUSE = 2.0
_encode = msgspec.json.Encoder().encode


class Entry(msgspec.Struct, frozen=True):
    """An event to append, and what only the service reads back with it."""

    event: ev.Event
    private: bytes | None = None


class Journal:
    """Appends to one run. Appends of concurrent callers go one after another, each whole; a cancelled caller's append still completes."""

    def __init__(self, *, store: RunStore, feed: Feed, run_id: str, epoch: int, last_seq: int) -> None:
        self._store = store
        self._feed = feed
        self._run_id = run_id
        self._epoch = epoch
        self.last_seq = last_seq
        self._turn = asyncio.Lock()

    async def append(self, entries: Sequence[Entry], finished: ev.RunFinished | None = None) -> None:
        """Store the events, with `finished` as the last and the run's end, and publish them.

        While the database is away it waits for it: what happened is not forgotten. Raises `Fenced` when the run is not ours any more.
        """
        write = asyncio.ensure_future(self._append(entries, finished))
        try:
            await asyncio.shield(write)
        except asyncio.CancelledError:
            await asyncio.wait([write])
            raise

    async def _append(self, entries: Sequence[Entry], finished: ev.RunFinished | None) -> None:
        async with self._turn:
            if finished is not None:
                entries = [*entries, Entry(finished)]
            new = [
                NewEvent(
                    seq=seq,
                    id=uuid4(),
                    name=ev.NAMES[type(entry.event)],
                    payload=_encode(entry.event),
                    private=entry.private,
                )
                for seq, entry in enumerate(entries, self.last_seq + 1)
            ]
            await self._store_all(new, finished)
            self.last_seq = new[-1].seq
            now = time.time()
            self._feed.publish(
                [ev.StoredEvent(seq=e.seq, name=e.name, payload=e.payload, private=e.private, at=now) for e in new]
            )

    async def _store_all(self, new: Sequence[NewEvent], finished: ev.RunFinished | None) -> None:
        pause = FIRST_PAUSE
        unsure = False
        while True:
            try:
                if unsure and await self._arrived(new):
                    return
                if finished is None:
                    await self._store.append(self._run_id, self._epoch, new)
                else:
                    await self._store.finish(self._run_id, self._epoch, new, finished)
                return
            except Fenced:
                # A write whose answer was lost may have been under way still when we looked, and stood in its own way.
                if unsure and await self._arrived(new):
                    return
                raise
            except DatabaseUnavailable as error:
                if not unsure:
                    log.warning("the database is away; the run waits for it", extra={"reason": str(error)})
                unsure = True
            await asyncio.sleep(pause)
            pause = min(pause * 2, LONGEST_PAUSE)

    async def _arrived(self, new: Sequence[NewEvent]) -> bool:
        """Whether a write whose connection broke was stored after all. Raises `Fenced` if somebody else's stands there."""
        stored = await self._store.stored_ids(self._run_id, [event.seq for event in new])
        if not stored:
            return False
        if stored != [event.id for event in new]:
            raise Fenced(self._run_id)
        return True
