"""What runs of this process are saying right now, for any number of readers.

Nothing is queued per reader: a run's `Feed` holds its latest events and the text of the message being written, and each
reader keeps its own place in it. A slow reader therefore costs nothing; it gets more text in one piece when it comes back.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Container, Sequence

from app.domain.events import RunFinished, StoredEvent

KEPT_EVENTS = 64
"""How many events a feed keeps; a reader further behind gets them from the journal."""
KEPT_REASONING = 256


class Feed:
    """The live end of one run's journal. Used from one event loop."""

    def __init__(self, run_id: str) -> None:
        self.run_id = run_id
        self.events: deque[StoredEvent] = deque(maxlen=KEPT_EVENTS)
        self.message_id: str | None = None
        self.chunks: list[str] = []
        self.length = 0
        self.reasoning: deque[str] = deque(maxlen=KEPT_REASONING)
        self.reasoned = 0
        self.caught_up = 0
        self.readers = 0
        self.held = False
        self.ended: asyncio.Future[RunFinished | None] = asyncio.get_running_loop().create_future()
        self._waiting: set[asyncio.Future[bool]] = set()

    @property
    def first_seq(self) -> int | None:
        """The oldest event kept here."""
        return self.events[0].seq if self.events else None

    def publish(self, events: Sequence[StoredEvent]) -> None:
        """Events that are stored, in order. A finished message ends the text that was growing."""
        self.events.extend(events)
        if any(event.name == "message.completed" for event in events):
            self.begin(None)
        self.wake()

    def begin(self, message_id: str | None) -> None:
        """A new message begins (None: none does); the text before it is gone from here."""
        self.message_id = message_id
        self.chunks = []
        self.length = 0
        self.reasoning.clear()
        self.reasoned = 0

    def text(self, text: str) -> None:
        """More text of the message that began."""
        self.chunks.append(text)
        self.length += len(text)
        self.wake()

    def reason(self, text: str) -> None:
        """More of the model's reasoning."""
        self.reasoning.append(text)
        self.reasoned += 1
        self.wake()

    def end(self, finished: RunFinished) -> None:
        """The run is over; its last event was published."""
        if not self.ended.done():
            self.ended.set_result(finished)
        self.wake()

    def forsake(self) -> None:
        """This process ends before the run does; who waits for it here goes away with None."""
        if not self.ended.done():
            self.ended.set_result(None)
        self.wake()

    def since(self, chunk: int, limit: int) -> tuple[int, str]:
        """The text from that chunk on, whole chunks until it has `limit` code points or more, and the chunk after it."""
        chunks = self.chunks
        if chunk == len(chunks) - 1:
            return chunk + 1, chunks[chunk]
        end = chunk
        while limit > 0 and end < len(chunks):
            limit -= len(chunks[end])
            end += 1
        return end, "".join(chunks[chunk:end])

    def chunk_at(self, offset: int) -> tuple[int, str]:
        """The chunk after that many code points, and the rest of the chunk that the offset falls into."""
        passed = 0
        for index, chunk in enumerate(self.chunks):
            if passed + len(chunk) > offset:
                return (index, "") if passed == offset else (index + 1, chunk[offset - passed :])
            passed += len(chunk)
        return len(self.chunks), ""

    async def changed(self, timeout: float) -> bool:
        """Wait until something is said after this call, at most so many seconds; whether it was."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[bool] = loop.create_future()
        self._waiting.add(future)
        timer = loop.call_later(timeout, _give_up, future)
        try:
            return await future
        finally:
            timer.cancel()
            self._waiting.discard(future)

    def wake(self) -> None:
        """Let every reader look again."""
        if self._waiting:
            waiting, self._waiting = self._waiting, set()
            for future in waiting:
                if not future.done():
                    future.set_result(True)


def _give_up(future: asyncio.Future[bool]) -> None:
    if not future.done():
        future.set_result(False)


class Feeds:
    """The feeds of all runs that are live in, or being read from, this process."""

    def __init__(self) -> None:
        self._feeds: dict[str, Feed] = {}
        self.closing = False

    def open(self, run_id: str) -> Feed:
        """The run's feed; the same one for everybody until the run has ended."""
        feed = self._feeds.get(run_id)
        if feed is None:
            feed = self._feeds[run_id] = Feed(run_id)
        return feed

    def end(self, run_id: str, finished: RunFinished) -> None:
        """The run is over: its readers learn it, later readers find it in the journal."""
        feed = self._feeds.pop(run_id, None)
        if feed is not None:
            feed.end(finished)

    def get(self, run_id: str) -> Feed | None:
        """The run's feed, where there is one."""
        return self._feeds.get(run_id)

    def release(self, run_id: str) -> None:
        """The run does not live in this process any more: nobody waits for its end here, readers go on with the journal."""
        feed = self._feeds.pop(run_id, None)
        if feed is not None:
            feed.held = False
            feed.events.clear()
            feed.caught_up = 0
            feed.forsake()

    def hold(self, run_id: str) -> Feed:
        """The feed of a run that lives in this process: kept until the run's end, read or not."""
        feed = self.open(run_id)
        feed.held = True
        return feed

    def leave(self, feed: Feed) -> None:
        """A reader left; a feed that nobody reads and nothing here writes is dropped."""
        if feed.readers == 0 and not feed.held and self._feeds.get(feed.run_id) is feed:
            del self._feeds[feed.run_id]

    def close(self) -> None:
        """This process ends: every reader is to look again and go elsewhere."""
        self.closing = True
        for feed in self._feeds.values():
            feed.wake()

    def forsake(self) -> None:
        """Nobody may wait in this process any longer for any run."""
        for feed in self._feeds.values():
            feed.forsake()

    def forsake_queued(self, running: Container[str]) -> None:
        """Nobody may wait here for a run that was accepted and is not being executed."""
        for run_id, feed in self._feeds.items():
            if feed.first_seq is not None and run_id not in running:
                feed.forsake()
