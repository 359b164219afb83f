"""Several processes over one journal: readers anywhere get the run, whatever is lost between them."""

from __future__ import annotations

import asyncio
import gc
import random
from typing import Any

import pytest

from app.domain import events as ev
from app.domain.hints import LivePiece
from app.runs.ids import message_id
from app.runs.stream import Cursor, Item
from tests.runs.stored import (
    RUN,
    Bus,
    JournalStore,
    Process,
    answer,
    collected,
    created,
    data,
    finished,
    processes,
    used,
    waiting,
)
from tests.runs.test_clients import BEGUN, begin, check
from tests.waiting import until


def piece(seq: int, offset: int, text: str) -> LivePiece:
    return LivePiece(run_id=RUN, message_id=message_id(RUN, seq), seq=seq, offset=offset, text=text)


def known(process: Process) -> int:
    """The last event that is known there."""
    feed = process.feeds.get(RUN)
    return 0 if feed is None else feed.seq


async def test_a_run_that_lives_elsewhere_is_read_by_a_thousand_at_one_read_per_event() -> None:
    store, bus = JournalStore(), Bus()
    async with processes(2, store, bus, poll=60.0) as (home, away):
        feed = begin(home, store)
        readings = [asyncio.create_task(collected(away.reader())) for _ in range(1000)]
        await until(lambda: (found := away.feeds.get(RUN)) is not None and found.readers == 1000 and found.seq)
        await until(lambda: len(asyncio.all_tasks()) < 1010)
        before = store.reads
        for n in range(5):
            feed.publish(store.append(answer(n + 2, f"text {n}")))
            await until(lambda: known(away) == len(store.journals[RUN]))
        feed.publish(store.append(finished()))
        for found in await asyncio.gather(*readings):
            assert [item.name for item in found][-3:] == ["message.delta", "message.completed", "run.finished"]
        assert store.reads - before <= 6
        assert away.feeds.get(RUN) is None


async def test_without_hints_the_poll_finds_it() -> None:
    store, bus = JournalStore(), Bus(random.Random(1), hints=0.0)
    async with processes(3, store, bus) as (home, *others):
        feed = begin(home, store)
        readings = [asyncio.create_task(collected(process.reader())) for process in others]
        await until(lambda: all(process.feeds.get(RUN) for process in others))
        feed.publish(store.append(answer(2, "hello"), used()))
        feed.publish(store.append(finished("hello")))
        for reading in readings:
            assert [item.id for item in await reading] == ["1", "2", "2.5", "3", "4", "5"]


async def test_nothing_is_asked_while_nothing_is_followed() -> None:
    store, bus = JournalStore(), Bus()
    async with processes(1, store, bus, poll=0.001) as (process,):
        feed = begin(process, store)
        reading = asyncio.create_task(collected(process.reader()))
        await asyncio.sleep(0.05)
        feed.publish(store.append(finished()))
        await reading
        await asyncio.sleep(0.05)
        assert store.looks == 0


async def test_an_outage_ends_and_the_followed_go_on() -> None:
    store, bus = JournalStore(), Bus()
    async with processes(2, store, bus) as (home, away):
        feed = begin(home, store)
        reading = asyncio.create_task(collected(away.reader()))
        await until(lambda: known(away))
        store.away = True
        feed.publish(store.append(answer(2, "hello"), finished("hello")))
        looks = store.looks
        await until(lambda: store.looks > looks + 1)
        assert not reading.done()
        store.away = False
        assert [item.name for item in await reading][-1] == "run.finished"


async def test_a_deleted_run_ends_readers_and_waiters() -> None:
    store, bus = JournalStore(), Bus()
    async with processes(1, store, bus) as (process,):
        store.append(*BEGUN)
        feed = process.feeds.open(RUN)
        reading = asyncio.create_task(collected(process.reader()))
        waited = asyncio.create_task(feed.outcome(None))
        await until(lambda: feed.readers and feed.seq)
        del store.journals[RUN]
        assert [item.id for item in await reading] == ["1", "2"]
        assert await waited is None


