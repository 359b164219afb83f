"""Keeps the feeds of runs that live elsewhere up to date: from the journal, and with live text where there is a channel for it.

However many read a run here, its journal is read once per news. Every hint has a poll behind it, and text that was missed
comes with its whole message.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Coroutine, Sequence
from weakref import WeakSet

from app.domain import events as ev
from app.domain.errors import DatabaseUnavailable
from app.domain.runs import TERMINAL
from app.domain.stores import Head, RunStore
from app.runs.incoming import Incoming
from app.runs.live import Feed, Feeds

log = logging.getLogger(__name__)

POLL = 1.0
"""Seconds between looks at all followed runs when nothing hints at them; less by up to a fifth."""
PAGE = 64
AT_ONCE = 8
"""Journals that are read at the same time."""


class Follower:
    """Follows every run that is read or awaited here and lives elsewhere. Costs nothing while there is none."""

    def __init__(self, *, store: RunStore, feeds: Feeds, poll: float = POLL) -> None:
        self._store = store
        self._feeds = feeds
        self._poll = poll
        self._due: set[Feed] = set()
        self._busy: set[Feed] = set()
        self._unanswered: WeakSet[Feed] = WeakSet()
        self._slots = asyncio.Semaphore(AT_ONCE)
        self._polling = False
        self._away = False
        self._incoming = (
            None if feeds.channel is None else Incoming(feeds=feeds, channel=feeds.channel, ahead=self._mark)
        )

    def wrote(self, run_id: str) -> None:
        """Another process wrote to that run's journal."""
        feed = self._feeds.get(run_id)
        if feed is not None and not feed.held:
            self._mark(feed)

    def _mark(self, feed: Feed) -> None:
        self._due.add(feed)
        self._feeds.changed.set()

    async def run(self) -> None:
        """Follow until cancelled; also sends the text that grows here to other processes."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._follow(tasks))
            if self._incoming is not None and self._feeds.outgoing is not None:
                tasks.create_task(self._feeds.outgoing.run())
                tasks.create_task(self._incoming.listen())
                tasks.create_task(self._incoming.receive())

    async def _follow(self, tasks: asyncio.TaskGroup) -> None:
        changed = self._feeds.changed
        poll_at = 0.0
        moves = -1
        while True:
            if not self._feeds.followed():
                await changed.wait()
                poll_at = self._next_poll()
            try:
                async with asyncio.timeout(max(0.0, poll_at - time.monotonic())):
                    await changed.wait()
            except TimeoutError:
                poll_at = self._next_poll()
                if not self._polling:
                    self._polling = True
                    tasks.create_task(self._look_at_all())
            changed.clear()
            if self._incoming is not None and moves != self._feeds.moves:
                moves = self._feeds.moves
                self._incoming.changed()
            self._read_due(tasks)

    def _read_due(self, tasks: asyncio.TaskGroup) -> None:
        self._due.update(self._feeds.unseen())
        for feed in self._due - self._busy:
            self._due.discard(feed)
            self._busy.add(feed)
            tasks.create_task(self._catch_up(feed))

    def _next_poll(self) -> float:
        return time.monotonic() + self._poll * random.uniform(0.8, 1.0)

    async def _look_at_all(self) -> None:
        try:
            await self._patiently(self._look(self._feeds.followed()))
        finally:
            self._polling = False

    async def _catch_up(self, feed: Feed) -> None:
        try:
            async with self._slots:
                await self._patiently(self._read(feed))
        finally:
            self._busy.discard(feed)
            if feed in self._due:
                self._feeds.changed.set()

    async def _patiently(self, looking: Coroutine[None, None, None]) -> None:
        """What goes wrong with one look is left to the next poll."""
        try:
            await looking
        except DatabaseUnavailable as error:
            if not self._away:
                log.warning("the database is away; followed runs wait for it", extra={"reason": str(error)})
            self._away = True
        except Exception:
            log.exception("a run could not be followed")
        else:
            self._away = False

    async def _look(self, feeds: Sequence[Feed]) -> None:
        """See where those runs stand, and mark those whose journal has more."""
        known = {feed: feed.seq for feed in feeds}
        heads = await self._store.heads([feed.run_id for feed in feeds]) if feeds else {}
        for feed, seq in known.items():
            if feed.held or feed.over:
                continue
            head = heads.get(feed.run_id)
            if head is None:
                if seq:  # it was there before we looked
                    self._feeds.gone(feed)
            elif not feed.seq:
                feed.learn(head.last_seq)
                self._expect(feed, head)
            elif head.last_seq > feed.seq:
                self._mark(feed)
            else:
                self._expect(feed, head)

    def _expect(self, feed: Feed, head: Head) -> None:
        """Have the outcome read of a run that has one, where somebody waits for it and its event passed unseen."""
        if feed.awaited and feed.result is None and (head.status == "waiting" or head.status in TERMINAL):
            self._unanswered.add(feed)
            self._mark(feed)

    async def _read(self, feed: Feed) -> None:
        """Bring the feed to the end of the journal."""
        if not feed.seq:
            await self._look([feed])
        while feed.seq and not feed.held and not feed.over:
            page = await self._store.events(feed.run_id, feed.seq, PAGE)
            feed.take(page)
            if len(page) < PAGE:
                break
        if feed in self._unanswered:
            self._unanswered.discard(feed)
            await self._recall(feed)

    async def _recall(self, feed: Feed) -> None:
        """Find the run's outcome in what was stored before this process looked."""
        found: ev.StoredEvent | None = None
        after = 0
        while page := await self._store.events(feed.run_id, after, PAGE):
            after = page[-1].seq
            found = next((e for e in reversed(page) if e.name in ("run.waiting", "run.finished")), found)
        head = (await self._store.heads([feed.run_id])).get(feed.run_id)
        result = None if found is None else ev.decode(found)
        if head is None or feed.held or feed.result is not None or head.last_seq != after:
            return
        if isinstance(result, ev.RunFinished) or (isinstance(result, ev.RunWaiting) and head.status == "waiting"):
            feed.decide(result)
