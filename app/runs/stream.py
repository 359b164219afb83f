"""One run as a stream: its journal from a reader's cursor on, then live, always to the terminal event.

Ids: a stored event has its `seq`; a delta has `S.E`, S = seq of the last stored event before it, E = code points of the
message up to the end of its text. From any such id a reader gets exactly the rest.
"""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator

import msgspec

from app.domain import events as ev
from app.domain.errors import RequestError
from app.domain.runs import TERMINAL
from app.domain.stores import Head, RunStore
from app.runs.live import Feed, Feeds

PAGE = 64
KEEP_ALIVE = 10.0
"""Seconds without a frame after which a reader is told that the stream is alive."""
PIECE = 65_536
"""Code points of growing text that a reader is given at once: one that does not keep up holds no more than that."""
_CURSOR = re.compile(r"(\d{1,9})(?:\.(\d{1,9}))?", re.ASCII)
_encode = msgspec.json.Encoder().encode
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
        self._message_id: str | None = None
        self._chunk = 0
        self._reasoned = 0
        # Reasoning has no ids: one who comes back does not get again what was said before.
        self._had = (feed.message_id, feed.reasoned) if cursor.seq else (None, 0)

    async def batches(self) -> AsyncGenerator[list[Item], None]:
        """Frames in order, those that are there at once together, `run.finished` last. An empty list: nothing for `keep_alive` seconds.

        Ends without `run.finished` only when this process closes: the reader is to come back.
        """
        feed = self._feed
        while not self._feeds.closing:
            stored = await self._stored()
            batch = [item for event in stored for item in self._event(event)] or self._live()
            if batch:
                yield batch
                if batch[-1].name == "run.finished":
                    return
            elif not await feed.changed(self._keep_alive):
                if not feed.held:  # nobody here writes this run: perhaps somebody elsewhere did
                    feed.caught_up = 0
                yield []

    async def _stored(self) -> list[ev.StoredEvent]:
        """Events after the cursor: from the feed where it reaches back far enough, else from the journal."""
        events = self._feed.events
        if events and events[-1].seq <= self._seq:
            return []
        if events and events[0].seq <= self._seq + 1:
            return [event for event in events if event.seq > self._seq]
        if not events and self._seq >= self._feed.caught_up > 0:
            return []
        page = await self._store.events(self._feed.run_id, self._seq, PAGE)
        if page:
            return page
        self._feed.caught_up = max(self._feed.caught_up, self._seq)
        return [event for event in self._feed.events if event.seq > self._seq]

    def _event(self, event: ev.StoredEvent) -> list[Item]:
        """A stored event; before a finished message, what of its text the reader has not had."""
        items = []
        if event.name == "message.completed":
            message = _decode_message(event.payload).message
            rest = message.content[self._offset :]
            if rest:
                items.append(self._delta(message.id, rest))
            self._offset = 0
            self._message_id = None
        self._seq = event.seq
        items.append(Item(str(event.seq), event.name, event.payload))
        return items

    def _live(self) -> list[Item]:
        """What the message that is being written has more than the reader."""
        feed = self._feed
        if feed.message_id is None:
            return []
        if feed.message_id != self._message_id:
            if self._message_id is not None:
                self._offset = 0
            self._message_id = feed.message_id
            self._reasoned = self._had[1] if feed.message_id == self._had[0] else 0
            self._chunk, rest = feed.chunk_at(self._offset)
        else:
            rest = ""
        items = []
        if feed.reasoned > self._reasoned:
            new = min(feed.reasoned - self._reasoned, len(feed.reasoning))
            text = "".join(list(feed.reasoning)[-new:])
            self._reasoned = feed.reasoned
            items.append(
                Item(None, "reasoning.delta", _encode(ev.ReasoningText(message_id=feed.message_id, text=text)))
            )
        if len(feed.chunks) > self._chunk:
            self._chunk, more = feed.since(self._chunk, PIECE)
            rest += more
        if rest:
            items.append(self._delta(feed.message_id, rest))
        return items

    def _delta(self, message_id: str, text: str) -> Item:
        payload = _encode(ev.MessageDelta(message_id=message_id, offset=self._offset, text=text))
        self._offset += len(text)
        return Item(f"{self._seq}.{self._offset}", "message.delta", payload)


async def check_cursor(store: RunStore, feed: Feed, cursor: Cursor, head: Head) -> Cursor:
    """Where to begin for a reader that asks for that cursor; one that has seen the end gets the last event again.

    Raises `RequestError` invalid_cursor for a cursor beyond the journal or beyond a message's text.
    """
    last_seq = max(head.last_seq, feed.events[-1].seq if feed.events else 0)
    if cursor.seq > last_seq or (cursor.offset and cursor.offset > await _reach(store, feed, cursor, last_seq)):
        raise RequestError("invalid_cursor", "The event id is beyond the end of this run's log; begin without one.")
    if head.status in TERMINAL and cursor.seq == head.last_seq:
        return Cursor(head.last_seq - 1)
    return cursor


async def _reach(store: RunStore, feed: Feed, cursor: Cursor, last_seq: int) -> int:
    """How many code points the message after that event has (so far)."""
    if cursor.seq == last_seq:
        return feed.length
    for event in await store.events(run_id=feed.run_id, after=cursor.seq, limit=PAGE):
        if event.name == "message.completed":
            return len(_decode_message(event.payload).message.content)
        if event.name == "run.finished":
            break
    return cursor.offset
