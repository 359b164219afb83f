"""Readers: what one is given from a cursor, whatever became of the text that it had."""

from __future__ import annotations

import asyncio

import pytest

from app.domain import events as ev
from app.domain.errors import RequestError
from app.domain.events import Event
from app.runs.ids import message_id
from app.runs.live import Feed
from app.runs.stream import Cursor, Item, check_cursor, parse_cursor
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
    steering,
    used,
    waiting,
)  # fmt: skip
from tests.waiting import until


def process(store: JournalStore) -> Process:
    return Process(store, Bus(), channel=False)


def names(items: list[Item]) -> list[tuple[str | None, str]]:
    return [(item.id, item.name) for item in items]


async def replay(*said: Event, cursor: str = "") -> list[Item]:
    """What a reader of a finished run gets from that cursor, which is accepted."""
    store = JournalStore()
    store.append(*said)
    begin = await check_cursor(store, Feed(RUN), parse_cursor(cursor), store.head())  # type: ignore[arg-type]
    return await collected(process(store).reader(begin, feed=Feed(RUN)))


async def refused(*said: Event, cursor: str) -> None:
    with pytest.raises(RequestError) as error:
        await replay(*said, cursor=cursor)
    assert error.value.code == "invalid_cursor"


WHOLE = (created(), ev.RunStarted(attempt=1), answer(2, "hello"), used(), finished("hello"))


async def test_the_rest_of_a_finished_message() -> None:
    assert names(await replay(*WHOLE)) == [
        ("1", "run.created"), ("2", "run.started"), ("2.5", "message.delta"), ("3", "message.completed"),
        ("4", "usage.recorded"), ("5", "run.finished"),
    ]  # fmt: skip
    some = await replay(*WHOLE, cursor="2.3")
    assert data(some[0]) == {"message_id": message_id(RUN, 2), "offset": 3, "text": "lo"}
    assert names(await replay(*WHOLE, cursor="2.5"))[0] == ("3", "message.completed")
    assert names(await replay(*WHOLE, cursor="5")) == [("5", "run.finished")]
    for beyond in ("2.6", "5.1", "6"):
        await refused(*WHOLE, cursor=beyond)


@pytest.mark.parametrize("offset", [1, 4, 900])
async def test_the_text_of_a_dead_attempt_is_forgotten_first(offset: int) -> None:
    crashed = (created(), ev.RunStarted(attempt=1), ev.RunStarted(attempt=2), answer(3, "hi"), used(), finished("hi"))
    found = await replay(*crashed, cursor=f"2.{offset}")
    assert names(found)[:4] == [
        ("2", "message.reset"), ("3", "run.started"), ("3.2", "message.delta"), ("4", "message.completed"),
    ]  # fmt: skip
    assert data(found[0]) == {"message_id": message_id(RUN, 2)}
    assert data(found[2])["offset"] == 0
    assert "message.reset" not in [item.name for item in await replay(*crashed, cursor="2")]


async def test_an_end_that_nobody_executed_ends_the_text_too() -> None:
    found = await replay(created(), ev.RunStarted(attempt=1), finished(), cursor="2.7")
    assert names(found) == [("2", "message.reset"), ("3", "run.finished")]


async def test_a_run_that_was_stopped_keeps_what_it_said() -> None:
    found = await replay(created(), ev.RunStarted(attempt=1), used(), finished(), cursor="2.7")
    assert names(found) == [("3", "usage.recorded"), ("4", "run.finished")]


async def test_text_that_was_cut_and_handed_on_is_forgotten() -> None:
    cut = (created(), ev.RunStarted(attempt=1), used(), ev.RunStarted(attempt=2), answer(4, "new"), finished("new"))
    assert names(await replay(*cut, cursor="2.2")) == [
        ("3", "usage.recorded"), ("3", "message.reset"), ("4", "run.started"), ("4.3", "message.delta"),
        ("5", "message.completed"), ("6", "run.finished"),
    ]  # fmt: skip


async def test_a_reset_that_is_stored_is_not_told_twice() -> None:
    reset = ev.MessageReset(message_id=message_id(RUN, 2))
    found = await replay(created(), ev.RunStarted(attempt=1), reset, answer(3, "new"), finished(), cursor="2.2")
    assert names(found)[:2] == [("3", "message.reset"), ("3.3", "message.delta")]
    assert data(found[1])["offset"] == 0


async def test_a_message_of_another_beginning_is_whole() -> None:
    found = await replay(created(), ev.RunStarted(attempt=1), used(), answer(3, "other"), finished(), cursor="2.2")
    assert names(found)[1:3] == [("3", "message.reset"), ("3.5", "message.delta")]
    assert data(found[1]) == {"message_id": message_id(RUN, 2)}


