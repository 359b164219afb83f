"""Variants: chosen by who asks, pinned for the run's life, and written down wherever somebody looks for them."""

from __future__ import annotations

from typing import Any

import msgspec

from app.domain import events as ev
from app.domain.agents import Agent, versioned
from app.domain.experiments import Experiment, Variant
from app.domain.principals import ANONYMOUS
from app.domain.screening import Screening
from app.domain.stores import RunFilter
from app.runs.service import StartRun
from app.runs.shadows import LOWEST
from tests.runs.asking import ends
from tests.runs.conftest import react
from tests.scripted import ScriptedProvider, ScriptedToolbox, says, tool_spec
from tests.waiting import until

CONTROL = react(name="helper")


def variant(percent: float = 50.0, name: str = "terse", **more: Any) -> Variant:
    return Variant(name=name, percent=percent, agent=react(name="helper", **({"instructions": "One word."} | more)))


def trial(*variants: Variant, shadow: Variant | None = None) -> Experiment:
    return Experiment(name="trial", agent="helper", salt="trial", variants=variants, shadow=shadow)


def people(of: Experiment) -> tuple[str, str]:
    """Somebody in the variant, and somebody in the control."""
    users = [f"user-{n}" for n in range(100)]
    return next(u for u in users if of.variant(u, "")), next(u for u in users if not of.variant(u, ""))


async def created(p: Any, run_id: str) -> ev.RunCreated:
    (first, *_) = await p.events(run_id)
    event = ev.decode(first)
    assert isinstance(event, ev.RunCreated)
    return event


async def test_who_asks_decides_and_everything_says_so(start_process: Any) -> None:
    experiment = trial(variant())
    inside, outside = people(experiment)
    async with start_process(ScriptedProvider(*[says("hi")] * 4), CONTROL, experiments=[experiment]) as p:
        for user, name, agent in ((inside, "terse", experiment.variants[0].agent), (outside, "control", CONTROL)) * 2:
            started = await p.service.start(ANONYMOUS, StartRun(input="go", user_id=user))
            await p.service.result(started)
            run = await p.service.run(ANONYMOUS, started.run_id)
            assert p.provider.requests[-1].system == agent.instructions
            assert (run.agent, run.agent_version) == ("helper", agent.version)
            exposure = {"trial": name}
            assert run.experiments == started.experiments == exposure
            assert (await created(p, started.run_id)).experiments == exposure
            assert p.notes.begun[-1].experiments == exposure
            row = await p.database.fetchval("SELECT experiments FROM usage WHERE run_id = $1", run.id)
            assert msgspec.json.decode(row) == exposure


async def test_a_run_in_no_experiment_says_nothing_of_any(start_process: Any) -> None:
    async with start_process(ScriptedProvider(says("hi")), CONTROL) as p:
        started = await p.service.start(ANONYMOUS, StartRun(input="go"))
        await p.service.result(started)
        (first, *_) = await p.events(started.run_id)
        assert b"experiments" not in first.payload
        assert b"shadow" not in first.payload
        assert (await p.service.run(ANONYMOUS, started.run_id)).experiments == {}


async def test_the_variant_is_the_same_after_a_crash_also_where_the_experiment_is_over(start_process: Any) -> None:
    experiment = trial(variant(100.0))
    provider = ScriptedProvider(says("", ("c1", "slow", "{}")), says("done"))
    async with start_process(provider, CONTROL, experiments=[experiment]) as dead:
        started = await dead.service.start(ANONYMOUS, StartRun(input="go", user_id="ann"))
        await dead.toolbox.started.wait()
        await dead.die()
        await dead.store.orphan(["test"])
        async with start_process(provider, CONTROL) as p:
            p.toolbox.gate.set()
            run = await ends(p, started.run_id)
            assert [request.system for request in provider.requests] == ["One word."] * 2
            assert (run.experiments, run.agent_version) == ({"trial": "terse"}, experiment.variants[0].agent.version)
            assert p.notes.begun[-1].experiments == {"trial": "terse"}


async def test_agents_are_replaced_for_new_runs_only(start_process: Any) -> None:
    provider = ScriptedProvider(says("", ("c1", "slow", "{}")), says("new"), says("old"))
    async with start_process(provider, CONTROL) as p:
        old = await p.service.start(ANONYMOUS, StartRun(input="go"))
        await p.toolbox.started.wait()
        changed = react(name="helper", instructions="Be long.")
        await p.service.agents.replace(ANONYMOUS.tenant, {"helper": changed}, [])
        new = await p.service.start(ANONYMOUS, StartRun(input="go"))
        assert (await p.service.result(new)).output == "new"
        p.toolbox.gate.set()
        assert (await p.service.result(old)).output == "old"
        assert [request.system for request in provider.requests] == ["Be brief.", "Be long.", "Be brief."]
        assert new.agent_version == changed.version != old.agent_version
        assert await p.store.agent("default", "helper", changed.version) == changed


# --- shadows ------------------------------------------------------------------------------------------------------------


