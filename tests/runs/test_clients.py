"""Clients of a run that moves between processes: however they come and go, each has the whole of it."""

from __future__ import annotations

import asyncio
import random

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.domain import events as ev
from app.runs.ids import message_id
from app.runs.live import Feed
from app.runs.stream import Item, check_cursor, parse_cursor
from tests.runs.stored import (
    RUN,
    Bus,
    JournalStore,
    Process,
    answer,
    created,
    data,
    finished,
    processes,
    steering,
    used,
    waiting,
)

BEGUN = (created(), ev.RunStarted(attempt=1))


def begin(process: Process, store: JournalStore) -> Feed:
    """The run lives in that process, which has begun it."""
    feed = process.feeds.hold(RUN, 0)
    feed.publish(store.append(*BEGUN))
    return feed


def check(found: list[Item]) -> dict[str, str]:
    """What one who follows the rules has at the end, each rule looked after."""
    texts: dict[str, str] = {}
    seq = 0
    for item in found:
        told = data(item)
        if item.name == "message.delta":
            assert told["offset"] == len(texts.get(told["message_id"], "")), item
            texts[told["message_id"]] = texts.get(told["message_id"], "") + told["text"]
            assert item.id == f"{seq}.{len(texts[told['message_id']])}"
        elif item.name == "message.reset":
            texts.pop(told["message_id"], None)
            assert item.id == str(seq)
        else:
            assert item.id == str(seq + 1)
            seq += 1
        if item.name == "message.completed" and told["message"]["role"] == "assistant":
            assert texts.get(told["message"]["id"], "") == told["message"]["content"]
    assert found[-1].name == "run.finished"
    return texts


class Writer:
    """A run that goes on in one process, then in another, as its script says."""

    def __init__(self, homes: list[Process], store: JournalStore, chance: random.Random) -> None:
        self._homes = homes
        self._store = store
        self._chance = chance
        self._attempt = 1
        self._feed = begin(chance.choice(homes), store)

    async def _pause(self) -> None:
        for _ in range(self._chance.choice((0, 0, 1, 3, 40))):
            await asyncio.sleep(0)

    def _say(self, *said: ev.Event) -> None:
        self._feed.publish(self._store.append(*said))

    async def _text(self, chunks: list[str]) -> int:
        seq = len(self._store.journals[RUN])
        self._feed.begin(message_id(RUN, seq))
        for chunk in chunks:
            self._feed.text(chunk)
            await self._pause()
        return seq

    async def run(self, script: list[tuple[str, list[str]]]) -> None:
        """Everything of the script, then the end."""
        for what, chunks in script:
            await self._pause()
            if what == "message":
                seq = await self._text(chunks)
                self._say(answer(seq, "".join(chunks)), used())
            elif what == "steered":
                seq = await self._text(chunks)
                self._say(answer(seq, "".join(chunks)), used(), steering("".join(chunks)))
            elif what == "waits":
                self._say(waiting())
                self._move(zombie=False)
            else:
                await self._text(chunks)
                self._move(zombie=what == "zombie")
        await self._pause()
        self._say(finished())

    def _move(self, *, zombie: bool) -> None:
        """Another process, or the same, takes the run; the one before is told at once or goes on saying things for nobody."""
        before, self._attempt = self._feed, self._attempt + 1
        home = self._chance.choice(self._homes)
        if not zombie or home.feeds.get(RUN) is before:
            next(process for process in self._homes if process.feeds.get(RUN) is before).feeds.release(RUN)
        seq = len(self._store.journals[RUN])
        self._feed = home.feeds.hold(RUN, seq)
        self._say(ev.RunStarted(attempt=self._attempt))
        if before is not self._feed and before.held:
            before.text("for nobody")
            next(process for process in self._homes if process.feeds.get(RUN) is before).feeds.release(RUN)


async def client(homes: list[Process], store: JournalStore, chance: random.Random, batches: int) -> list[Item]:
    """Reads the run, dropped after so many batches and sent to any process, in the middle of one or after it."""
    found: list[Item] = []
    while not found or found[-1].name != "run.finished":
        home = chance.choice(homes)
        feed = home.feeds.open(RUN)
        last = found[-1].id if found else None
        cursor = await check_cursor(store, feed, parse_cursor(last), store.head())  # type: ignore[arg-type]
        reading = home.reader(cursor, feed=feed).batches()
        for _ in range(chance.randint(1, batches)):
            batch = await anext(reading)
            found += batch[: chance.randint(1, len(batch))] if chance.random() < 0.3 else batch
            if batch[-1] is not found[-1] or found[-1].name == "run.finished":
                break
        await reading.aclose()
        home.feeds.leave(feed)
    return found


chunks = st.lists(st.text("abä𝄞", min_size=1, max_size=3), max_size=6)
scripts = st.lists(st.tuples(st.sampled_from(("message", "steered", "waits", "crash", "zombie")), chunks), max_size=6)


@given(
    script=scripts,
    seed=st.integers(0, 2**32),
    channel=st.booleans(),
    hints=st.sampled_from((0.0, 0.5, 1.0)),
    batches=st.sampled_from((1, 2, 5, 1000)),
)
@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
async def test_every_client_has_the_run(
    script: list[tuple[str, list[str]]], seed: int, channel: bool, hints: float, batches: int
) -> None:
    chance = random.Random(seed)
    store = JournalStore()
    bus = Bus(chance, hints=hints)
    async with processes(3, store, bus, channel=channel, poll=0.005) as homes:
        writer = Writer(homes, store, chance)
        clients = [asyncio.create_task(client(homes, store, chance, batches)) for _ in range(4)]
        async with asyncio.timeout(20):
            await writer.run(script)
            found = await asyncio.gather(*clients)
    messages = [
        data(event)["message"]  # type: ignore[arg-type]  # a stored event has a payload too
        for event in store.journals[RUN]
        if event.name == "message.completed"
    ]
    whole = {m["id"]: m["content"] for m in messages if m["role"] == "assistant" and m["content"]}
    for items in found:
        assert check(items) == whole
