"""Text that grows in other processes, for those who read it here."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from weakref import ReferenceType, WeakKeyDictionary, WeakSet, ref

from app.domain.hints import LiveChannel, LivePiece
from app.runs.ids import message_id
from app.runs.live import Feed, Feeds

PAUSE = 0.25
"""Seconds after a look at a message's whole text before a gap in its pieces is worth another one."""


class Incoming:
    """Listens to the channel of every followed run that is read here, and joins its pieces.

    Pieces may be lost, repeated and late: one that follows on is added, one that overlaps is cut, and after a gap the whole
    text so far is asked for. Those of a message that has ended, and whatever else does not fit the run, are left out.
    `ahead` is told of a run whose journal has grown further than is known here.
    """

    def __init__(self, *, feeds: Feeds, channel: LiveChannel, ahead: Callable[[Feed], None]) -> None:
        self._feeds = feeds
        self._channel = channel
        self._ahead = ahead
        self._wake = asyncio.Event()
        self._listening: dict[str, ReferenceType[Feed]] = {}
        self._gaps: WeakSet[Feed] = WeakSet()
        self._patient: WeakKeyDictionary[Feed, float] = WeakKeyDictionary()

    def changed(self) -> None:
        """Runs came to be followed or read, or ceased to."""
        self._wake.set()

    async def receive(self) -> None:
        """Join what is said, until cancelled."""
        await self._channel.receive(self._said, self._again)

    async def listen(self) -> None:
        """Listen to the right runs, and ask for whole texts where pieces are missing, until cancelled."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            await self._tune()
            await self._ask()

    async def _tune(self) -> None:
        wanted = {feed.run_id: feed for feed in self._feeds.followed() if feed.readers}
        for run_id in self._listening.keys() - wanted.keys():
            del self._listening[run_id]
            await self._channel.leave(run_id)
        for run_id, feed in wanted.items():
            before = self._listening.get(run_id)
            if before is None:
                await self._channel.listen(run_id)
            if before is None or before() is not feed:
                self._listening[run_id] = ref(feed)
                self._gaps.add(feed)

    async def _ask(self) -> None:
        gaps, self._gaps = self._gaps, WeakSet()
        for feed in list(gaps):
            piece = await self._channel.snapshot(feed.run_id)
            if piece is not None and not feed.held:
                self._join(feed, piece)

    def _said(self, piece: LivePiece) -> None:
        feed = self._feeds.get(piece.run_id)
        if feed is None or feed.held or self._join(feed, piece):
            return
        now = time.monotonic()
        if now >= self._patient.get(feed, 0.0):
            self._patient[feed] = now + PAUSE
            self._gaps.add(feed)
            self._wake.set()

    async def _again(self) -> None:
        for listened in self._listening.values():
            feed = listened()
            if feed is not None:
                self._gaps.add(feed)
        self._wake.set()

    def _join(self, feed: Feed, piece: LivePiece) -> bool:
        """Add what the piece has more than the feed. False: something is missing before it."""
        if piece.seq < feed.seq or piece.offset < 0 or piece.message_id != message_id(piece.run_id, piece.seq):
            return True
        if piece.seq > feed.seq:
            self._ahead(feed)
        if feed.message_id != piece.message_id:
            if piece.offset:
                return False
            feed.begin(piece.message_id, piece.seq)
        known = feed.length - piece.offset
        if known < 0:
            return False
        if known < len(piece.text):
            feed.hear(piece.text[known:])
        return True
