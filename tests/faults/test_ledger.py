"""What must be stored before something is done, to the end whoever leaves, and only once however many ask for it."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence

import pytest

from app.domain import events as ev
from app.domain.errors import RequestError
from app.domain.principals import ANONYMOUS
from app.domain.stores import Appended, NewEvent
from app.runs.journal import Entry, Journal
from app.runs.live import Feed
from app.runs.service import StartRun
from app.runs.stream import Cursor
from tests.runs.conftest import Harness, process
from tests.scripted import ScriptedProvider, says


class SlowStore:
    """Takes a write when the test says so."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()
        self.gate = asyncio.Event()
        self.stored: list[int] = []

    async def append(self, run_id: str, epoch: int, events: Sequence[NewEvent]) -> Appended:
        self.asked.set()
        await self.gate.wait()
        self.stored += [event.seq for event in events]
        return Appended(0)


async def test_a_write_outlives_who_asked_for_it() -> None:
    store = SlowStore()
    journal = Journal(store=store, feed=Feed("r"), run_id="r", epoch=1, last_seq=2)  # type: ignore[arg-type]
    writing = asyncio.create_task(journal.append([Entry(ev.MessageReset(message_id="m"))]))
    await store.asked.wait()
    writing.cancel()
    store.gate.set()
    with pytest.raises(asyncio.CancelledError):
        await writing
    assert (store.stored, journal.last_seq) == ([3], 3)


async def test_the_intent_is_stored_before_the_effect(database: str) -> None:
    provider = ScriptedProvider(says("", ("c1", "slow_write", "{}")), says("done"))
    async with process(database, provider) as p:
        started = await p.service.start(ANONYMOUS, StartRun(input="go"))
        await p.toolbox.started.wait()
        assert "tool.started" in await p.names(started.run_id)
        p.toolbox.gate.set()
        assert (await p.service.result(started)).status == "succeeded"  # type: ignore[union-attr]


async def _waits(p: Harness) -> ev.RunWaiting:
    started = await p.service.start(ANONYMOUS, StartRun(input="go", session_id="s"))
    waiting = await p.service.result(started)
    assert isinstance(waiting, ev.RunWaiting)
    return waiting


async def test_a_run_that_waits_keeps_the_line_of_its_session(database: str) -> None:
    provider = ScriptedProvider(says("", ("c1", "risky", "{}")), says("first"), says("second"))
    async with process(database, provider) as p:
        (asked,) = (await _waits(p)).approvals
        second = await p.service.start(ANONYMOUS, StartRun(input="and then", session_id="s"))
        assert second.status == "queued"
        assert await p.store.claim({}) is None
        assert (await p.service.run(ANONYMOUS, second.run_id)).status == "queued"
        await p.approvals.decide(ANONYMOUS, asked.id, "approve", None, None)
        end = await p.service.result(second)
        assert isinstance(end, ev.RunFinished)
        assert end.output == "second"


async def test_one_of_two_approvals_is_decided_once(database: str) -> None:
    provider = ScriptedProvider(says("", ("c1", "risky", '{"n":1}'), ("c2", "risky", '{"n":2}')), says("done"))
    async with process(database, provider) as p:
        first, second = (await _waits(p)).approvals

        async def decide(number: int) -> str:
            try:
                decision = "approve" if number % 2 else "deny"
                decided = await p.approvals.decide(ANONYMOUS, first.id, decision, None, None)  # type: ignore[arg-type]
            except RequestError as error:
                return error.code
            return decided.status

        said = Counter(await asyncio.gather(*(decide(number) for number in range(20))))
        assert said in ({"approved": 10, "approval_resolved": 10}, {"denied": 10, "approval_resolved": 10})
        await p.approvals.decide(ANONYMOUS, second.id, "deny", None, None)
        run_id = (await p.approvals.approval(ANONYMOUS, first.id)).run_id
        stream = await p.service.events(ANONYMOUS, run_id, Cursor())
        names = Counter([item.name async for batch in stream for item in batch])
        assert (names["approval.resolved"], names["tool.finished"], names["run.finished"]) == (2, 2, 1)
