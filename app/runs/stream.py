"""One run as a stream: its journal from a reader's cursor on, then live, always to the terminal event.

Ids: a stored event has its `seq`; a delta has `S.E`, S = seq of the last stored event before it, E = code points of the
message up to the end of its text. From any such id a reader gets exactly the rest, or is told to forget the message where
the attempt that wrote it is dead.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import AsyncGenerator

import msgspec

from app.domain import events as ev
from app.domain.errors import DatabaseUnavailable, RequestError
from app.domain.runs import TERMINAL
from app.domain.stores import Head, RunStore
from app.runs.ids import message_id
from app.runs.live import Feed, Feeds
from app.runs.outgoing import PIECE

log = logging.getLogger(__name__)

PAGE = 64
KEEP_ALIVE = 10.0
"""Seconds without a frame after which a reader is told that the stream is alive."""
RETRY = 1.0
"""Seconds after which a reader looks again for a database that was away, or `keep_alive` where that is less."""
_CURSOR = re.compile(r"(\d{1,9})(?:\.(\d{1,9}))?", re.ASCII)
_encode = msgspec.json.Encoder().encode
_decode_used = msgspec.json.Decoder(ev.UsageRecorded).decode
_decode_message = msgspec.json.Decoder(ev.MessageCompleted).decode


class Cursor(msgspec.Struct, frozen=True):
    """What a reader has seen: every event up to `seq`, and `offset` code points of the message after it."""

    seq: int = 0
    offset: int = 0


class Item(msgspec.Struct, frozen=True):
    """One frame of a stream. `payload` is JSON."""

    id: str | None
    name: str
    payload: bytes


def parse_cursor(text: str | None) -> Cursor:
    """The cursor of an id. Raises `RequestError` invalid_cursor."""
    if text is None or text == "":
        return Cursor()
    match = _CURSOR.fullmatch(text)
    if match is None:
        raise RequestError("invalid_cursor", "The event id is not one of this service; begin without one.")
    return Cursor(int(match[1]), int(match[2] or 0))


class Reader:
    """Reads one run from a cursor to its end. Costs nothing while it waits; holds no more than one page of events."""

    def __init__(self, *, store: RunStore, feeds: Feeds, feed: Feed, cursor: Cursor, keep_alive: float) -> None:
        self._store = store
        self._feeds = feeds
        self._feed = feed
        self._keep_alive = keep_alive
        self._seq = cursor.seq
        self._offset = cursor.offset
        self._text_of = message_id(feed.run_id, cursor.seq)
        self._told = False
        self._version = -1
        self._chunk = 0
        self._reasoned = 0
        # Reasoning has no ids: one who comes back does not get again what was said before.
        self._had = (feed.message_id, feed.reasoned) if cursor.seq else (None, 0)
        self._waiting: asyncio.Future[bool] | None = None
        self._since = 0.0
        self._timer: asyncio.TimerHandle | None = None

    async def batches(self) -> AsyncGenerator[list[Item], None]:
        """Frames in order, those that are there at once together, `run.finished` last. An empty list: nothing for `keep_alive` seconds.

        Ends without `run.finished` only when this process closes (the reader is to come back) or the run was deleted.
        While the database is away it waits for it.
        """
        feed = self._feed
        self._feeds.join(feed)
        try:
            while not self._feeds.closing:
                if feed.seq > self._seq or not feed.seq:
                    try:
                        batch = await self._stored()
                    except DatabaseUnavailable as error:
                        log.debug("a reader waits for the database", extra={"reason": str(error)})
                        await asyncio.sleep(min(RETRY, self._keep_alive))
                        yield []
                        continue
                else:
                    batch = self._live()
                if batch:
                    yield batch
                    if batch[-1].name == "run.finished":
                        return
                elif feed.over and feed.result is None:  # deleted
                    return
                elif feed.seq > self._seq:  # what we asked for came while the journal was read
                    continue
                elif feed.over:
                    return
                elif not await self._changed():
                    yield []
        finally:
            if self._timer is not None:
                self._timer.cancel()
            feed.readers -= 1
            self._feeds.leave(feed)

    async def _changed(self) -> bool:
        """Wait until something is said after this call, or nothing was for `keep_alive` seconds; whether it was.

        One timer serves all waits of the reader: it looks how long the last one lasts when it goes off.
        """
        loop = asyncio.get_running_loop()
        waiting: asyncio.Future[bool] = loop.create_future()
        self._waiting = waiting
        self._since = loop.time()
        if self._timer is None:
            self._timer = loop.call_later(self._keep_alive, self._tick, loop)
        self._feed.watching.add(waiting)
        try:
            return await waiting
        finally:
            self._feed.watching.discard(waiting)
            self._waiting = None

    def _tick(self, loop: asyncio.AbstractEventLoop) -> None:
        self._timer = None
        left = self._since + self._keep_alive - loop.time()
        if self._waiting is None or self._waiting.done():
            return
        if left > 0:
            self._timer = loop.call_later(left, self._tick, loop)
        else:
            self._waiting.set_result(False)

    async def _stored(self) -> list[Item]:
        """The events after the cursor: from the feed where it reaches back far enough, else from the journal."""
        feed = self._feed
        events = feed.events
        if events and events[0].seq <= self._seq + 1:
            return [item for event in events if event.seq > self._seq for item in self._event(event)]
        page = await self._store.events(feed.run_id, self._seq, PAGE)
        items = [item for event in page for item in self._event(event)]
        if not feed.seq and len(page) < PAGE:
            feed.learn(self._seq)
        return items

    def _event(self, event: ev.StoredEvent) -> list[Item]:
        """A stored event, and before it what becomes of the text of which the reader had some."""
        items: list[Item] = []
        name = event.name
        if name == "message.completed":
            message = _decode_message(event.payload).message
            if message.role != "user":
                self._complete(message, items)
        elif self._offset:
            if name == "run.started" or (name == "run.finished" and not self._told):
                self._reset(items)
            elif name in ("message.reset", "run.finished"):
                self._offset = 0
            elif name == "usage.recorded":
                # The attempt lived to say how it ended; of one that did not, whoever took over says that.
                self._told |= _decode_used(event.payload).outcome != "abandoned"
        self._seq = event.seq
        items.append(Item(str(event.seq), name, event.payload))
        return items

    def _complete(self, message: ev.VisibleMessage, items: list[Item]) -> None:
        """What of a finished message the reader has not had."""
        # A message whose id says after which event it began, and it is another one than the reader's text did.
        if self._offset and message.id != self._text_of and _numbered(message.id, self._feed.run_id):
            self._reset(items)
        rest = message.content[self._offset :]
        if rest:
            items.append(self._delta(message.id, rest))
        self._offset = 0

    def _reset(self, items: list[Item]) -> None:
        """The attempt that wrote the reader's text is dead, and nothing in the journal says so."""
        items.append(Item(str(self._seq), "message.reset", _encode(ev.MessageReset(message_id=self._text_of))))
        self._offset = 0

    def _live(self) -> list[Item]:
        """What the message that is being written has more than the reader, who has every event before it."""
        feed = self._feed
        if feed.message_id is None or feed.text_seq != self._seq:
            return []
        items: list[Item] = []
        rest = ""
        if feed.version != self._version:
            if feed.length < self._offset:  # the reader had more of it elsewhere
                return []
            self._version = feed.version
            self._text_of = feed.message_id
            self._told = False
            self._chunk, rest = feed.chunk_at(self._offset)
            self._reasoned = self._had[1] if feed.message_id == self._had[0] else 0
        if feed.reasoned > self._reasoned:
            items.append(self._reasoning(feed))
        if len(feed.chunks) > self._chunk:
            self._chunk, more = feed.since(self._chunk, PIECE)
            rest += more
        if rest:
            items.append(self._delta(feed.message_id, rest))
        return items

    def _reasoning(self, feed: Feed) -> Item:
        assert feed.message_id is not None
        new = min(feed.reasoned - self._reasoned, len(feed.reasoning))
        text = "".join(list(feed.reasoning)[-new:])
        self._reasoned = feed.reasoned
        return Item(None, "reasoning.delta", _encode(ev.ReasoningText(message_id=feed.message_id, text=text)))

    def _delta(self, message: str, text: str) -> Item:
        payload = _encode(ev.MessageDelta(message_id=message, offset=self._offset, text=text))
        self._offset += len(text)
        return Item(f"{self._seq}.{self._offset}", "message.delta", payload)


