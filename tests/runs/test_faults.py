"""What goes wrong below a run: answers lost, writes refused, rows that cannot be read. Nothing hangs, nothing is doubled."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import asyncpg
import pytest

from app.domain import events as ev
from app.domain.errors import DatabaseUnavailable, Fenced, RequestError
from app.domain.principals import ANONYMOUS
from app.domain.stores import NewEvent
from app.runs.journal import Entry, Journal
from app.runs.live import Feed, Feeds
from app.runs.service import StartRun
from app.runs.stream import Cursor, Reader
from tests.scripted import ScriptedProvider, says


class LateStore:
    """A store whose first write arrives, but only after its answer was lost and the writer had looked for it."""

    def __init__(self) -> None:
        self.late: list[NewEvent] = []
        self.stored: list[NewEvent] = []

    async def append(self, run_id: str, epoch: int, events: Sequence[NewEvent]) -> None:
        if not self.late:
            self.late = list(events)
            raise DatabaseUnavailable("the answer is lost")
        self.stored = self.late
        raise Fenced(run_id)

    async def stored_ids(self, run_id: str, seqs: Sequence[int]) -> list[Any]:
        return [event.id for event in self.stored if event.seq in seqs]


async def test_a_write_that_stood_in_its_own_way_is_found_again() -> None:
    journal = Journal(store=LateStore(), feed=Feed("r"), run_id="r", epoch=1, last_seq=2)  # type: ignore[arg-type]
    await journal.append([Entry(ev.MessageReset(message_id="m"))])
    assert journal.last_seq == 3


async def test_a_run_whose_write_is_refused_lets_go_of_its_caller(start_process: Any) -> None:
    async with start_process(ScriptedProvider(says("never stored"))) as p:

        async def refused(*_: object) -> None:
            raise asyncpg.NotNullViolationError("no")

        p.store.finish = refused
        started = await p.service.start(ANONYMOUS, StartRun(input="a", session_id="s"))
        with pytest.raises(RequestError) as error:
            await p.service.result(started)
        assert error.value.code == "not_ready"
        del p.store.finish
        assert await p.recovery.recover([]) == 1
        assert (await p.service.run(ANONYMOUS, started.run_id)).error.code == "interrupted"


async def test_rows_of_a_later_release_keep_nobody_from_starting(start_process: Any) -> None:
    gate = asyncio.Event()
    async with start_process(ScriptedProvider([gate])) as dead:
        started = await dead.service.start(ANONYMOUS, StartRun(input="a", session_id="s"))
        dead.serving.cancel()
        await dead.database.execute(
            "UPDATE agent_versions SET definition = '{\"name\": 7}'",
        )
        await dead.database.execute(
            "UPDATE events SET name = 'run.of_the_future' WHERE run_id = $1 AND seq = 2", started.run_id
        )
        async with start_process(ScriptedProvider()) as p:
            p.worker._agents._versions.clear()
            assert await p.recovery.recover([]) == 1
            assert (await p.service.run(ANONYMOUS, started.run_id)).status == "failed"


async def test_a_drain_waits_for_runs_that_are_being_born(start_process: Any) -> None:
    async with start_process(ScriptedProvider(says("in time"))) as p:
        gate, start = asyncio.Event(), p.store.start

        async def slowly(*arguments: Any, **more: Any) -> Any:
            await gate.wait()
            return await start(*arguments, **more)

        p.store.start = slowly
        starting = asyncio.create_task(p.service.start(ANONYMOUS, StartRun(input="a")))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        drain = asyncio.create_task(p.worker.drain(10.0))
        await asyncio.sleep(0)
        assert not drain.done()
        gate.set()
        assert (await p.service.result(await starting)).output == "in time"
        await drain


async def test_a_database_that_hangs_does_not_keep_the_caller(start_process: Any) -> None:
    async with start_process(ScriptedProvider(says("later"))) as p:
        gate, start = asyncio.Event(), p.store.start

        async def hangs(*arguments: Any, **more: Any) -> Any:
            await gate.wait()
            return await start(*arguments, **more)

        p.store.start = hangs
        with pytest.raises(RequestError) as error:
            await p.service.start(ANONYMOUS, StartRun(input="a", session_id="s", timeout=0.05))
        assert error.value.code == "not_ready"
        gate.set()
        await p.service.aclose()
        assert p.feeds._feeds == {} or all(feed.held for feed in p.feeds._feeds.values())


async def test_a_run_that_is_queued_during_the_look_at_the_queue_is_not_forgotten(start_process: Any) -> None:
    async with start_process(ScriptedProvider(), concurrency=1) as p:
        queue = p.store.queue
        looked = asyncio.Event()

        async def slow_queue() -> Any:
            depth = await queue()
            p.worker._may_have_queued = True  # what `queued` does while this look is under way
            looked.set()
            return depth

        p.store.queue = slow_queue
        p.worker._wake.set()
        await looked.wait()
        await asyncio.sleep(0)
        assert p.worker._may_have_queued


async def test_a_stop_just_after_the_answer_keeps_the_answer(start_process: Any) -> None:
    hang = asyncio.Event()
    async with start_process(ScriptedProvider([*says("paid and shown"), hang])) as p:
        started = await p.service.start(ANONYMOUS, StartRun(input="a", session_id="s", timeout=0.1))
        end = await p.service.result(started)
        assert end.stop_reason == "timeout"
        assert [m.content for _, m in await p.service.messages(ANONYMOUS, "s")] == ["a", "paid and shown"]


async def test_the_same_call_id_in_two_messages_is_two_calls(start_process: Any) -> None:
    call = says("", ("call_0", "echo", "{}"))
    async with start_process(ScriptedProvider(call, call, says("done"))) as p:
        started = await p.service.start(ANONYMOUS, StartRun(input="a"))
        await p.service.result(started)
        ids = [call.id for call in p.toolbox.calls]
        assert ids[0] == "call_0"
        assert len(set(ids)) == 2


async def test_denied_calls_are_counted_and_shown_with_their_arguments(start_process: Any) -> None:
    async with start_process(ScriptedProvider(says("", ("c", "risky", '{"x":1}')), says("no"))) as p:
        started = await p.service.start(ANONYMOUS, StartRun(input="a"))
        await p.service.result(started)
        steps = [s for s in await p.service.steps(ANONYMOUS, started.run_id) if s.kind == "tool"]
        assert [(s.status, s.input) for s in steps] == [("denied", {"x": 1})]
        assert p.notes.denials == ["risky"]


async def test_readers_that_leave_are_forgotten() -> None:
    feed = Feeds().hold("r")
    waiting = [asyncio.create_task(feed.changed(60.0)) for _ in range(100)]
    await asyncio.sleep(0)
    for task in waiting:
        task.cancel()
    await asyncio.wait(waiting)
    assert not feed._waiting


async def test_a_reader_behind_another_one_reads_the_journal() -> None:
    class Store:
        async def events(self, run_id: str, after: int, limit: int) -> list[ev.StoredEvent]:
            return [ev.StoredEvent(seq=n, name="run.finished", payload=b"{}") for n in range(after + 1, 6)]

    feeds = Feeds()
    feed = feeds.hold("r")
    feed.caught_up = 5
    reader = Reader(store=Store(), feeds=feeds, feed=feed, cursor=Cursor(3), keep_alive=60.0)  # type: ignore[arg-type]
    batches = reader.batches()
    assert (await anext(batches))[-1].name == "run.finished"
    await batches.aclose()