def writing(**more: Any) -> Agent:
    tools = (
        tool_spec("echo"),
        tool_spec("pay", effect="write"),
        tool_spec("put", effect="idempotent"),
        tool_spec("peek", risk="high"),
    )
    return versioned(
        msgspec.structs.replace(react(name="helper", instructions="Shadow.", **more), tools=tools, version="")
    )


async def shadow_of(p: Any, run_id: str) -> Any:
    """The shadow of that run, once it is over."""
    found: list[Any] = []

    async def look() -> bool:
        found[:] = await p.service.runs(ANONYMOUS, RunFilter(shadow_of=run_id))
        return bool(found) and found[0].status not in ("queued", "running")

    while not await look():
        pass
    assert len(found) == 1
    return found[0]


def silent(agent: Agent, percent: float = 100.0) -> Variant:
    return Variant(name="shadow", percent=percent, agent=agent)


async def test_a_shadow_is_recorded_and_nothing_else(start_process: Any) -> None:
    """The same input and history; a tool that writes has no effect outside, and nobody is asked to allow anything."""
    provider = ScriptedProvider(
        says("one"),
        says("two"),
        says("", ("c1", "pay", '{"n":1}'), ("c2", "put", "{}"), ("c3", "peek", "{}"), ("c4", "echo", '{"n":2}')),
        says("shadow's two"),
    )
    experiment = trial(shadow=silent(writing()))
    async with start_process(provider, CONTROL) as p:
        first = await p.service.start(ANONYMOUS, StartRun(input="first", session_id="s", user_id="ann"))
        await p.service.result(first)
        await p.sessions.put_state(ANONYMOUS, "s", {"cart": [1]}, None)
        await p.service.agents.replace("default", {"helper": CONTROL}, [experiment])
        second = await p.service.start(
            ANONYMOUS,
            StartRun(
                input="second", session_id="s", user_id="ann", context={"a": 1}, callback_url="https://example.com/"
            ),
        )
        end = await p.service.result(second)
        assert end.output == "two"
        assert second.experiments == {}, "a shadow exposes nobody"
        run = await shadow_of(p, second.run_id)
        assert (run.status, run.output, run.user_id) == ("succeeded", "shadow's two", "ann")
        assert (run.shadow_of, run.experiments) == (second.run_id, {"trial": "shadow"})
        assert run.agent_version == experiment.shadow.agent.version  # type: ignore[union-attr]

        real, copy = p.provider.requests[1:3]
        assert [(m.role, m.content, m.context) for m in copy.messages] == [
            (m.role, m.content, m.context) for m in real.messages
        ]
        assert copy.system == "Shadow."
        assert [call.name for call in p.toolbox.calls] == ["echo"], "what reads, and needs no person"
        results = {m.name: m for m in p.provider.requests[3].messages if m.role == "tool"}
        assert all("rehearsal" in results[name].content for name in ("pay", "put", "peek"))
        assert not any(message.is_error for message in results.values())
        assert await p.toolbox.contexts["c4"].state.get() == {"cart": [1]}

        assert [found.id for found in await p.service.runs(ANONYMOUS, RunFilter())] == [second.run_id, first.run_id]
        assert [s.id for s in await p.sessions.sessions(ANONYMOUS, None, 10)] == ["s"]
        messages = await p.sessions.messages(ANONYMOUS, "s")
        assert [message.content for _, message in messages] == ["first", "one", "second", "two"]
        callbacks = await p.database.fetch("SELECT run_id FROM callbacks")
        assert [row["run_id"] for row in callbacks] == [second.run_id]
        assert await p.database.fetchval("SELECT priority FROM runs WHERE id = $1", run.id) == LOWEST
        assert await p.database.fetchval("SELECT count(*) FROM approvals") == 0
        assert p.notes.shadows == [("trial", "started")]
        rows = await p.database.fetch("SELECT run_id, kind, owner, experiments FROM usage ORDER BY started_at")
        assert [tuple(row) for row in rows] == [
            (first.run_id, "run", "ann", None),
            (second.run_id, "run", "ann", None),
            *[(run.id, "shadow", None, b'{"trial":"shadow"}')] * 2,
        ]


async def test_a_shadow_reads_the_placeholders_of_what_it_repeats(start_process: Any) -> None:
    """Also where another value came first, by a variable of an earlier turn."""
    policy = Screening(pii="redact")
    control = versioned(msgspec.structs.replace(CONTROL, safety=policy, version=""))
    experiment = trial(shadow=silent(writing(safety=policy)))
    async with start_process(ScriptedProvider(*[says("ok")] * 3), control) as p:
        own = p.service._render
        p.worker._render = p.service._render = lambda agent, context: (f"{agent.instructions} {context.get('me')}", {})
        first = StartRun(input="to bob@example.org", session_id="s", context={"me": "ann@example.org"})
        await p.service.result(await p.service.start(ANONYMOUS, first))
        p.worker._render = p.service._render = own
        await p.service.agents.replace("default", {"helper": control}, [experiment])
        second = await p.service.start(ANONYMOUS, StartRun(input="go", session_id="s"))
        await p.service.result(second)
        await shadow_of(p, second.run_id)
        first_words = [request.messages[0].content for request in p.provider.requests]
        assert first_words == ["to <EMAIL_2>"] * 3


