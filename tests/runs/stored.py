"""A journal without a database, what reads it in several processes at once, and a channel between them that misbehaves."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import msgspec

from app.domain import events as ev
from app.domain.errors import DatabaseUnavailable
from app.domain.hints import LivePiece
from app.domain.runs import RunStatus
from app.domain.stores import Head
from app.runs.follow import Follower
from app.runs.ids import message_id
from app.runs.live import Feed, Feeds
from app.runs.stream import Cursor, Item, Reader

RUN = "run_1"


class JournalStore:
    """What of a `RunStore` the reading side asks for, over lists. `reads` counts looks at a journal, `looks` those at heads."""

    def __init__(self) -> None:
        self.journals: dict[str, list[ev.StoredEvent]] = {}
        self.statuses: dict[str, RunStatus] = {}
        self.away = False
        self.reads = 0
        self.looks = 0

    def append(self, *said: ev.Event, run_id: str = RUN) -> list[ev.StoredEvent]:
        """Those events are stored, and returned."""
        journal = self.journals.setdefault(run_id, [])
        new = [stored(len(journal) + n, event) for n, event in enumerate(said, 1)]
        journal += new
        for event in said:
            if isinstance(event, ev.RunFinished):
                self.statuses[run_id] = event.status
            elif isinstance(event, ev.RunWaiting):
                self.statuses[run_id] = "waiting"
            elif isinstance(event, ev.RunStarted):
                self.statuses[run_id] = "running"
        return new

    async def events(self, run_id: str, after: int, limit: int) -> list[ev.StoredEvent]:
        self.reads += 1
        await asyncio.sleep(0)
        if self.away:
            raise DatabaseUnavailable("away")
        found = self.journals.get(run_id, [])[after : after + limit]
        await asyncio.sleep(0)
        return found

    async def heads(self, run_ids: Sequence[str]) -> dict[str, Head]:
        self.looks += 1
        if self.away:
            raise DatabaseUnavailable("away")
        found = {run_id: self.head(run_id) for run_id in run_ids if run_id in self.journals}
        await asyncio.sleep(0)
        return found

    def head(self, run_id: str = RUN) -> Head:
        return Head(status=self.statuses.get(run_id, "queued"), last_seq=len(self.journals[run_id]))


class Bus:
    """Hints and pieces between processes; loses, repeats and reorders as its `chance` says."""

    def __init__(self, chance: random.Random | None = None, *, hints: float = 1.0) -> None:
        self.chance = chance
        self.hints = hints
        self.followers: list[Follower] = []
        self.wires: list[Wire] = []
        self.kept: dict[str, LivePiece] = {}
        self.sent: list[LivePiece] = []

    def wrote(self, run_id: str, teller: Follower | None = None) -> None:
        if self.chance is not None and self.chance.random() > self.hints:
            return
        for follower in self.followers:
            if follower is not teller:
                follower.wrote(run_id)

    def spread(self, pieces: Sequence[LivePiece]) -> None:
        told: list[LivePiece] = []
        for piece in pieces:
            kept = self.kept.get(piece.run_id)
            if kept is not None and kept.message_id == piece.message_id and len(kept.text) == piece.offset:
                self.kept[piece.run_id] = msgspec.structs.replace(kept, text=kept.text + piece.text)
            elif piece.offset == 0 and (kept is None or kept.seq <= piece.seq):
                self.kept[piece.run_id] = piece
            self.sent.append(piece)
            told.append(piece)
            if self.chance is not None:
                told += [piece] * (self.chance.random() < 0.2)
                told += [self.chance.choice(self.sent)] * (self.chance.random() < 0.3)
                if self.chance.random() < 0.3:
                    told.pop()
        if self.chance is not None:
            self.chance.shuffle(told)
        for wire in self.wires:
            for piece in told:
                wire.hear(piece)


class Wire:
    """One process's end of the bus: a `LiveChannel`."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self.listening: set[str] = set()
        self.answered = 0
        self.said: Callable[[LivePiece], None] = _deaf
        bus.wires.append(self)

    def hear(self, piece: LivePiece) -> None:
        if piece.run_id in self.listening:
            self.said(piece)

    async def send(self, pieces: Sequence[LivePiece]) -> None:
        await asyncio.sleep(0)
        self._bus.spread(pieces)

    async def listen(self, run_id: str) -> None:
        await asyncio.sleep(0)
        self.listening.add(run_id)

    async def leave(self, run_id: str) -> None:
        self.listening.discard(run_id)

    async def snapshot(self, run_id: str) -> LivePiece | None:
        await asyncio.sleep(0)
        self.answered += 1
        return self._bus.kept.get(run_id)

    async def receive(self, said: Callable[[LivePiece], None], again: Callable[[], Awaitable[None]]) -> None:
        self.said = said
        self.again = again
        try:
            await asyncio.Event().wait()
        finally:
            self.said = _deaf


