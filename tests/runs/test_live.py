"""Feeds: what is kept of a run, and what is dropped when."""

from __future__ import annotations

import asyncio
import gc
from typing import Any

import pytest

from app.domain import events as ev
from app.domain.hints import LivePiece
from app.runs.ids import message_id
from app.runs.live import KEPT_EVENTS, Feed, Feeds
from app.runs.outgoing import PIECE, Outgoing
from tests.runs.stored import RUN, Bus, JournalStore, Told, answer, created, finished, used, waiting


def feeds() -> tuple[Feeds, Told]:
    told = Told(Bus())
    return Feeds(hints=told), told


def test_events_that_are_known_are_left_out_and_a_gap_empties_the_feed() -> None:
    store = JournalStore()
    events = store.append(created(), *[used()] * 9)
    feed = feeds()[0].open(RUN)
    feed.take(events[:3])
    feed.take(events[1:4])
    assert ([event.seq for event in feed.events], feed.seq) == ([1, 2, 3, 4], 4)
    feed.take(events[:2])
    feed.take([])
    assert feed.seq == 4
    feed.take(events[6:8])
    assert ([event.seq for event in feed.events], feed.seq) == ([7, 8], 8)
    feed.jump(6)
    assert feed.seq == 8
    feed.jump(10)
    assert (list(feed.events), feed.seq) == ([], 10)


def test_what_is_learned_of_the_journal_makes_no_event_pass_unseen() -> None:
    store = JournalStore()
    some, _ = feeds()
    feed = some.open(RUN)
    feed.learn(2)
    assert (feed.seq, some.unseen()) == (2, [])
    feed.learn(3)
    assert (feed.seq, some.unseen()) == (2, [feed])
    held = some.hold("run_2", 0)
    held.publish(store.append(created(), run_id="run_2"))
    parked = store.append(waiting(), run_id="run_2")
    held.learn(2)  # a reader looked between the write and the news of it
    assert (held.seq, some.unseen()) == (1, [])
    held.publish(parked)
    assert held.result == waiting()


def test_no_more_events_are_kept_than_that() -> None:
    feed = feeds()[0].open(RUN)
    feed.take(JournalStore().append(created(), *[used()] * KEPT_EVENTS))
    assert (feed.events[0].seq, len(feed.events)) == (2, KEPT_EVENTS)


def test_text_is_dropped_by_the_event_after_it() -> None:
    store = JournalStore()
    feed = feeds()[0].hold(RUN, 0)
    feed.publish(store.append(created(), ev.RunStarted(attempt=1)))
    feed.begin(message_id(RUN, 2))
    feed.text("a")
    feed.publish(store.journals[RUN])
    assert feed.chunks == ["a"]
    feed.publish(store.append(used()))
    feed.text("nobody's")
    assert (feed.message_id, feed.chunks, feed.length) == (None, [], 0)


def test_others_are_told_of_what_is_written_here_only() -> None:
    store = JournalStore()
    some, told = feeds()
    feed = some.hold(RUN, 0)
    feed.publish(store.append(created()))
    assert told.count == 1
    feed.take(store.append(used()))
    assert told.count == 1
    some.release(RUN)
    some.open(RUN).publish(store.append(finished()))  # by the service, of a run that nobody had
    assert told.count == 2
    Feed(RUN).publish(store.journals[RUN])


def test_a_held_feed_stays_and_a_run_that_is_over_is_forgotten() -> None:
    store = JournalStore()
    some, _ = feeds()
    some.hold(RUN, 0)
    gc.collect()
    feed = some.get(RUN)
    assert feed is not None
    assert some.hold(RUN, 0) is feed
    assert some.followed() == []
    feed.publish(store.append(created(), finished("x")))
    assert (feed.over, feed.result, some.get(RUN)) == (True, finished("x"), None)
    some.end(RUN, finished("x"))
    some.release(RUN)
    refused = some.hold("run_2", 0)
    refused.held = False
    some.leave(refused)
    del refused
    gc.collect()
    assert some.get("run_2") is None


def test_a_run_that_is_claimed_here_is_read_from_the_journal_where_it_was_not_seen() -> None:
    store = JournalStore()
    some, _ = feeds()
    feed = some.open(RUN)
    assert some.followed() == [feed]
    feed.take(store.append(created(), ev.RunStarted(attempt=1), waiting()))
    feed.begin(message_id(RUN, 3))
    feed.hear("dead")
    assert some.hold(RUN, 5) is feed
    assert (feed.seq, list(feed.events), feed.length, feed.result) == (5, [], 0, None)
    some.release(RUN)
    assert some.followed() == [feed]
    assert some.unseen() == [feed]
    assert some.unseen() == []


def test_a_start_after_a_wait_ends_it() -> None:
    store = JournalStore()
    feed = feeds()[0].open(RUN)
    feed.take(store.append(created(), ev.RunStarted(attempt=1), waiting()))
    assert feed.result == waiting()
    feed.take(store.append(ev.RunStarted(attempt=2)))
    assert feed.result is None


@pytest.mark.parametrize("offset", range(8))
def test_text_from_any_offset(offset: int) -> None:
    feed = feeds()[0].hold(RUN, 0)
    feed.begin("m")
    for text in ("ab", "cde", "", "f"):
        feed.text(text)
    chunk, rest = feed.chunk_at(offset)
    assert rest + feed.since(chunk, 100)[1] == "abcdef"[offset:]


class SlowChannel:
    """Takes one batch whenever it may."""

    def __init__(self) -> None:
        self.batches: list[list[LivePiece]] = []
        self.may = asyncio.Semaphore(0)

    async def send(self, pieces: Any) -> None:
        self.batches.append(list(pieces))
        await self.may.acquire()


async def test_what_grows_is_sent_by_the_batch() -> None:
    channel = SlowChannel()
    some = Feeds(hints=Told(Bus()), channel=channel)  # type: ignore[arg-type]  # it only sends
    assert isinstance(some.outgoing, Outgoing)
    sending = asyncio.create_task(some.outgoing.run())
    first, second = some.hold("run_1", 3), some.hold("run_2", 0)
    for feed in (first, second):
        feed.begin(message_id(feed.run_id, feed.seq))

    async def turn() -> None:
        for _ in range(5):
            await asyncio.sleep(0)

    first.text("a")
    await turn()
    for n in range(3):
        first.text(str(n))
        second.text("x" * PIECE)
    await turn()
    assert channel.batches == [[LivePiece(run_id="run_1", message_id="msg_1_3", seq=3, offset=0, text="a")]]
    channel.may.release()
    await turn()
    assert sorted((p.run_id, p.offset, len(p.text)) for p in channel.batches[1]) == [
        ("run_1", 1, 3),
        ("run_2", 0, PIECE),
    ]
    second.publish(
        JournalStore().append(created(), answer(1, ""), run_id="run_2")
    )  # what is left of it comes with its message
    first.text("z")
    channel.may.release()
    await turn()
    assert [[(p.run_id, p.offset, p.text) for p in batch] for batch in channel.batches[2:]] == [[("run_1", 4, "z")]]
    channel.may.release()
    await turn()
    assert len(channel.batches) == 3
    sending.cancel()
    await asyncio.wait([sending])
