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
from app.runs.live import Feed
from app.runs.service import StartRun
from app.runs.stream import Cursor
from tests.runs.conftest import react
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


async def test_a_run_whose_writes_break_is_taken_over_and_ends_in_the_end(start_process: Any) -> None:
    async with start_process(ScriptedProvider(*[says("never stored")] * 3)) as p:
        finish = p.store.finish

        async def refused(*arguments: Any) -> bool:
            if arguments[3].status == "succeeded":
                raise asyncpg.NotNullViolationError("no")
            done: bool = await finish(*arguments)
            return done

        p.store.finish = refused
        started = await p.service.start(ANONYMOUS, StartRun(input="a", session_id="s"))
        answer = asyncio.create_task(p.service.result(started))
        end = await answer
        assert (end.status, end.error.code) == ("failed", "internal")


async def test_rows_of_a_later_release_keep_nobody_from_going_on(start_process: Any) -> None:
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
        await dead.store.orphan(["test"])
        async with start_process(ScriptedProvider(), react(name="other")) as p:
            stream = await p.service.events(ANONYMOUS, started.run_id, Cursor())
            assert [item.name async for batch in stream for item in batch][-1] == "run.finished"
            assert (await p.service.run(ANONYMOUS, started.run_id)).status == "failed"
        gate.set()


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
        assert all(feed.held for feed in p.feeds._feeds.values())


async def test_a_run_that_is_queued_during_the_look_at_the_queue_is_not_forgotten(start_process: Any) -> None:
    async with start_process(ScriptedProvider(), concurrency=1) as p:
        claim, looked = p.store.claim, asyncio.Event()

        async def slow_claim(at_once: Any) -> Any:
            claimed = await claim(at_once)
            p.worker.queued()  # while this look is under way
            looked.set()
            return claimed

        p.store.claim = slow_claim
        p.worker.queued()
        await looked.wait()
        looked.clear()
        await looked.wait()
        p.store.claim = claim


async def test_a_stop_just_after_the_answer_keeps_the_answer(start_process: Any) -> None:
    hang = asyncio.Event()
    async with start_process(ScriptedProvider([*says("paid and shown"), hang])) as p:
        started = await p.service.start(ANONYMOUS, StartRun(input="a", session_id="s", timeout=0.1))
        end = await p.service.result(started)
        assert (end.stop_reason, end.degraded, end.output) == ("completed", False, "paid and shown")
        assert [m.content for _, m in await p.sessions.messages(ANONYMOUS, "s")] == ["a", "paid and shown"]


async def test_the_same_call_id_in_two_messages_is_two_calls(start_process: Any) -> None:
    call = says("", ("call_0", "echo", "{}"))
    async with start_process(ScriptedProvider(call, call, says("done"))) as p:
        started = await p.service.start(ANONYMOUS, StartRun(input="a"))
        await p.service.result(started)
        ids = [call.id for call in p.toolbox.calls]
        assert ids[0] == "call_0"
        assert len(set(ids)) == 2
