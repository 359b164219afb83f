"""Runs whose owner dies, and owners that only seemed to: what was finished is used again, and only one of them writes."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack
from functools import partial
from typing import Any

import pytest

from app.domain import events as ev
from app.domain.agents import Limits
from app.domain.errors import DatabaseUnavailable, Fenced
from app.domain.principals import ANONYMOUS
from app.runs.service import StartRun
from app.runs.stream import Cursor
from tests.runs.conftest import Harness, react
from tests.scripted import ScriptedProvider, ScriptedToolbox, says
from tests.waiting import until

CALLS = (("c1", "echo", '{"n":1}'), ("c2", "slow", "{}"), ("c3", "slow_write", "{}"))


async def end_of(p: Harness, run_id: str) -> list[str]:
    """Every event's name, once the run has ended."""
    stream = await p.service.events(ANONYMOUS, run_id, Cursor())
    async with asyncio.timeout(30):
        names = [item.name async for batch in stream for item in batch]
    assert names[-1] == "run.finished"
    return names


def sound(events: Sequence[ev.StoredEvent]) -> None:
    """No gap, one end, and every call that was made has exactly one outcome."""
    assert [event.seq for event in events] == list(range(1, len(events) + 1))
    decoded = [ev.decode(event) for event in events]
    asked = [call.id for e in decoded if isinstance(e, ev.MessageCompleted) for call in e.message.tool_calls]
    ended = [e.call_id for e in decoded if isinstance(e, ev.ToolFinished)]
    assert sorted(asked) == sorted(ended)
    assert sum(isinstance(e, ev.RunFinished) for e in decoded) == 1


async def test_a_run_goes_on_where_its_owner_died(start_process: Any) -> None:
    provider = ScriptedProvider(says("", *CALLS), says("", ("d1", "echo", "{}")), says("done"))
    async with start_process(provider) as dead:
        started = await dead.service.start(ANONYMOUS, StartRun(input="go", session_id="s"))
        await until(lambda: len(dead.toolbox.calls) == 3)
        while "tool.finished" not in await dead.names(started.run_id):  # noqa: ASYNC110
            await asyncio.sleep(0.005)
        await dead.store.orphan(["test"])
        toolbox = ScriptedToolbox()
        toolbox.gate.set()
        async with start_process(provider, toolbox=toolbox) as p:
            await end_of(p, started.run_id)
            run = await p.service.run(ANONYMOUS, started.run_id)
            assert (run.status, run.output, run.outcome_unknown) == ("succeeded", "done", True)
            assert p.notes.recoveries == 1
            assert sorted(call.id for call in toolbox.calls) == ["c2", "d1"]
            steps = {s.name: s.status for s in await p.service.steps(ANONYMOUS, started.run_id) if s.kind == "tool"}
            assert steps == {"echo": "ok", "slow": "ok", "slow_write": "outcome_unknown"}
            keys = [e.key for stored in await p.events(started.run_id)
                    if isinstance(e := ev.decode(stored), ev.ToolStarted) and e.call_id == "c2"]  # fmt: skip
            assert keys == [toolbox.contexts["c2"].idempotency_key]
            assert dead.toolbox.contexts["c2"].idempotency_key == keys[0]
            told = {m.call_id: m for m in provider.requests[1].messages if m.role == "tool"}
            assert "not repeated" in told["c3"].content
            assert len(provider.requests) == 3
            before = await p.events(started.run_id)
            dead.toolbox.gate.set()
            await until(lambda: dead.notes.refused_writes == 1)
            assert await p.events(started.run_id) == before
            sound(before)


async def test_a_finished_model_call_is_not_paid_again(start_process: Any) -> None:
    provider = ScriptedProvider(says("first", ("c1", "slow", "{}")), says("second"))
    async with start_process(provider) as dead:
        started = await dead.service.start(ANONYMOUS, StartRun(input="go"))
        await dead.toolbox.started.wait()
        while "tool.progress" not in await dead.names(started.run_id):  # noqa: ASYNC110  # an append extends the lease
            await asyncio.sleep(0.005)
        await dead.store.orphan(["test"])
        toolbox = ScriptedToolbox()
        toolbox.gate.set()
        async with start_process(provider, toolbox=toolbox) as p:
            await end_of(p, started.run_id)
            assert len(provider.requests) == 2
            assert [info.attempt for info in p.notes.begun] == [2]
            sound(await p.events(started.run_id))