async def test_a_shadow_goes_with_what_it_repeats(start_process: Any) -> None:
    provider = ScriptedProvider(says("one"), says("shadow"))
    async with start_process(provider, CONTROL, experiments=[trial(shadow=silent(writing()))]) as p:
        started = await p.service.start(ANONYMOUS, StartRun(input="private", session_id="s"))
        await p.service.result(started)
        run = await shadow_of(p, started.run_id)
        await p.sessions.delete(ANONYMOUS, "s")
        for table in ("sessions", "runs", "events"):
            assert await p.database.fetchval(f"SELECT count(*) FROM {table}") == 0, table
        assert run.session_id != "s"


async def test_a_shadow_that_fails_hurts_nobody(start_process: Any) -> None:
    provider = ScriptedProvider(says("one"), [RuntimeError("a fault of ours")])
    async with start_process(provider, CONTROL, experiments=[trial(shadow=silent(writing()))]) as p:
        started = await p.service.start(ANONYMOUS, StartRun(input="go"))
        assert (await p.service.result(started)).output == "one"
        assert (await shadow_of(p, started.run_id)).status == "failed"
        assert (await p.service.run(ANONYMOUS, started.run_id)).status == "succeeded"


async def test_no_shadow_where_the_queue_is_busy(start_process: Any) -> None:
    """One slot: a second run waits in the queue while the first begins, so nothing is put beside them."""
    provider = ScriptedProvider(says("", ("c1", "slow", "{}")), says("one"), says("two"), says("three"), says("shadow"))
    shadow = trial(shadow=silent(writing()))
    async with start_process(provider, CONTROL, concurrency=1) as p:
        first = await p.service.start(ANONYMOUS, StartRun(input="go"))
        await p.toolbox.started.wait()
        second = await p.service.start(ANONYMOUS, StartRun(input="go", session_id="a"))
        third = await p.service.start(ANONYMOUS, StartRun(input="go", session_id="b"))
        await p.service.agents.replace("default", {"helper": CONTROL}, [shadow])
        p.toolbox.gate.set()
        for started in (first, second, third):
            await p.service.result(started)
        await until(lambda: len(p.notes.shadows) == 2)
        assert ("trial", "dropped") in p.notes.shadows, "the second run began while the third waited"
        assert await p.service.runs(ANONYMOUS, RunFilter(shadow_of=second.run_id)) == []


async def test_only_so_many_shadows_live_at_once(start_process: Any) -> None:
    async with start_process(ScriptedProvider(*[says("hi")] * 4), CONTROL) as p:
        assert await p.store.shadows_welcome(1)
        started = await p.service.start(ANONYMOUS, StartRun(input="go"))
        await p.service.result(started)
        await p.database.execute("UPDATE runs SET shadow_of = id, status = 'running'")
        assert not await p.store.shadows_welcome(1)
        assert await p.store.shadows_welcome(2)


async def test_a_shadow_has_no_shadow_and_neither_has_a_later_attempt(start_process: Any) -> None:
    provider = ScriptedProvider(says("", ("c1", "slow", "{}")), says("done"), says("shadow"), says("more"))
    shadow = trial(shadow=silent(writing()))
    async with start_process(provider, CONTROL) as dead:
        started = await dead.service.start(ANONYMOUS, StartRun(input="go"))
        await dead.toolbox.started.wait()
        await dead.die()
        await dead.store.orphan(["test"])
        async with start_process(provider, CONTROL, experiments=[shadow]) as p:
            p.toolbox.gate.set()
            await ends(p, started.run_id)
            assert p.notes.shadows == []
            again = await p.service.start(ANONYMOUS, StartRun(input="go"))
            await p.service.result(again)
            await shadow_of(p, again.run_id)
            assert p.notes.shadows == [("trial", "started")]


async def test_a_crash_of_a_shadow_keeps_it_a_shadow(start_process: Any) -> None:
    """Who takes it over does not run what writes either."""
    toolbox = ScriptedToolbox()
    agent = msgspec.structs.replace(writing(), tools=(tool_spec("slow"), tool_spec("pay", effect="write")), version="")
    shadow = trial(shadow=silent(versioned(agent)))
    provider = ScriptedProvider(says("one"), says("", ("c1", "slow", "{}")), says("", ("c2", "pay", "{}")), says("end"))
    async with start_process(provider, CONTROL, experiments=[shadow], toolbox=toolbox) as dead:
        started = await dead.service.start(ANONYMOUS, StartRun(input="go"))
        await dead.service.result(started)
        await toolbox.started.wait()
        await dead.die()
        await dead.store.orphan(["test"])
        async with start_process(provider, CONTROL) as p:
            p.toolbox.gate.set()
            run = await shadow_of(p, started.run_id)
            assert (run.status, run.output) == ("succeeded", "end")
            assert [call.name for call in p.toolbox.calls] == ["slow"]
            assert p.notes.begun[-1].shadow_of == started.run_id
