"""A run whose time is up, or whom no model answers: one plain call in the time that was kept, then the agent's own reply."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import msgspec
import pytest

from app.domain.agents import Limits
from app.domain.errors import ProviderError, ProvidersUnavailable, RunStopped
from app.domain.events import RunFinished
from app.domain.principals import ANONYMOUS
from app.runs.service import StartRun
from app.runs.stop import Stop
from tests.llm.targets import router_of
from tests.runs.asking import time_is_up
from tests.runs.conftest import react
from tests.runs.test_durability import end_of, sound
from tests.runs.test_midstream import payloads, reads, route, spelled
from tests.scripted import ScriptedProvider, says
from tests.waiting import until

SORRY = "Sorry, not now."
SCHEMA = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
DOWN = ProvidersUnavailable("default", [ProviderError("connect", "refused"), ProviderError("overloaded", "busy")])


def hangs(text: str = "") -> list[Any]:
    return [*says(text)[:-1], asyncio.Event()]


async def begins(p: Any, **more: Any) -> Any:
    return await p.service.start(ANONYMOUS, StartRun(input="hello", session_id="s", **more))


async def said(p: Any) -> list[tuple[str, str]]:
    return [(message.role, message.content) for _, message in await p.sessions.messages(ANONYMOUS, "s")]


def told(end: RunFinished) -> tuple[str, str, bool, Any]:
    return end.status, end.stop_reason, end.degraded, end.output


async def test_a_plain_call_answers_when_the_time_is_up(start_process: Any) -> None:
    provider = ScriptedProvider(hangs("Half an ans"), says("In short: 7.", pieces=2), says("next"))
    async with start_process(provider, react(fallback_reply=SORRY)) as p:
        started = await begins(p)
        await until(lambda: (feed := p.feeds.get(started.run_id)) is not None and feed.length)
        reading = asyncio.create_task(reads(p, started.run_id))
        await time_is_up(p, started.run_id)
        end = await p.service.result(started)
        assert told(end) == ("succeeded", "timeout", True, "In short: 7.")
        assert (end.error, end.iterations, provider.closed) == (None, 1, 2)
        first, plain = provider.requests
        assert (first.tool_choice, plain.tool_choice) == ("auto", "none")
        assert msgspec.structs.replace(plain, tool_choice="auto") == first
        assert list(spelled(await reading).values()) == ["In short: 7."]
        events = await p.events(started.run_id)
        assert [event.name for event in events] == [
            "run.created", "run.started", "usage.recorded", "message.reset", "message.completed", "usage.recorded", "run.finished",
        ]  # fmt: skip
        assert [usage["outcome"] for usage in payloads(events, "usage.recorded")] == ["cancelled", "ok"]
        sound(events)
        assert (await p.service.run(ANONYMOUS, started.run_id)).degraded
        await p.service.result(await begins(p))
        assert await said(p) == [
            ("user", "hello"),
            ("assistant", "In short: 7."),
            ("user", "hello"),
            ("assistant", "next"),
        ]


@pytest.mark.parametrize(("tool", "status"), [("slow", "cancelled"), ("slow_write", "outcome_unknown")])
async def test_tools_that_are_stopped_have_outcomes_before_the_plain_call(
    start_process: Any, tool: str, status: str
) -> None:
    calls = (("c1", "echo", "{}"), ("c2", tool, "{}"), ("c3", "risky", "{}"))
    provider = ScriptedProvider(says("", *calls), says("What I know.", ("c4", "echo", "{}")))
    async with start_process(provider) as p:
        started = await begins(p)
        await p.toolbox.started.wait()
        await until(lambda: len(p.toolbox.calls) == 2)
        await time_is_up(p, started.run_id)
        assert told(await p.service.result(started)) == ("succeeded", "timeout", True, "What I know.")
        events = await p.events(started.run_id)
        sound(events)
        outcomes = {e["call_id"]: e["status"] for e in payloads(events, "tool.finished")}
        assert outcomes == {"c1": "ok", "c2": status, "c3": "cancelled"}
        roles = [message.role for message in provider.requests[1].messages]
        assert roles == ["user", "assistant", "tool", "tool", "tool"]


NO_ANSWER = [
    pytest.param([DOWN], id="all down"),
    pytest.param(["Half ", DOWN], id="broken"),
    pytest.param([ProviderError("stream_broken", "cut")], id="one error"),
    pytest.param(says(""), id="empty"),
    pytest.param(says("  ", ("c", "echo", "{}")), id="only a call"),
    pytest.param(says("wait", stop="pause"), id="unfinished"),
]


@pytest.mark.parametrize("reply", [None, SORRY])
@pytest.mark.parametrize("script", NO_ANSWER)
async def test_a_plain_call_without_an_answer_gives_way_to_the_reply(
    start_process: Any, script: list[Any], reply: str | None
) -> None:
    plain = [says(piece)[0] if isinstance(piece, str) else piece for piece in script]
    agent = react() if reply is None else react(fallback_reply=reply)
    async with start_process(ScriptedProvider(hangs(), plain), agent) as p:
        started = await begins(p)
        await time_is_up(p, started.run_id)
        end = await p.service.result(started)
        items = await reads(p, started.run_id)
        if reply is None:
            assert (*told(end), end.error.code) == ("failed", "timeout", False, None, "timeout")
        else:
            assert told(end) == ("succeeded", "timeout", True, SORRY)
            assert await said(p) == [("user", "hello"), ("assistant", SORRY)]
            assert list(spelled(items).values()) == [SORRY]
        sound(await p.events(started.run_id))


async def test_a_plain_call_that_is_too_late_gives_way_to_the_reply(start_process: Any) -> None:
    provider = ScriptedProvider(hangs("a"), hangs("b"))
    async with start_process(provider, react(fallback_reply=SORRY)) as p:
        started = await begins(p)
        await time_is_up(p, started.run_id)
        await time_is_up(p, started.run_id, requests=2)
        assert told(await p.service.result(started)) == ("succeeded", "timeout", True, SORRY)
        assert list(spelled(await reads(p, started.run_id)).values()) == [SORRY]
        assert await said(p) == [("user", "hello"), ("assistant", SORRY)]
        assert provider.closed == 2


async def test_an_answer_that_came_just_in_time_counts(start_process: Any) -> None:
    provider = ScriptedProvider(hangs(), [*says("Just in time."), asyncio.Event()])
    async with start_process(provider, react(fallback_reply=SORRY)) as p:
        started = await begins(p)
        await time_is_up(p, started.run_id)
        await until(lambda: (feed := p.feeds.get(started.run_id)) is not None and feed.length == len("Just in time."))
        await time_is_up(p, started.run_id, requests=2)
        assert told(await p.service.result(started)) == ("succeeded", "timeout", True, "Just in time.")


async def test_a_request_that_is_wrong_itself_is_never_excused(start_process: Any) -> None:
    wrong = ProviderError("bad_request", "no")
    async with start_process(ScriptedProvider([wrong], hangs(), [wrong]), react(fallback_reply=SORRY)) as p:
        for late in (False, True):
            started = await begins(p)
            if late:
                await time_is_up(p, started.run_id, requests=2)
            end = await p.service.result(started)
            assert (*told(end), end.error.code) == ("failed", "error", False, None, "provider_error")


async def test_no_model_answers(start_process: Any) -> None:
    provider = ScriptedProvider(says("", ("c1", "echo", "{}")), [*says("Hal")[:1], DOWN], says("Back."))
    async with start_process(provider, react(fallback_reply=SORRY)) as p:
        started = await begins(p)
        end = await p.service.result(started)
        assert told(end) == ("succeeded", "providers_unavailable", True, SORRY)
        assert (end.iterations, end.cached, end.error) == (1, False, None)
        assert len(provider.requests) == 2
        events = await p.events(started.run_id)
        sound(events)
        names = [event.name for event in events]
        assert (names[-2:], names.count("message.reset")) == (["message.completed", "run.finished"], 1)
        assert list(spelled(await reads(p, started.run_id)).values())[-1] == SORRY
        assert (await p.service.result(await begins(p))).output == "Back."
        assert [m.content for m in provider.requests[2].messages if m.role == "assistant"] == ["", SORRY]


async def test_a_route_that_is_to_fail_when_its_answer_broke_fails(start_process: Any) -> None:
    async with start_process(router_of(route(on_midstream="error")), react(fallback_reply=SORRY)) as p:
        end = await p.service.result(await begins(p))
        assert told(end) == ("failed", "providers_unavailable", False, None)


@pytest.mark.parametrize(
    ("plain", "output"),
    [(says('{"n": 3}'), {"n": 3}), (says('{"n": "x"}'), {"n": 0}), (says("No.", stop="refusal"), {"n": 0})],
)
async def test_structured_answers_fit_here_too(start_process: Any, plain: Any, output: Any) -> None:
    agent = react(output_schema=SCHEMA, fallback_reply='{"n": 0}')
    provider = ScriptedProvider(says("no json"), hangs(), plain)
    async with start_process(provider, agent) as p:
        started = await begins(p)
        await time_is_up(p, started.run_id, requests=2)
        assert told(await p.service.result(started)) == ("succeeded", "timeout", True, output)
        assert len(provider.requests) == 3
        last = (await said(p))[-1]
        assert (last[0], msgspec.json.decode(last[1])) == ("assistant", output)


async def test_a_cancel_goes_before_the_last_words(start_process: Any) -> None:
    async with start_process(ScriptedProvider(hangs(), hangs("b")), react(fallback_reply=SORRY)) as p:
        started = await begins(p)
        await time_is_up(p, started.run_id)
        await until(lambda: len(p.provider.requests) == 2)
        await p.service.cancel(ANONYMOUS, started.run_id, None)
        assert told(await p.service.result(started)) == ("cancelled", "cancelled", False, None)
        assert "message.completed" not in await p.names(started.run_id)


async def test_a_run_whose_owner_died_in_its_last_words_is_answered_all_the_same(start_process: Any) -> None:
    agent = react(limits=Limits(timeout=60.0), fallback_reply=SORRY)
    provider = ScriptedProvider(hangs(), hangs("b"))
    async with start_process(provider, agent) as dead:
        started = await begins(dead, timeout=50.0)
        await time_is_up(dead, started.run_id)
        await until(lambda: len(provider.requests) == 2)
        await dead.database.execute("UPDATE runs SET answer_by = now() - interval '1 second'")
        await dead.store.orphan(["test"])
        async with start_process(provider, agent) as p:
            await end_of(p, started.run_id)
            run = await p.service.run(ANONYMOUS, started.run_id)
            assert (run.status, run.stop_reason, run.degraded, run.output) == ("succeeded", "timeout", True, SORRY)
            assert await said(p) == [("user", "hello"), ("assistant", SORRY)]
            sound(await p.events(started.run_id))
            assert [end.degraded for _, end in p.notes.never_began] == [True]


@pytest.mark.parametrize(("timeout", "kept"), [(None, 10.0), (20.0, 5.0), (90.0, 10.0)])
async def test_the_last_quarter_is_kept_ten_seconds_at_most(
    start_process: Any, timeout: float | None, kept: float
) -> None:
    async with start_process(ScriptedProvider(hangs())) as p:
        started = await begins(p, timeout=timeout)
        await until(lambda: p.provider.requests)
        stop = p.worker._running[started.run_id].stop
        assert stop.end - stop.deadline == pytest.approx(kept, abs=0.5)
        await p.service.cancel(ANONYMOUS, started.run_id, None)
        await p.service.result(started)


async def test_what_is_kept_is_used_once() -> None:
    stop = Stop(time.monotonic() + 3600, reserve=3601)
    with pytest.raises(RunStopped) as early:
        async with stop:
            raise AssertionError("too late")
    assert (early.value.cause, stop.cause) == ("timeout", None)
    assert (stop.use_reserve(), stop.use_reserve()) == (True, False)
    async with stop:
        pass
    stop.end = time.monotonic()
    with pytest.raises(RunStopped):
        async with stop:
            raise AssertionError("too late")
    assert stop.cause == "timeout"


async def test_a_stopped_effect_leaves_half_of_what_is_kept() -> None:
    stop = Stop(time.monotonic() + 4, reserve=4)
    assert 0 < stop.grace(5.0) <= 2.0
    assert stop.grace(0.1) == 0.1
    stop.call("cancelled")
    assert stop.grace(5.0) == 5.0
