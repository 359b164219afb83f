"""What others may want of a run on its way: stop it, steer it, hold it after a step, begin from where it was, ask for it twice."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from app.domain import events as ev
from app.domain.idempotency import IdempotencyKey
from app.domain.messages import Message
from app.domain.sessions import Base
from app.runs.service import StartRun
from app.storage.postgres.sessions import PostgresSessionStore
from tests.runs.asking import ANN, RISKY, ends, refused, waits
from tests.runs.conftest import react
from tests.runs.test_durability import sound
from tests.scripted import ScriptedProvider, ScriptedToolbox, says
from tests.waiting import until


@pytest.mark.parametrize("when", ["queued", "model", "tool", "waiting"])
async def test_cancel_wherever_the_run_is(start_process: Any, when: str) -> None:
    first: dict[str, Any] = {
        "model": [asyncio.Event()],
        "tool": says("", ("c1", "slow", "{}")),
        "waiting": says("", RISKY),
    }
    provider = ScriptedProvider(first.get(when, [asyncio.Event()]))
    async with start_process(provider, concurrency=1) as p:
        if when == "queued":
            await p.service.start(ANN, StartRun(input="blocks"))
        started = await p.service.start(ANN, StartRun(input="go"))
        if when == "tool":
            await p.toolbox.started.wait()
        elif when == "model":
            await until(lambda: len(provider.requests) == 1)
        elif when == "waiting":
            await p.service.result(started)
        run, live = await p.service.cancel(ANN, started.run_id, "wrong question")
        assert live
        run = await ends(p, started.run_id)
        assert (run.status, run.stop_reason, run.error.code) == ("cancelled", "cancelled", "run_cancelled")
        assert run.error.detail == "Cancelled by ann: wrong question"
        if when == "model":
            assert provider.closed == 1
        assert len(p.notes.stops) == (when in ("model", "tool"))
        again, live = await p.service.cancel(ANN, started.run_id, "again")
        assert (again, live) == (run, False)
        last = ev.decode((await p.events(started.run_id))[-1])
        assert isinstance(last, ev.RunFinished)
        assert last.cancellation is not None
        assert (last.cancellation.by, last.cancellation.reason) == ("ann", "wrong question")


async def test_a_cancel_from_another_process_survives_the_owners_death(start_process: Any) -> None:
    provider = ScriptedProvider([asyncio.Event()], [asyncio.Event()])
    async with start_process(provider) as dead, start_process(provider, concurrency=0) as api:
        started = await dead.service.start(ANN, StartRun(input="go"))
        await until(lambda: len(provider.requests) == 1)
        await dead.die()
        _, live = await api.service.cancel(ANN, started.run_id, "too slow")
        assert live
        await dead.store.orphan(["test"])
        async with start_process(provider) as p:
            run = await ends(p, started.run_id)
            assert (run.status, run.error.detail) == ("cancelled", "Cancelled by ann: too slow")
            assert len(provider.requests) == 1


async def test_a_cancel_that_was_accepted_wins_over_an_answer_that_is_not_stored_yet(start_process: Any) -> None:
    provider = ScriptedProvider(says("finished"))
    async with start_process(provider) as p:
        finish, gate = p.store.finish, asyncio.Event()

        async def late(*arguments: Any) -> Any:
            await gate.wait()
            return await finish(*arguments)

        p.store.finish = late
        started = await p.service.start(ANN, StartRun(input="go"))
        await until(lambda: provider.closed == 1)
        _, live = await p.service.cancel(ANN, started.run_id, None)
        gate.set()
        assert live
        assert (await ends(p, started.run_id)).status == "cancelled"


async def test_steering_is_read_at_the_next_step_and_never_lost(start_process: Any) -> None:
    gate = asyncio.Event()
    provider = ScriptedProvider(says("", ("c1", "slow", "{}")), [gate, *says("answer")], says("other answer"))
    async with start_process(provider) as p:
        started = await p.service.start(ANN, StartRun(input="go", session_id="s"))
        await p.toolbox.started.wait()
        first = await p.service.steer(ANN, started.run_id, "in metres")
        assert await p.service.steer(ANN, started.run_id, "in metres", first) == first
        p.toolbox.gate.set()
        await until(lambda: len(provider.requests) == 2)
        assert [(m.role, m.content) for m in provider.requests[1].messages][2:] == [
            ("tool", "{}"),
            ("user", "in metres"),
        ]
        await p.service.steer(ANN, started.run_id, "and in feet")
        gate.set()
        run = await ends(p, started.run_id)
        assert run.output == "other answer"
        contents = [m.content for _, m in await p.sessions.messages(ANN, "s")]
        assert contents == ["go", "", "{}", "in metres", "answer", "and in feet", "other answer"]
        assert await refused(p.service.steer(ANN, started.run_id, "late")) == "run_finished"


async def test_steering_survives_a_crash_and_comes_once(start_process: Any) -> None:
    provider = ScriptedProvider([asyncio.Event()], [asyncio.Event()], says("done"))
    async with start_process(provider) as dead:
        started = await dead.service.start(ANN, StartRun(input="go"))
        await until(lambda: len(provider.requests) == 1)
        await dead.service.steer(ANN, started.run_id, "please")
        await dead.die()
        await dead.store.orphan(["test"])
        async with start_process(provider) as second:
            await until(lambda: len(provider.requests) == 2)
            await second.die()
            await second.store.orphan(["test"])
            async with start_process(provider) as p:
                await ends(p, started.run_id)
                assert [m.content for m in provider.requests[2].messages] == ["go", "please"]


async def test_a_run_stops_after_a_step_and_goes_on(start_process: Any) -> None:
    provider = ScriptedProvider(says("", ("c1", "echo", "{}")), says("", ("c2", "slow", "{}")), says("done"))
    toolbox = ScriptedToolbox()
    toolbox.gate.set()
    async with start_process(provider, toolbox=toolbox) as p:
        assert await refused(p.service.start(ANN, StartRun(input="go", stop_after="fly"))) == "validation_error"
        started, waiting = await waits(p, stop_after="model")
        assert (waiting.stop_reason, toolbox.calls) == ("stopped_after_step", [])
        key = IdempotencyKey(method="POST", path="/resume", key="k", fingerprint="f")
        resumed = await p.service.resume(ANN, started.run_id, stop_after="slow", key=key)
        assert (resumed.run_id, resumed.replayed) == (started.run_id, False)
        again = await p.service.resume(ANN, started.run_id, stop_after="slow", key=key)
        assert (again.run_id, again.replayed) == (started.run_id, True)
        waiting = await p.service.result(resumed)
        assert isinstance(waiting, ev.RunWaiting)
        assert ([call.name for call in toolbox.calls], len(provider.requests)) == (["echo", "slow"], 2)
        resumed = await p.service.resume(ANN, started.run_id, stop_after="model")
        end = await p.service.result(resumed)
        assert (end.status, end.output) == ("succeeded", "done")
        sound(await p.events(started.run_id))
        assert await refused(p.service.resume(ANN, started.run_id)) == "run_finished"


async def test_a_run_keeps_its_version_of_the_agent(start_process: Any) -> None:
    provider = ScriptedProvider(says("", RISKY), says("done"))
    old, new = react(), react(instructions="Be verbose.", auto_approve="critical")
    async with start_process(provider, old) as p:
        started, waiting = await waits(p)
    async with start_process(provider, new) as p:
        await p.approvals.decide(ANN, waiting.approvals[0].id, "approve", None, None)
        run = await ends(p, started.run_id)
        assert (run.agent_version, provider.requests[1].system) == (old.version, "Be brief.")


async def test_one_key_is_one_run(start_process: Any) -> None:
    gate = asyncio.Event()
    provider = ScriptedProvider([gate, *says("once")])
    key = IdempotencyKey(method="POST", path="/chat", key="k", fingerprint="f")
    async with start_process(provider) as p, start_process(provider) as other:
        wanted = StartRun(input="go", key=key)
        starts = [q.service.start(ANN, wanted) for q in (p, other) * 25]
        started = await asyncio.gather(*starts)
        assert len({s.run_id for s in started}) == 1
        assert sum(not s.replayed for s in started) == 1
        waiting = [asyncio.create_task((p, other)[n % 2].service.result(s)) for n, s in enumerate(started)]
        gate.set()
        assert {(await end).output for end in waiting} == {"once"}
        late = await other.service.start(ANN, wanted)
        assert (late.replayed, (await other.service.result(late)).output) == (True, "once")
        reused = StartRun(input="x", key=IdempotencyKey(method="POST", path="/chat", key="k", fingerprint="g"))
        assert await refused(p.service.start(ANN, reused)) == "idempotency_key_reused"
        assert (
            await refused(p.service.start(ANN, StartRun(input="x", session_id="foreign!", key=key)))
            == "validation_error"
        )


async def test_a_refused_run_leaves_no_key(start_process: Any) -> None:
    provider = ScriptedProvider([asyncio.Event()], says("then"))
    key = IdempotencyKey(method="POST", path="/v1/runs", key="k", fingerprint="f")
    async with start_process(provider) as p:
        first = await p.service.start(ANN, StartRun(input="old", session_id="s"))
        wanted = StartRun(input="x", session_id="s", on_busy="reject", key=key)
        assert await refused(p.service.start(ANN, wanted)) == "session_busy"
        await p.service.cancel(ANN, first.run_id, None)
        await ends(p, first.run_id)
        assert not (await p.service.start(ANN, wanted)).replayed


async def test_a_run_goes_from_here_to_there(start_process: Any) -> None:
    """The seams that tests of agents use: begin with any conversation and state, stop after a step, look, go on."""
    provider = ScriptedProvider(says("", ("c1", "echo", '{"order":7}')), says("It is on its way."))
    here = [
        Message(id="m1", role="user", content="Where is my order?"),
        Message(id="m2", role="assistant", content="Which one?"),
    ]
    async with start_process(provider) as p:
        await PostgresSessionStore(database=p.database).fork(ANN, "s", "ann", Base(tuple(here)), {"customer": 4711})
        started, _ = await waits(p, stop_after="echo")
        assert [m.content for m in provider.requests[0].messages] == ["Where is my order?", "Which one?", "go"]
        assert [call.arguments for call in p.toolbox.calls] == ['{"order":7}']
        assert await p.toolbox.contexts["c1"].state.get() == {"customer": 4711}
        end = await p.service.result(await p.service.resume(ANN, started.run_id))
        assert (end.status, end.output) == ("succeeded", "It is on its way.")