def _deaf(_: LivePiece) -> None:
    pass


class Told:
    """The hints that a process gives."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self.follower: Follower | None = None
        self.count = 0

    def wrote(self, run_id: str) -> None:
        self.count += 1
        self._bus.wrote(run_id, self.follower)

    def queued(self) -> None: ...

    def posted(self, run_id: str) -> None: ...


class Process:
    """The reading side of one process, and as much of the writing side as its feeds see."""

    def __init__(self, store: JournalStore, bus: Bus, *, channel: bool, poll: float = 0.01) -> None:
        self.store = store
        self.hints = Told(bus)
        self.wire = Wire(bus)
        self.feeds = Feeds(hints=self.hints, channel=self.wire if channel else None)
        self.follower = Follower(store=store, feeds=self.feeds, poll=poll)  # type: ignore[arg-type]  # it needs no more
        self.hints.follower = self.follower
        bus.followers.append(self.follower)

    def reader(self, cursor: Cursor | None = None, *, feed: Feed | None = None, keep_alive: float = 60.0) -> Reader:
        """A reader of the run."""
        feed = feed or self.feeds.open(RUN)
        cursor = cursor or Cursor()
        return Reader(store=self.store, feeds=self.feeds, feed=feed, cursor=cursor, keep_alive=keep_alive)  # type: ignore[arg-type]


@asynccontextmanager
async def processes(
    count: int, store: JournalStore, bus: Bus, *, channel: bool = False, poll: float = 0.01
) -> AsyncIterator[list[Process]]:
    """So many processes over one journal, following."""
    started = [Process(store, bus, channel=channel, poll=poll) for _ in range(count)]
    tasks = [asyncio.create_task(process.follower.run()) for process in started]
    try:
        yield started
        assert not any(task.done() for task in tasks), tasks
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


def stored(seq: int, event: ev.Event) -> ev.StoredEvent:
    return ev.StoredEvent(seq=seq, name=ev.NAMES[type(event)], payload=msgspec.json.encode(event))


def created() -> ev.RunCreated:
    return ev.RunCreated(run_id=RUN, session_id="s", agent="a", agent_version="v", message_id="m", input="x")


def answer(seq: int, text: str) -> ev.MessageCompleted:
    """The message that began after event `seq`."""
    return ev.MessageCompleted(message=ev.VisibleMessage(id=message_id(RUN, seq), role="assistant", content=text))


def steering(text: str) -> ev.MessageCompleted:
    return ev.MessageCompleted(message=ev.VisibleMessage(id="msg_of_a_person", role="user", content=text))


def used() -> ev.UsageRecorded:
    return ev.UsageRecorded(
        attempt=1, route="r", provider="p", model="m", outcome="ok", usage=None, cost_usd=None, duration_ms=1.0,
        time_to_first_token_ms=None,
    )  # fmt: skip


def waiting() -> ev.RunWaiting:
    return ev.RunWaiting(stop_reason="stopped_after_step")


def finished(output: str = "") -> ev.RunFinished:
    return ev.RunFinished(
        status="succeeded", stop_reason="completed", output=output, usage=None, cost_usd=None, iterations=1
    )


async def collected(reader: Reader, items: list[Item] | None = None) -> list[Item]:
    """Everything that a reader is given, to the end; added to `items` as it comes."""
    items = [] if items is None else items
    async for batch in reader.batches():
        items += batch
    return items


def data(item: Item) -> Any:
    return msgspec.json.decode(item.payload)
