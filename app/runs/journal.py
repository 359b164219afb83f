"""The only writer of a run that this process owns: numbers events, stores them behind the fence, then publishes them."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any
from uuid import uuid4

import msgspec

from app.domain import events as ev
from app.domain.errors import DatabaseUnavailable, Fenced, UnreadInbox
from app.domain.stores import NewEvent, RunStore
from app.domain.usage import Crossing, Settlement
from app.runs.live import Feed
from app.runs.patience import FIRST_PAUSE, LONGEST_PAUSE, patiently

log = logging.getLogger(__name__)

_encode = msgspec.json.Encoder().encode


class Entry(msgspec.Struct, frozen=True):
    """An event to append, what only the service reads back with it, and the attempt that it settles."""

    event: ev.Event
    private: bytes | None = None
    settles: Settlement | None = None


class Journal:
    """Writes to one run. Writes of concurrent callers go one after another, each whole; a cancelled caller's write still completes.

    While the database is away they wait for it: what happened is not forgotten. All raise `Fenced` when the run is not ours
    any more; those that end our ownership raise `UnreadInbox`, and have stored nothing, while the inbox had more rows
    than the caller has `read`. `inbox` is how many it ever had, as far as is known; `crossed` are levels of budgets that an
    `append` has come to, for whoever takes them out.
    """

    def __init__(self, *, store: RunStore, feed: Feed, run_id: str, epoch: int, last_seq: int, inbox: int = 0) -> None:
        self._store = store
        self._feed = feed
        self._run_id = run_id
        self._epoch = epoch
        self._turn = asyncio.Lock()
        self.last_seq = last_seq
        self.inbox = inbox
        self.crossed: list[Crossing] = []

    async def append(self, entries: Sequence[Entry]) -> None:
        """Store the events and publish them."""
        await _whole(self._write(entries, self._append))

    async def finish(self, entries: Sequence[Entry], finished: ev.RunFinished, *, read: int | None) -> bool:
        """Store the events, with `finished` as the last and the run's end. `read` None: the inbox does not matter.

        Whether a later turn of the session may begin now.
        """
        more = True

        async def write(new: Sequence[NewEvent]) -> None:
            nonlocal more
            more = await self._store.finish(self._run_id, self._epoch, new, finished, read)

        await _whole(self._write([*entries, Entry(finished)], write))
        return more

    async def park(self, entries: Sequence[Entry], waiting: ev.RunWaiting, *, read: int) -> None:
        """Store the events, with `waiting` as the last: the run belongs to nobody."""

        async def write(new: Sequence[NewEvent]) -> None:
            await self._store.park(self._run_id, self._epoch, new, waiting, read)

        await _whole(self._write([*entries, Entry(waiting)], write))

    async def release(self) -> None:
        """Hand the run back to the queue."""
        await _whole(patiently(lambda: self._store.release(self._run_id, self._epoch)))

    async def _append(self, new: Sequence[NewEvent]) -> None:
        appended = await self._store.append(self._run_id, self._epoch, new)
        self.inbox = appended.inbox
        self.crossed += appended.crossed

    async def _write(self, entries: Sequence[Entry], write: Callable[[Sequence[NewEvent]], Awaitable[None]]) -> None:
        async with self._turn:
            new = [
                NewEvent(
                    seq=seq,
                    id=uuid4(),
                    name=ev.NAMES[type(entry.event)],
                    payload=_encode(entry.event),
                    private=entry.private,
                    settles=entry.settles,
                )
                for seq, entry in enumerate(entries, self.last_seq + 1)
            ]
            await self._store_all(new, write)
            self.last_seq = new[-1].seq
            now = time.time()
            self._feed.publish(
                [ev.StoredEvent(seq=e.seq, name=e.name, payload=e.payload, private=e.private, at=now) for e in new]
            )

    async def _store_all(self, new: Sequence[NewEvent], write: Callable[[Sequence[NewEvent]], Awaitable[None]]) -> None:
        pause = FIRST_PAUSE
        unsure = False
        while True:
            try:
                if unsure and await self._arrived(new):
                    return None
                return await write(new)
            except Fenced:
                # A write whose answer was lost may have been under way still when we looked, and stood in its own way.
                if unsure and await self._arrived(new):
                    return None
                raise
            except UnreadInbox:
                self.inbox += 1  # at least; the next answer says it exactly
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


async def _whole(writing: Coroutine[Any, Any, None]) -> None:
    """Do it to its end, also where the caller is cancelled meanwhile."""
    write = asyncio.ensure_future(writing)
    try:
        await asyncio.shield(write)
    except asyncio.CancelledError:
        await asyncio.wait([write])
        if not write.cancelled():
            write.exception()  # seen: who cancels does not ask any more
        raise