async def test_a_feed_is_kept_as_long_as_somebody_has_it() -> None:
    store, bus = JournalStore(), Bus()
    async with processes(1, store, bus, channel=True) as (process,):
        store.append(*BEGUN)
        batches = process.reader().batches()
        assert [item.id for item in await anext(batches)] == ["1", "2"]
        await until(lambda: process.wire.listening == {RUN})
        assert process.feeds.get(RUN) is process.feeds.open(RUN)
        await batches.aclose()
        del batches
        gc.collect()
        await until(lambda: not process.wire.listening)
        assert process.feeds.get(RUN) is None
        assert process.feeds.followed() == []


async def test_the_outcome_is_known_wherever_the_run_ends() -> None:
    store, bus = JournalStore(), Bus()
    async with processes(2, store, bus, poll=60.0) as (home, away):
        mine = away.feeds.hold(RUN, 0)
        mine.publish(store.append(created()))
        away.feeds.release(RUN)
        answered = asyncio.create_task(mine.outcome(None))
        feed = home.feeds.hold(RUN, 1)
        feed.publish(store.append(ev.RunStarted(attempt=1)))
        await until(lambda: mine.seq == 2)
        assert mine.awaited == 1
        with pytest.raises(TimeoutError):
            await mine.outcome(0.001)
        feed.publish(store.append(waiting()))
        home.feeds.release(RUN)
        assert await answered == waiting() == await mine.outcome(1.0)
        mine.resumed()
        again = asyncio.create_task(mine.outcome(None))
        feed = home.feeds.hold(RUN, 3)
        feed.publish(store.append(ev.RunStarted(attempt=2), finished("x")))
        assert await again == finished("x") == await mine.outcome(None) == await feed.outcome(None)
        assert (mine.awaited, away.feeds.get(RUN)) == (0, None)


@pytest.mark.parametrize("end", [waiting(), finished("x")])
async def test_an_outcome_from_before_anybody_looked_here(end: Any) -> None:
    store, bus = JournalStore(), Bus()
    async with processes(1, store, bus, poll=60.0) as (process,):
        store.append(*BEGUN, *[used()] * 100, end, *[used()] * (end == waiting()))
        assert await process.feeds.open(RUN).outcome(10.0) == end


async def test_a_wait_that_is_over_is_no_outcome() -> None:
    store, bus = JournalStore(), Bus()
    async with processes(1, store, bus) as (process,):
        store.append(*BEGUN, waiting())
        store.statuses[RUN] = "queued"
        feed = process.feeds.open(RUN)
        waited = asyncio.create_task(feed.outcome(None))
        await until(lambda: store.looks > 2)
        assert not waited.done()
        store.append(ev.RunStarted(attempt=2), finished("x"))
        assert await waited == finished("x")


async def test_nobody_waits_in_a_process_that_ends() -> None:
    store, bus = JournalStore(), Bus()
    async with processes(1, store, bus) as (process,):
        feed = begin(process, store)
        queued = process.feeds.open("run_2")
        queued.take(store.append(created(), run_id="run_2"))
        waits = [asyncio.create_task(each.outcome(None)) for each in (feed, queued)]
        await until(lambda: feed.awaited and queued.awaited)
        process.feeds.forsake_queued({RUN})
        assert await waits[1] is None
        assert not waits[0].done()
        process.feeds.forsake()
        assert await waits[0] is None
        assert await process.feeds.open("run_3").outcome(None) is None


async def test_live_text_between_processes() -> None:
    store, bus = JournalStore(), Bus()
    async with processes(2, store, bus, channel=True, poll=60.0) as (home, away):
        feed = begin(home, store)
        feed.begin(message_id(RUN, 2))
        feed.text("be")
        await until(lambda: bus.kept)
        batches = away.reader(Cursor(2)).batches()
        assert [(item.id, data(item)["text"]) for item in await anext(batches)] == [("2.2", "be")]
        feed.text("fo")
        feed.text("re")
        assert [(item.id, data(item)["text"]) for item in await anext(batches)] == [("2.6", "fore")]
        assert [p.offset for p in bus.sent] == [0, 2]
        feed.publish(store.append(answer(2, "before")))
        assert [item.id for item in await anext(batches)] == ["3"]
        await batches.aclose()