def _numbered(message: str, run_id: str) -> bool:
    """Whether a message's id follows from the journal; those of earlier releases do not."""
    return message.rpartition("_")[0] == message_id(run_id, 0).rpartition("_")[0]


async def check_cursor(store: RunStore, feed: Feed, cursor: Cursor, head: Head) -> Cursor:
    """Where to begin for a reader that asks for that cursor; one that has seen the end gets the last event again.

    Raises `RequestError` invalid_cursor for a cursor beyond the journal or beyond a message's text. How long the text of a
    dead attempt was, or that of one which lives elsewhere, nobody here knows: any offset into it is one.
    """
    last_seq = max(head.last_seq, feed.seq)
    if cursor.seq > last_seq or (cursor.offset and not await _reached(store, feed, cursor, head, last_seq)):
        raise RequestError("invalid_cursor", "The event id is beyond the end of this run's log; begin without one.")
    if head.status in TERMINAL and cursor.seq == head.last_seq:
        return Cursor(head.last_seq - 1)
    return cursor


async def _reached(store: RunStore, feed: Feed, cursor: Cursor, head: Head, last_seq: int) -> bool:
    """Whether the text after that event ever had so many code points, as far as that can be known."""
    if cursor.seq == last_seq:
        if head.status in TERMINAL:
            return False
        return not feed.held or (feed.text_seq == cursor.seq and cursor.offset <= feed.length)
    after = cursor.seq
    while page := await store.events(feed.run_id, after, PAGE):
        for event in page:
            if event.name == "message.completed":
                message = _decode_message(event.payload).message
                if message.role != "user":
                    return cursor.offset <= len(message.content)
            elif event.name in ("run.started", "run.finished", "message.reset"):
                return True
        after = page[-1].seq
    return True