async def test_a_poisonous_run_ends_and_can_be_resumed(start_process: Any) -> None:
    provider = ScriptedProvider(
        says("", ("c1", "echo", "{}")), *[[asyncio.Event()]] * 3, says("better now"), says("and on")
    )

    def asked(times: int) -> bool:
        return len(provider.requests) == times

    async with AsyncExitStack() as stack:
        for number in range(3):
            first = await stack.enter_async_context(start_process(provider))
            if number == 0:
                started = await first.service.start(ANONYMOUS, StartRun(input="go", session_id="s"))
            await until(partial(asked, number + 2))
            await first.die()
            await first.store.orphan(["test"])
        first = await stack.enter_async_context(start_process(provider))
        names = await end_of(first, started.run_id)
        assert names.count("run.started") == 3
        run = await first.service.run(ANONYMOUS, started.run_id)
        assert (run.status, run.error and run.error.code) == ("failed", "interrupted")
        sound(await first.events(started.run_id))
        resumed = await first.service.resume(ANONYMOUS, started.run_id)
        end = await first.service.result(resumed)
        assert (end.status, end.output) == ("succeeded", "better now")
        assert (await first.service.run(ANONYMOUS, resumed.run_id)).resumed_from == started.run_id
        assert [m.role for m in provider.requests[4].messages] == ["user", "assistant", "tool"]
        sound(await first.events(resumed.run_id))
        after = await first.service.start(ANONYMOUS, StartRun(input="next", session_id="s"))
        await first.service.result(after)
        assert [m.role for m in provider.requests[5].messages] == ["user", "assistant", "tool", "assistant", "user"]


async def test_a_zombie_stores_nothing(start_process: Any) -> None:
    provider = ScriptedProvider([asyncio.Event()], says("mine"))
    async with start_process(provider) as zombie:
        started = await zombie.service.start(ANONYMOUS, StartRun(input="go"))
        await until(lambda: len(provider.requests) == 1)
        await zombie.store.orphan(["test"])
        async with start_process(provider) as p:
            await end_of(p, started.run_id)
            events = await p.events(started.run_id)
            with pytest.raises(Fenced):
                await zombie.store.release(started.run_id, 1)
            zombie.worker.lost([started.run_id])
            await until(lambda: zombie.notes.refused_writes == 1)
            assert await p.events(started.run_id) == events


async def test_a_lost_lease_stops_the_effects_and_hands_the_run_on(start_process: Any) -> None:
    provider = ScriptedProvider(says("", ("c1", "slow", "{}"), ("c2", "slow_write", "{}")), says("done"))
    async with start_process(provider) as p:
        started = await p.service.start(ANONYMOUS, StartRun(input="go"))
        await until(lambda: len(p.toolbox.calls) == 2)
        p.worker.lost([started.run_id])
        await until(lambda: p.notes.handed_on == 1)
        p.toolbox.gate.set()
        end = await p.service.result(started)
        assert (end.status, end.output) == ("succeeded", "done")
        assert [call.id for call in p.toolbox.calls] in (["c1", "c2", "c1"], ["c2", "c1", "c1"])
        sound(await p.events(started.run_id))


async def test_time_spent_by_earlier_owners_counts(start_process: Any) -> None:
    agent = react(limits=Limits(timeout=30.0))
    provider = ScriptedProvider([asyncio.Event()], says("never"))
    async with start_process(provider, agent) as dead:
        started = await dead.service.start(ANONYMOUS, StartRun(input="go"))
        await until(lambda: len(provider.requests) == 1)
        await dead.database.execute("UPDATE events SET at = at - interval '1 hour' WHERE seq = 2")
        # What the first owner executed ends with the last event that it stored.
        run_id = started.run_id
        await dead.database.execute(
            "WITH r AS (UPDATE runs SET last_seq = 3 RETURNING id, tenant) "
            "INSERT INTO events (run_id, seq, tenant, id, name, payload) "
            "SELECT id, 3, tenant, gen_random_uuid(), 'tool.progress', $1::json FROM r",
            b'{"call_id":"c","name":"n","data":1}',
        )
        await dead.store.orphan(["test"])
        async with start_process(provider, agent) as p:
            await end_of(p, run_id)
            run = await p.service.run(ANONYMOUS, run_id)
            assert (run.status, run.stop_reason) == ("failed", "timeout")