async def test_what_is_joined_and_what_is_left_out() -> None:
    store, bus = JournalStore(), Bus()
    async with processes(1, store, bus, channel=True, poll=60.0) as (process,):
        wire = process.wire
        store.append(*BEGUN)
        reader = process.reader()
        reading = asyncio.create_task(collected(reader))
        feed = process.feeds.open(RUN)
        await until(lambda: feed.seq and wire.listening and wire.answered == 1)

        def text() -> str:
            return "".join(feed.chunks)

        for told, known in [
            (piece(2, 0, "abc"), "abc"),
            (piece(2, 0, "abc"), "abc"),
            (piece(2, 1, "bcd"), "abcd"),
            (piece(1, 0, "old"), "abcd"),
            (piece(2, -1, "?"), "abcd"),
            (LivePiece(run_id=RUN, message_id="msg_other_2", seq=2, offset=0, text="?"), "abcd"),
            (LivePiece(run_id="run_unknown", message_id="msg_unknown_2", seq=2, offset=0, text="?"), "abcd"),
            (piece(2, 4, "e"), "abcde"),
        ]:
            wire.said(told)
            assert text() == known
        bus.kept[RUN] = piece(2, 0, "abcdefghi")
        wire.said(piece(2, 7, "hi"))
        assert text() == "abcde"
        await until(lambda: text() == "abcdefghi")
        bus.kept[RUN] = piece(2, 0, "abcdefghijkl")
        await wire.again()
        await until(lambda: text() == "abcdefghijkl")
        snapshots = wire.answered
        for _ in range(100):
            wire.said(piece(2, 900, "?"))
            await asyncio.sleep(0)
        assert wire.answered <= snapshots + 1
        wire.said(piece(3, 0, "next"))  # faster than the event before it, and hint enough
        store.append(answer(2, "abcdefghijkl"))
        await until(lambda: feed.seq == 3)
        assert text() == "next"
        store.append(answer(3, "next"), finished())
        process.follower.wrote(RUN)
        assert [item.id for item in await reading][-4:] == ["3", "3.4", "4", "5"]


async def test_a_run_moves_under_its_readers_and_waiters() -> None:
    store, bus = JournalStore(), Bus()
    async with processes(2, store, bus, channel=True, poll=60.0) as (one, two):
        feed = begin(one, store)
        shown: list[list[Item]] = [[], []]
        readings = [
            asyncio.create_task(collected(process.reader(), items))
            for process, items in zip((one, two), shown, strict=True)
        ]
        waits = [asyncio.create_task(process.feeds.open(RUN).outcome(None)) for process in (one, two)]
        other = two.feeds.open(RUN)
        feed.begin(message_id(RUN, 2))
        feed.text("dead")
        await until(lambda: all(items and items[-1].id == "2.4" for items in shown))
        one.feeds.release(RUN)
        assert two.feeds.hold(RUN, 2) is other
        assert (other.length, feed.length) == (0, 0)
        other.publish(store.append(ev.RunStarted(attempt=2)))
        await until(lambda: one.wire.listening and not two.wire.listening and feed.seq == 3)
        other.begin(message_id(RUN, 3))
        other.text("live")
        await until(lambda: all(items[-1].id == "3.4" for items in shown))
        two.feeds.release(RUN)
        assert one.feeds.hold(RUN, 3) is feed
        feed.publish(store.append(ev.RunStarted(attempt=3), answer(4, "final"), finished("final")))
        assert await asyncio.gather(*waits) == [finished("final")] * 2
        await asyncio.gather(*readings)
        for found in shown:
            assert check(found) == {message_id(RUN, 4): "final"}
            assert [item.name for item in found].count("message.reset") == 2
