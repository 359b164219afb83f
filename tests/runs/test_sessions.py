"""Sessions: busy ones, forks, their state, and what deleting one leaves behind."""

from __future__ import annotations

import asyncio
from typing import Any

from app.domain import events as ev
from app.domain.principals import Principal
from app.runs.service import StartRun
from tests.runs.asking import ANN, ends, refused
from tests.runs.conftest import Harness
from tests.scripted import ScriptedProvider, says
from tests.waiting import until


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
