"""What runs are saying right now, for any number of readers of this process.

Nothing is queued per reader: a run's `Feed` holds its latest events and the text of the message being written, and each
reader keeps its own place in it. A slow reader therefore costs nothing; it gets more text in one piece when it comes back.

A feed is *held* where its run is executed: the runner writes it. Everywhere else it is *followed*: `app.runs.follow` keeps
it up to date from the journal. A run may move between the two while it is read.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Container, Sequence
from weakref import WeakSet, WeakValueDictionary

from app.domain import events as ev
from app.domain.hints import Hints, LiveChannel, LivePiece
from app.runs.outgoing import PIECE, Outgoing

KEPT_EVENTS = 64
"""How many events a feed keeps; a reader further behind gets them from the journal."""
KEPT_REASONING = 256


class Feed:
    """The live end of one run's journal. Used from one event loop.

    `seq` is the last stored event known here, 0 where nobody has looked yet; `text_seq` is the last event before the text
    that grows, which may be one that is not known here yet. `version` changes whenever a text begins or is dropped.
    `result` is how the run ended, or that it waits now, as far as is known here. `readers` and `awaited` count those who
    read it, and those who wait for its `outcome`; `watching` have True as soon as something is said. `over`: nothing will follow, as in a feed that belongs to no `Feeds`.
    """

    def __init__(self, run_id: str, feeds: Feeds | None = None) -> None:
        self.run_id = run_id
        self.seq = 0
        self.events: deque[ev.StoredEvent] = deque(maxlen=KEPT_EVENTS)
        self.message_id: str | None = None
        self.text_seq = 0
        self.version = 0
        self.chunks: list[str] = []
        self.length = 0
        self.sent = 0
        self.sent_chunks = 0
        self.reasoning: deque[str] = deque(maxlen=KEPT_REASONING)
        self.reasoned = 0
        self.readers = 0
        self.awaited = 0
        self.held = False
        self.over = feeds is None
        self.result: ev.RunFinished | ev.RunWaiting | None = None
        self._forsaken = False
        self._feeds = feeds
        self._outgoing = None if feeds is None else feeds.outgoing
        self.watching: set[asyncio.Future[bool]] = set()
        self._decided = asyncio.Event()

    def publish(self, events: Sequence[ev.StoredEvent]) -> None:
        """Events that this process has stored, in order; other processes are told that there are some."""
        self.take(events)
        if self._feeds is not None:
            self._feeds.hints.wrote(self.run_id)

    def take(self, events: Sequence[ev.StoredEvent]) -> None:
        """Consecutive events that are stored; those that are known already are left out. Text before a new one is dropped."""
        new = [event for event in events if event.seq > self.seq]
        if not new:
            return
        if new[0].seq != self.seq + 1:
            self.events.clear()  # a reader in the gap must go to the journal
        self.events.extend(new)
        self._reached(new[-1].seq)
        for event in new:
            if event.name in ("run.started", "run.waiting", "run.finished"):
                self._turned(event)
        self.wake()

    def learn(self, seq: int) -> None:
        """The journal has events up to that one. A feed that knew of none begins after it: readers get the others from there.

        One that did know is not moved, so that none of its events passes unseen; where it is followed, it is looked after now.
        """
        if not self.seq:
            self.jump(seq)
        elif seq > self.seq and not self.held and self._feeds is not None:
            self._feeds.look(self)

    def jump(self, seq: int) -> None:
        """Go on after that event; readers get those before it from the journal."""
        if seq > self.seq:
            self.events.clear()
            self._reached(seq)
            self.wake()

    def _reached(self, seq: int) -> None:
        self.seq = seq
        if self.message_id is not None and seq > self.text_seq:
            self.begin(None)

    def _turned(self, event: ev.StoredEvent) -> None:
        if event.name == "run.started":
            self.resumed()
            return
        result = ev.decode(event)
        assert isinstance(result, ev.RunFinished | ev.RunWaiting)
        self.decide(result)

    def decide(self, result: ev.RunFinished | ev.RunWaiting) -> None:
        """The run ended so, or waits now: whoever waits for its outcome here has it."""
        if self.over:
            return
        self.result = result
        self._decided.set()
        if isinstance(result, ev.RunFinished):
            self.over = True
            if self._feeds is not None:
                self._feeds.drop(self)
            self.wake()

    def resumed(self) -> None:
        """A wait that is known here is over: only the run's next wait, or its end, is an outcome."""
        if isinstance(self.result, ev.RunWaiting):
            self.result = None
            self._decided.clear()

    def begin(self, message_id: str | None, seq: int | None = None) -> None:
        """A new message begins after event `seq`, by default the last one (None: none does); the text before it is gone from here."""
        self.message_id = message_id
        self.text_seq = self.seq if seq is None else seq
        self.version += 1
        self.chunks = []
        self.length = self.sent = self.sent_chunks = 0
        self.reasoning.clear()
        self.reasoned = 0

    def text(self, text: str) -> None:
        """More text of the message that began here. None of one that an event has ended."""
        if self.message_id is None:
            return
        self.chunks.append(text)
        self.length += len(text)
        if self._outgoing is not None:
            self._outgoing.grew(self)
        self.wake()

    def hear(self, text: str) -> None:
        """More text of a message that is written elsewhere."""
        self.chunks.append(text)
        self.length += len(text)
        self.wake()

    def reason(self, text: str) -> None:
        """More of the model's reasoning."""
        self.reasoning.append(text)
        self.reasoned += 1
        self.wake()

    async def outcome(self, timeout: float | None) -> ev.RunFinished | ev.RunWaiting | None:
        """How the run ended, or that it waits, as soon as it is known here. None: nobody may wait here any more.

        Raises TimeoutError after so many seconds.
        """
        self.awaited += 1
        try:
            if self.result is None and not self.seq and self._feeds is not None:
                self._feeds.look(self)
            async with asyncio.timeout(timeout):
                while self.result is None and not self._forsaken:
                    await self._decided.wait()
            return self.result
        finally:
            self.awaited -= 1

    def forsake(self) -> None:
        """Nobody may wait here any longer; who does goes away with None."""
        self._forsaken = True
        self._decided.set()

    def unsent(self) -> LivePiece | None:
        """What has grown since this was asked last, `PIECE` code points or a chunk more at most."""
        if self.message_id is None or self.sent_chunks == len(self.chunks):
            return None
        offset = self.sent
        self.sent_chunks, text = self.since(self.sent_chunks, PIECE)
        self.sent += len(text)
        return LivePiece(run_id=self.run_id, message_id=self.message_id, seq=self.text_seq, offset=offset, text=text)

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

    def wake(self) -> None:
        """Let every reader look again."""
        if self.watching:
            watching, self.watching = self.watching, set()
            for future in watching:
                if not future.done():
                    future.set_result(True)


