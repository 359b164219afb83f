"""What others may want of a run on its way: stop it, steer it, decide for it, hold it after a step, begin from where it was."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from app.domain import events as ev
from app.domain.errors import RequestError
from app.domain.idempotency import IdempotencyKey
from app.domain.messages import Message
from app.domain.principals import ANONYMOUS, Principal
from app.runs.service import StartRun
from app.storage.postgres.sessions import PostgresSessionStore
from tests.runs.conftest import Harness, react
from tests.runs.test_durability import end_of, sound
from tests.scripted import ScriptedProvider, ScriptedToolbox, says
from tests.waiting import until

ANN = Principal(tenant="default", user="ann")
RISKY = ("c1", "risky", '{"n":1}')


async def refused(call: Any) -> str:
    with pytest.raises(RequestError) as error:
        await call
    return error.value.code


async def waits(p: Harness, **more: Any) -> tuple[Any, ev.RunWaiting]:
    started = await p.service.start(ANN, StartRun(input="go", session_id="s", **more))
    waiting = await p.service.result(started)
    assert isinstance(waiting, ev.RunWaiting)
    return started, waiting


async def ends(p: Harness, run_id: str) -> Any:
    await end_of(p, run_id)
    sound(await p.events(run_id))
    return await p.service.run(ANONYMOUS, run_id)


async def test_a_risky_call_waits_for_a_person_and_nothing_else_does(start_process: Any) -> None:
    provider = ScriptedProvider(says("", RISKY, ("c2", "echo", "{}")), says("done"))
    async with start_process(provider) as p:
        started, waiting = await waits(p)
        (asked,) = waiting.approvals
        assert (asked.call_id, asked.name, asked.arguments, asked.risk) == ("c1", "risky", {"n": 1}, "high")
        assert (waiting.stop_reason, waiting.iterations) == ("approval_required", 1)
        assert [call.name for call in p.toolbox.calls] == ["echo"]
        run = await p.service.run(ANN, started.run_id)
        assert (run.status, run.stop_reason) == ("waiting", "approval_required")
        assert p.worker._running == {}
        assert p.leases.held == {}
        (listed,) = await p.approvals.approvals(ANN, "pending", None, None, 10)
        assert (listed.id, listed.tool, listed.session_id, listed.user_id) == (asked.id, "risky", "s", "ann")
        decided = await p.approvals.decide(ANN, asked.id, "approve", None, "go ahead")
        assert (decided.status, decided.resolved_by, decided.comment) == ("approved", "ann", "go ahead")
        run = await ends(p, started.run_id)
        assert (run.status, run.output) == ("succeeded", "done")
        assert [call.arguments for call in p.toolbox.calls if call.name == "risky"] == ['{"n":1}']
        again = await p.approvals.decide(ANN, asked.id, "approve", None, None)
        assert again.status == "approved"
        assert await refused(p.approvals.decide(ANN, asked.id, "deny", None, None)) == "approval_resolved"
        stranger = Principal(tenant="default", user="bob")
        assert await refused(p.approvals.approval(stranger, asked.id)) == "not_found"


async def test_a_denial_is_told_to_the_model_and_an_edit_is_run_and_told(start_process: Any) -> None:
    edited = ("c2", "risky", '{"n":5}')
    provider = ScriptedProvider(says("", RISKY), says("", edited), says("done"))
    async with start_process(provider) as p:
        started, waiting = await waits(p)
        assert (
            await refused(p.approvals.decide(ANN, waiting.approvals[0].id, "deny", {"n": 2}, None))
            == "validation_error"
        )
        await p.approvals.decide(ANN, waiting.approvals[0].id, "deny", None, None)
        started.feed.resumed()
        waiting = await p.service.result(started)
        assert isinstance(waiting, ev.RunWaiting)
        result = provider.requests[1].messages[-1]
        assert (result.is_error, "decided against" in result.content) == (True, True)
        await p.approvals.decide(ANN, waiting.approvals[0].id, "approve", {"n": 6}, None)
        assert (await ends(p, started.run_id)).status == "succeeded"
        assert [call.arguments for call in p.toolbox.calls] == ['{"n":6}']
        assert 'changed the arguments to {"n":6}' in provider.requests[2].messages[-1].content
        started_events = [e for s in await p.events(started.run_id) if isinstance(e := ev.decode(s), ev.ToolStarted)]
        assert [e.arguments for e in started_events] == [{"n": 1}, {"n": 6}]


async def test_an_approval_is_for_one_call_only(start_process: Any) -> None:
    provider = ScriptedProvider(says("", RISKY), says("", ("c9", "risky", '{"n":1}')), says("done"))
    async with start_process(provider) as p:
        started, waiting = await waits(p)
        first = waiting.approvals[0]
        await p.approvals.decide(ANN, first.id, "approve", None, None)
        await until(lambda: len(provider.requests) == 2)
        second: Any = None
        while second is None:
            second = next(iter(await p.approvals.approvals(ANN, "pending", started.run_id, None, 10)), None)
        assert (second.call_id, second.id != first.id) == ("c9", True)
        assert len(p.toolbox.calls) == 1
        await p.service.cancel(ANN, started.run_id, "enough")
        assert (await ends(p, started.run_id)).status == "cancelled"
        assert (await p.approvals.approval(ANN, second.id)).status == "cancelled"
        assert await refused(p.approvals.decide(ANN, second.id, "approve", None, None)) == "approval_resolved"


async def test_an_expired_approval_is_a_denial_that_the_model_sees(start_process: Any) -> None:
    provider = ScriptedProvider(says("", RISKY), says("so be it"))
    async with start_process(provider, approval_ttl=0.001) as p:
        started, waiting = await waits(p)
        await until(lambda: datetime.now(UTC) > waiting.approvals[0].expires_at + timedelta(milliseconds=5))
        assert (
            await refused(p.approvals.decide(ANN, waiting.approvals[0].id, "approve", None, None))
            == "approval_resolved"
        )
        await p.housekeeping.round()
        assert (await ends(p, started.run_id)).output == "so be it"
        assert "in time" in provider.requests[1].messages[-1].content
        assert p.toolbox.calls == []
        assert (await p.approvals.approval(ANN, waiting.approvals[0].id)).status == "expired"


async def test_fifty_decisions_at_once_are_one(start_process: Any) -> None:
    provider = ScriptedProvider(says("", RISKY), says("done"))
    async with start_process(provider) as p:
        started, waiting = await waits(p)
        verdicts = ["approve", "deny"] * 25
        calls = [p.approvals.decide(ANN, waiting.approvals[0].id, verdict, None, None) for verdict in verdicts]
        answers = await asyncio.gather(*calls, return_exceptions=True)
        assert sum(isinstance(answer, RequestError) for answer in answers) == 25
        await ends(p, started.run_id)
        events = await p.events(started.run_id)
        assert [event.name for event in events].count("approval.resolved") == 1


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


async def test_a_busy_session(start_process: Any) -> None:
    provider = ScriptedProvider([asyncio.Event()], says("new"))
    async with start_process(provider) as p:
        first = await p.service.start(ANN, StartRun(input="old", session_id="s"))
        await until(lambda: len(provider.requests) == 1)
        rejected = StartRun(input="x", session_id="s", on_busy="reject")
        assert await refused(p.service.start(ANN, rejected)) == "session_busy"
        second = await p.service.start(ANN, StartRun(input="new", session_id="s", on_busy="interrupt"))
        assert (await p.service.result(second)).output == "new"
        old = await p.service.run(ANN, first.run_id)
        assert (old.status, old.stop_reason) == ("cancelled", "cancelled")
        third = await p.service.start(ANN, StartRun(input="x", session_id="t", on_busy="reject"))
        assert third.status in ("running", "queued")
        await p.service.cancel(ANN, third.run_id, None)


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


async def test_a_fork_begins_where_its_origin_was(start_process: Any) -> None:
    provider = ScriptedProvider(says("one"), says("two"), says("other"), says("more"))
    async with start_process(provider) as p:
        runs = [await p.service.start(ANN, StartRun(input=f"q{n}", session_id="s")) for n in range(2)]
        for started in runs:
            await p.service.result(started)
        await p.sessions.put_state(ANN, "s", {"n": 1}, 0)
        fork = await p.sessions.fork(ANN, "s", new_id="f", after_run=runs[0].run_id, user_id=None)
        assert (fork.id, fork.user_id, (await p.sessions.state(ANN, "f")).state) == ("f", "ann", {"n": 1})
        for text in ("q", "r"):
            await p.service.result(await p.service.start(ANN, StartRun(input=text, session_id="f")))
        assert [m.content for m in provider.requests[2].messages] == ["q0", "one", "q"]
        assert [m.content for m in provider.requests[3].messages] == ["q0", "one", "q", "other", "r"]
        assert [m.content for _, m in await p.sessions.messages(ANN, "f")][:3] == ["q0", "one", "q"]
        await p.sessions.delete(ANN, "s")
        assert await refused(p.sessions.session(ANN, "s")) == "not_found"
        assert [m.content for _, m in await p.sessions.messages(ANN, "f")][:2] == ["q0", "one"]
        assert await refused(p.sessions.fork(ANN, "f", new_id="f", after_run=None, user_id=None)) == "session_busy"
        await p.sessions.reset(ANN, "f")
        assert await p.sessions.messages(ANN, "f") == []


async def test_a_session_that_was_deleted_is_forgotten_by_everybody(start_process: Any) -> None:
    provider = ScriptedProvider(*[says(f"answer {n}") for n in range(6)])
    bob = Principal(tenant="default", user="bob")

    async def turn(p: Harness, who: Principal, text: str) -> list[str]:
        await p.service.result(await p.service.start(who, StartRun(input=text, session_id="s")))
        return [message.content for message in provider.requests[-1].messages]

    async with start_process(provider) as p, start_process(provider) as other:
        await turn(p, ANN, "my secret")
        await p.sessions.delete(ANN, "s")
        assert await turn(other, bob, "hello") == ["hello"]
        assert await turn(p, bob, "again") == ["hello", "answer 1", "again"]
        await p.sessions.reset(bob, "s")
        assert await turn(other, bob, "anew") == ["anew"]
        await p.service.result(await p.service.start(ANN, StartRun(input="x", session_id="t")))
        await p.sessions.delete(bob, "s")
        await p.sessions.fork(ANN, "t", new_id="s", after_run=None, user_id=None)
        assert await turn(other, ANN, "fork") == ["x", "answer 4", "fork"]


async def test_a_session_can_be_deleted_under_its_run(start_process: Any) -> None:
    provider = ScriptedProvider([asyncio.Event()])
    async with start_process(provider) as p:
        started = await p.service.start(ANN, StartRun(input="go", session_id="s"))
        await until(lambda: len(provider.requests) == 1)
        await p.sessions.delete(ANN, "s")
        assert await refused(p.service.run(ANN, started.run_id)) == "not_found"
        await until(lambda: p.worker._running == {})
        assert provider.closed == 1


async def test_state_has_versions(start_process: Any) -> None:
    async with start_process(ScriptedProvider(says("hi"))) as p:
        await p.service.result(await p.service.start(ANN, StartRun(input="go", session_id="s")))
        assert ((await p.sessions.state(ANN, "s")).version, (await p.sessions.state(ANN, "s")).state) == (0, {})
        assert (await p.sessions.put_state(ANN, "s", {"a": 1}, 0)).version == 1
        assert await refused(p.sessions.put_state(ANN, "s", {"a": 2}, 0)) == "state_conflict"
        assert (await p.sessions.put_state(ANN, "s", {"a": 2}, None)).version == 2
        assert await refused(p.sessions.state(ANN, "nobody")) == "not_found"


async def test_a_run_goes_from_here_to_there(start_process: Any) -> None:
    """The seams that tests of agents use: begin with any conversation and state, stop after a step, look, go on."""
    provider = ScriptedProvider(says("", ("c1", "echo", '{"order":7}')), says("It is on its way."))
    here = [
        Message(id="m1", role="user", content="Where is my order?"),
        Message(id="m2", role="assistant", content="Which one?"),
    ]
    async with start_process(provider) as p:
        await PostgresSessionStore(database=p.database).fork(ANN, "s", "ann", here, {"customer": 4711})
        started, _ = await waits(p, stop_after="echo")
        assert [m.content for m in provider.requests[0].messages] == ["Where is my order?", "Which one?", "go"]
        assert [call.arguments for call in p.toolbox.calls] == ['{"order":7}']
        assert await p.toolbox.contexts["c1"].state.get() == {"customer": 4711}
        end = await p.service.result(await p.service.resume(ANN, started.run_id))
        assert (end.status, end.output) == ("succeeded", "It is on its way.")


async def test_tools_share_the_sessions_state(start_process: Any) -> None:
    provider = ScriptedProvider(says("", ("c1", "slow", "{}")), says("done"))
    async with start_process(provider) as p:
        started = await p.service.start(ANN, StartRun(input="go", session_id="s"))
        await p.toolbox.started.wait()
        state = p.toolbox.contexts["c1"].state
        await asyncio.gather(*(state.update(lambda old: old | {"n": old.get("n", 0) + 1}) for _ in range(5)))
        p.toolbox.gate.set()
        await ends(p, started.run_id)
        assert (await p.sessions.state(ANN, "s")).state == {"n": 5}
        changes = [e for s in await p.events(started.run_id) if isinstance(e := ev.decode(s), ev.StateChanged)]
        assert [change.version for change in changes] == sorted({change.version for change in changes})