async def test_a_message_that_steers_has_no_delta_and_moves_no_offset() -> None:
    found = await replay(
        created(), ev.RunStarted(attempt=1), answer(2, "one"), steering("do that"), answer(4, "two"), finished(), cursor="2.1"
    )  # fmt: skip
    assert names(found) == [
        ("2.3", "message.delta"), ("3", "message.completed"), ("4", "message.completed"), ("4.3", "message.delta"),
        ("5", "message.completed"), ("6", "run.finished"),
    ]  # fmt: skip


async def test_messages_of_an_earlier_release() -> None:
    old = ev.MessageCompleted(message=ev.VisibleMessage(id="msg_0190aa", role="assistant", content="hello"))
    found = await replay(created(), ev.RunStarted(attempt=1), old, finished(), cursor="2.2")
    assert data(found[0]) == {"message_id": "msg_0190aa", "offset": 2, "text": "llo"}


async def test_a_run_that_waits_is_read_on() -> None:
    store = JournalStore()
    p = process(store)
    feed = p.feeds.hold(RUN, 0)
    feed.publish(store.append(created(), ev.RunStarted(attempt=1)))
    reading = asyncio.create_task(collected(p.reader()))
    await until(lambda: feed.readers)
    feed.publish(store.append(waiting()))
    await until(lambda: feed.readers and not reading.done())
    feed.publish(store.append(ev.RunStarted(attempt=2), finished()))
    assert [item.name for item in await reading][-3:] == ["run.waiting", "run.started", "run.finished"]


async def test_cursors_into_text_that_grows() -> None:
    store = JournalStore()
    p = process(store)
    feed = p.feeds.hold(RUN, 0)
    feed.publish(store.append(created(), ev.RunStarted(attempt=1)))

    async def accepted(text: str, feed: Feed = feed) -> bool:
        try:
            await check_cursor(store, feed, parse_cursor(text), store.head())  # type: ignore[arg-type]
        except RequestError:
            return False
        return True

    assert not await accepted("2.1")
    feed.begin(message_id(RUN, 2))
    feed.text("hello")
    assert [await accepted(f"2.{n}") for n in (1, 5, 6)] == [True, True, False]
    assert [await accepted(text) for text in ("1.1", "3", "2")] == [True, False, True]
    elsewhere = process(store).feeds.open(RUN)  # how far it is there, nobody here knows
    assert await accepted("2.6", elsewhere)


async def test_a_reader_who_had_more_than_is_known_here_waits_for_the_rest() -> None:
    store = JournalStore()
    p = process(store)
    feed = p.feeds.open(RUN)
    feed.learn(len(store.append(created(), ev.RunStarted(attempt=1))))
    feed.begin(message_id(RUN, 2))
    feed.hear("hel")
    batches = p.reader(Cursor(2, 4)).batches()
    more = asyncio.ensure_future(anext(batches))
    await until(lambda: feed.readers)
    feed.hear("l")
    await asyncio.sleep(0)
    feed.hear("o")
    assert [(item.id, data(item)["text"]) for item in await more] == [("2.5", "o")]
    await batches.aclose()
    assert feed.readers == 0


async def test_text_is_shown_to_those_who_know_what_was_before_it() -> None:
    store = JournalStore()
    p = process(store)
    feed = p.feeds.open(RUN)
    feed.learn(len(store.append(created(), ev.RunStarted(attempt=1))))
    feed.begin(message_id(RUN, 3), 3)  # text came faster than the news of the event before it
    feed.hear("late")
    batches = p.reader().batches()
    assert [item.id for item in await anext(batches)] == ["1", "2"]
    more = asyncio.ensure_future(anext(batches))
    await asyncio.sleep(0)
    assert not more.done()
    feed.take(store.append(used()))
    assert [item.id for item in await more] == ["3"]
    assert [item.id for item in await anext(batches)] == ["3.4"]
    await batches.aclose()


async def test_a_reader_waits_for_a_database_that_is_away() -> None:
    store = JournalStore()
    store.append(*WHOLE)
    store.away = True
    batches = process(store).reader(feed=Feed(RUN), keep_alive=0.001).batches()
    assert await anext(batches) == []
    store.away = False
    assert [item.name async for batch in batches for item in batch][-1] == "run.finished"


async def test_silence_is_told_and_one_timer_serves_all_waits() -> None:
    store = JournalStore()
    p = process(store)
    feed = p.feeds.hold(RUN, 0)
    feed.publish(store.append(created()))
    batches = p.reader(keep_alive=0.02).batches()
    assert [item.id for item in await anext(batches)] == ["1"]
    assert await anext(batches) == []
    assert await anext(batches) == []
    p.feeds.close()
    assert [batch async for batch in batches] == []


async def test_a_deleted_run_ends_its_readers() -> None:
    store = JournalStore()
    p = process(store)
    feed = p.feeds.open(RUN)
    feed.learn(len(store.append(created())))
    reading = asyncio.create_task(collected(p.reader()))
    await until(lambda: feed.readers)
    p.feeds.gone(feed)
    assert [item.id for item in await reading] == ["1"]
    assert await collected(p.reader(Cursor(1), feed=Feed("another"))) == []