class Feeds:
    """The feeds of all runs that live in this process, or that somebody here has in hand: those are there as long as he has them.

    `changed` is set where a follower has something to see; `moves` counts changes of what is followed or read.
    """

    def __init__(self, *, hints: Hints, channel: LiveChannel | None = None) -> None:
        self.hints = hints
        self.channel = channel
        self.outgoing = None if channel is None else Outgoing(channel)
        self.closing = False
        self.changed = asyncio.Event()
        self.moves = 0
        self._feeds: WeakValueDictionary[str, Feed] = WeakValueDictionary()
        self._held: dict[str, Feed] = {}
        self._followed: WeakSet[Feed] = WeakSet()
        self._unseen: WeakSet[Feed] = WeakSet()
        self._forsaken = False

    def open(self, run_id: str) -> Feed:
        """The run's feed; the same one for everybody until the run has ended. A new one is followed until it is held."""
        feed = self._feeds.get(run_id)
        if feed is None:
            feed = self._feeds[run_id] = Feed(run_id, self)
            self._followed.add(feed)
            if self._forsaken:
                feed.forsake()
            self._moved()
        return feed

    def get(self, run_id: str) -> Feed | None:
        """The run's feed, where there is one."""
        return self._feeds.get(run_id)

    def hold(self, run_id: str, seq: int) -> Feed:
        """The feed of a run that lives in this process from now on, with stored events up to `seq`: kept until its end or release."""
        feed = self.open(run_id)
        feed.held = True
        self._held[run_id] = feed
        self._followed.discard(feed)
        feed.begin(None)
        feed.resumed()
        feed.jump(seq)
        self._moved()
        return feed

    def release(self, run_id: str) -> None:
        """The run lives elsewhere from now on: who reads it or waits for it here goes on by following the journal."""
        feed = self._held.pop(run_id, None)
        if feed is not None:
            feed.held = False
            self._followed.add(feed)
            feed.begin(None)
            self.moves += 1
            self.look(feed)

    def end(self, run_id: str, finished: ev.RunFinished) -> None:
        """The run is over, its last event was published: its readers learn it, later readers find it in the journal."""
        feed = self._feeds.get(run_id)
        if feed is not None:
            feed.decide(finished)

    def gone(self, feed: Feed) -> None:
        """The run was deleted: its readers end, nobody waits for it."""
        feed.over = True
        self.drop(feed)
        feed.forsake()
        feed.wake()

    def drop(self, feed: Feed) -> None:
        """Forget a feed to which nothing will be added."""
        feed.held = False
        if self._feeds.get(feed.run_id) is feed:
            del self._feeds[feed.run_id]
        self._held.pop(feed.run_id, None)
        self._followed.discard(feed)
        self._moved()

    def join(self, feed: Feed) -> None:
        """A reader came."""
        feed.readers += 1
        self._moved()

    def leave(self, feed: Feed) -> None:
        """A reader left, or somebody who only looked; a feed that nothing here writes is gone with the last one who has it."""
        if not feed.held and self._held.get(feed.run_id) is feed:
            del self._held[feed.run_id]
        self._moved()

    def look(self, feed: Feed) -> None:
        """Somebody needs to know now how that run stands."""
        self._unseen.add(feed)
        self.changed.set()

    def _moved(self) -> None:
        self.moves += 1
        self.changed.set()

    def unseen(self) -> list[Feed]:
        """The feeds to be looked at now; each is told once."""
        feeds, self._unseen = self._unseen, WeakSet()
        return list(feeds)

    def followed(self) -> list[Feed]:
        """The feeds of runs that live elsewhere."""
        return list(self._followed)

    def close(self) -> None:
        """This process ends: every reader is to look again and go elsewhere."""
        self.closing = True
        for feed in list(self._feeds.values()):
            feed.wake()

    def forsake(self) -> None:
        """Nobody may wait in this process any longer for any run, now or later."""
        self._forsaken = True
        for feed in list(self._feeds.values()):
            feed.forsake()

    def forsake_queued(self, running: Container[str]) -> None:
        """Nobody may wait here for a run that was accepted and is not being executed here."""
        for feed in list(self._feeds.values()):
            if feed.seq and feed.run_id not in running:
                feed.forsake()