async def test_delayed_runs_wait_and_then_see_what_was_said_meanwhile(start_process: Any) -> None:
    provider = ScriptedProvider(says("now"), says("later"))
    async with start_process(provider) as p:
        delayed = await p.service.start(ANONYMOUS, StartRun(input="remind me", session_id="s", delay=3600))
        started = await p.service.start(ANONYMOUS, StartRun(input="hello", session_id="s"))
        assert (await p.service.result(started)).output == "now"
        assert (await p.store.queue())[0] == 0
        await p.housekeeping.round()
        assert len(provider.requests) == 1
        await p.database.execute("UPDATE runs SET not_before = clock_timestamp() WHERE id = $1", delayed.run_id)
        await p.housekeeping.round()
        assert (await p.service.result(delayed)).output == "later"
        assert [m.content for m in provider.requests[1].messages] == ["hello", "now", "remind me"]


async def test_higher_priority_goes_first_and_a_flood_waits_its_turn(start_process: Any) -> None:
    gate = asyncio.Event()
    order: list[str] = []

    def note(request: Any) -> Any:
        order.append(request.messages[-1].content)
        return says("ok")

    provider = ScriptedProvider([gate, *says("first")], *[note] * 9)
    async with start_process(provider, concurrency=1) as p:
        blocker = await p.service.start(ANONYMOUS, StartRun(input="blocker"))
        flood = [await p.service.start(ANONYMOUS, StartRun(input=f"flood {n}")) for n in range(6)]
        other = type(ANONYMOUS)(tenant="other")
        await p.service.agents.save("other")
        small = [await p.service.start(other, StartRun(input=f"small {n}")) for n in range(2)]
        urgent = await p.service.start(ANONYMOUS, StartRun(input="urgent", priority=5))
        gate.set()
        for started in (blocker, *flood, *small, urgent):
            await p.service.result(started)
        assert order[0] == "urgent"
        assert set(order[1:6]) >= {"small 0", "small 1"}
        assert [text for text in order if text.startswith("flood")] == [f"flood {n}" for n in range(6)]


async def test_runs_of_dead_owners_go_before_a_queue_that_never_empties(start_process: Any) -> None:
    gates = [asyncio.Event() for _ in range(3)]
    order: list[str] = []

    def note(request: Any) -> Any:
        order.append(request.messages[-1].content)
        return says("ok")

    busy = ScriptedProvider(*[[gate, *says("ok")] for gate in gates[:1]], *[note] * 8)
    async with start_process(ScriptedProvider([asyncio.Event()])) as dead:
        lost = await dead.service.start(ANONYMOUS, StartRun(input="lost"))
        await until(lambda: len(dead.provider.requests) == 1)
        await dead.die()
        async with start_process(busy, concurrency=1) as p:
            first = await p.service.start(ANONYMOUS, StartRun(input="first"))
            await until(lambda: len(busy.requests) == 1)
            queued = [await p.service.start(ANONYMOUS, StartRun(input=f"queued {n}")) for n in range(6)]
            await p.store.orphan(["test"])
            await p.database.execute("UPDATE runs SET lease_until = NULL WHERE id = $1", first.run_id)
            await until(lambda: p.worker._starved)
            gates[0].set()
            for started in (first, *queued):
                await p.service.result(started)
            await end_of(p, lost.run_id)
            assert order[0] == "lost"


async def test_after_an_outage_living_owners_get_time_to_extend_their_leases(start_process: Any) -> None:
    provider = ScriptedProvider([asyncio.Event()], says("never"))
    async with start_process(provider) as owner, start_process(provider) as p:
        started = await owner.service.start(ANONYMOUS, StartRun(input="go"))
        await until(lambda: len(provider.requests) == 1)
        claim = p.store.claim
        polls = 0

        async def away(at_once: Any) -> Any:
            nonlocal polls
            polls += 1
            if polls == 1:
                await owner.store.orphan(["test"])
                raise DatabaseUnavailable("gone for a moment")
            return await claim(at_once)

        p.store.claim = away
        p.worker.queued()
        await until(lambda: polls >= 3)
        assert (p.notes.recoveries, p.worker._may_have_dead) == (0, False)
        await owner.service.cancel(ANONYMOUS, started.run_id, None)
        await end_of(owner, started.run_id)
