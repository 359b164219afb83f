"""Runs end to end through the service, on a real database."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest

from app.domain.agents import Limits
from app.domain.errors import ProviderError, RequestError
from app.domain.messages import Native
from app.domain.principals import ANONYMOUS, Principal
from app.domain.stores import RunFilter
from app.runs.service import StartRun
from app.runs.stream import Cursor, parse_cursor
from tests.runs.conftest import react
from tests.scripted import ScriptedProvider, says
from tests.waiting import until


async def ask(p: Any, text: Any = "hello", principal: Principal = ANONYMOUS, **more: Any) -> Any:
    started = await p.service.start(principal, StartRun(input=text, **more))
    return started, await p.service.result(started)


async def test_a_tool_turn_is_written_down_and_answered(start_process: Any) -> None:
    provider = ScriptedProvider(
        says("Let me see.", ("c1", "echo", '{"a":1}'), ("c2", "echo", '{"b":2}')), says("It is done.", pieces=3)
    )
    async with start_process(provider) as p:
        started, end = await ask(p, session_id="s1")
        assert (end.status, end.stop_reason, end.output, end.iterations) == ("succeeded", "completed", "It is done.", 2)
        assert end.usage.input_tokens == 20
        names = await p.names(started.run_id)
        assert names == [
            "run.created", "run.started", "message.completed", "usage.recorded", "tool.started", "tool.started",
            "tool.finished", "tool.finished", "message.completed", "usage.recorded", "run.finished",
        ]  # fmt: skip
        roles = [m.role for m in provider.requests[1].messages]
        assert roles == ["user", "assistant", "tool", "tool"]
        run = await p.service.run(ANONYMOUS, started.run_id)
        assert (run.status, run.output, run.finished_at is not None) == ("succeeded", "It is done.", True)
        steps = await p.service.steps(ANONYMOUS, started.run_id)
        assert [(s.kind, s.status) for s in steps] == [("model", "ok"), ("tool", "ok"), ("tool", "ok"), ("model", "ok")]
        assert steps[1].input == {"a": 1}
        assert steps[1].output == {"a": 1}
        assert p.notes.begun[0].traceparent is None or p.notes.begun[0].traceparent.startswith("00-")
    assert provider.closed == 2


async def test_the_next_turn_knows_the_one_before(start_process: Any) -> None:
    native = Native("anthropic-messages", msgspec.Raw(b'[{"type":"thinking","signature":"x"}]'))
    provider = ScriptedProvider(says("", ("c1", "echo", "{}"), native=native), says("one"), says("two"))
    async with start_process(provider) as p:
        await ask(p, "first", session_id="s", context={"city": "Ulm"})
        await ask(p, {"any": ["json"]}, session_id="s")
        seen = provider.requests[2].messages
        assert [(m.role, m.content) for m in seen] == [
            ("user", "first"), ("assistant", ""), ("tool", "{}"), ("assistant", "one"), ("user", '{"any":["json"]}'),
        ]  # fmt: skip
        assert seen[0].context == '{"city":"Ulm"}'
        assert seen[1].native == native
        assert [m.content for _, m in await p.sessions.messages(ANONYMOUS, "s")][-1] == "two"


async def test_turns_of_one_session_run_one_after_another(start_process: Any) -> None:
    gate = asyncio.Event()
    provider = ScriptedProvider([gate, *says("one")], says("two"), says("three"))
    async with start_process(provider) as p:
        runs = [await p.service.start(ANONYMOUS, StartRun(input=f"q{n}", session_id="s")) for n in range(3)]
        assert len(provider.requests) <= 1
        gate.set()
        async with asyncio.timeout(30):
            ends = [await p.service.result(run) for run in runs]
        assert [end.output for end in ends] == ["one", "two", "three"]
        assert ends[1].queue_ms > 0
        contents = [m.content for _, m in await p.sessions.messages(ANONYMOUS, "s")]
        assert contents == ["q0", "one", "q1", "two", "q2", "three"]


async def test_more_runs_than_slots_wait_in_the_database(start_process: Any) -> None:
    gates = [asyncio.Event() for _ in range(5)]
    provider = ScriptedProvider(*[[gate, *says(f"answer {n}")] for n, gate in enumerate(gates)])
    async with start_process(provider, concurrency=2) as p:
        looks = p.worker
        # A look that is under way may take one too many of what is queued meanwhile.
        await until(lambda: not (looks._may_have_dead or looks._may_have_queued or looks._claiming.locked()))
        runs = [await p.service.start(ANONYMOUS, StartRun(input="q")) for _ in range(5)]
        assert (await p.store.queue())[0] == 3
        for gate in gates:
            gate.set()
        ends = [await p.service.result(run) for run in runs]
        assert sorted(end.output for end in ends) == [f"answer {n}" for n in range(5)]


async def test_at_the_limit_one_last_call_without_tools(start_process: Any) -> None:
    call = says("more", ("c", "echo", "{}"))
    provider = ScriptedProvider(call, call, says("what I know", ("c9", "echo", "{}")))
    async with start_process(provider, react(limits=Limits(iterations=2))) as p:
        _, end = await ask(p)
        assert (end.stop_reason, end.output, end.iterations) == ("max_iterations", "what I know", 2)
        assert [r.tool_choice for r in provider.requests] == ["auto", "auto", "none"]
        assert all(r.tools == provider.requests[0].tools for r in provider.requests)


SCHEMA = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}


async def test_structured_answers_are_repaired(start_process: Any) -> None:
    provider = ScriptedProvider(says("no json"), says('{"n":"x"}'), says('```json\n{"n": 3}\n```'), says('{"n": 4}'))
    async with start_process(provider, react(output_schema=SCHEMA)) as p:
        started, end = await ask(p, session_id="s")
        assert (end.status, end.output, end.iterations) == ("succeeded", {"n": 3}, 1)
        assert [m.role for m in provider.requests[2].messages] == ["user", "assistant", "user", "assistant", "user"]
        assert "integer" in provider.requests[2].messages[-1].content
        assert (await p.names(started.run_id)).count("message.reset") == 2
        await ask(p, session_id="s")
        assert [m.role for m in provider.requests[3].messages] == ["user", "assistant", "user"]


async def test_a_structured_answer_that_is_never_valid_fails(start_process: Any) -> None:
    async with start_process(ScriptedProvider(*[says("no")] * 3), react(output_schema=SCHEMA)) as p:
        _, end = await ask(p)
        assert (end.status, end.stop_reason, end.error.code) == ("failed", "invalid_output", "invalid_output")


@pytest.mark.parametrize(
    ("kind", "stop_reason", "code"),
    [
        ("overloaded", "providers_unavailable", "providers_unavailable"),
        ("stream_broken", "providers_unavailable", "providers_unavailable"),
        ("bad_request", "error", "provider_error"),
    ],
)
async def test_provider_failures_end_the_run(start_process: Any, kind: Any, stop_reason: str, code: str) -> None:
    provider = ScriptedProvider([ProviderError(kind, "said no")], says("fine again"))
    async with start_process(provider) as p:
        started, end = await ask(p, session_id="s")
        assert (end.status, end.stop_reason, end.error.code) == ("failed", stop_reason, code)
        assert "usage.recorded" in await p.names(started.run_id)
        _, end = await ask(p, session_id="s")
        assert end.output == "fine again"


async def test_a_fault_of_ours_ends_the_run_and_is_told(start_process: Any) -> None:
    async with start_process(ScriptedProvider([ValueError("boom")])) as p:
        _, end = await ask(p)
        assert (end.status, end.stop_reason, end.error.code) == ("failed", "error", "internal")
        assert "boom" not in end.error.detail
        assert isinstance(p.notes.faults[0], ValueError)


async def test_refusals_are_an_answer(start_process: Any) -> None:
    async with start_process(ScriptedProvider(says("I will not.", stop="refusal"))) as p:
        _, end = await ask(p)
        assert (end.status, end.stop_reason, end.output) == ("succeeded", "refused", "I will not.")


async def test_the_callers_timeout_ends_the_model_call(start_process: Any) -> None:
    provider = ScriptedProvider([*says("partial")[:1], asyncio.Event()], [asyncio.Event()])
    async with start_process(provider) as p:
        started, end = await ask(p, timeout=0.05)
        assert (end.status, end.stop_reason) == ("failed", "timeout")
        assert provider.closed == len(provider.requests)
        usage = [e for e in await p.events(started.run_id) if e.name == "usage.recorded"]
        assert msgspec.json.decode(usage[0].payload)["outcome"] == "cancelled"


async def test_a_queued_run_ends_when_its_caller_stops_waiting(start_process: Any) -> None:
    gate = asyncio.Event()
    async with start_process(ScriptedProvider([gate, *says("late")], says("never"))) as p:
        first = await p.service.start(ANONYMOUS, StartRun(input="a", session_id="s"))
        started, end = await ask(p, session_id="s", timeout=0.05)
        assert (end.status, end.stop_reason) == ("failed", "timeout")
        assert (await p.names(started.run_id)) == ["run.created", "run.finished"]
        gate.set()
        assert (await p.service.result(first)).output == "late"
        assert p.notes.never_began[0][0] == "helper"


@pytest.mark.parametrize(("tool", "status"), [("slow", "cancelled"), ("slow_write", "outcome_unknown")])
async def test_a_timeout_during_tools_leaves_no_call_open(start_process: Any, tool: str, status: str) -> None:
    provider = ScriptedProvider(
        says("", ("c1", "echo", "{}"), ("c2", tool, "{}")), [ProviderError("bad_request", "no")], says("next")
    )
    async with start_process(provider) as p:
        started, end = await ask(p, session_id="s", timeout=0.8)
        assert (end.status, end.stop_reason) == ("failed", "error")
        steps = await p.service.steps(ANONYMOUS, started.run_id)
        assert {s.name: s.status for s in steps if s.kind == "tool"} == {"echo": "ok", tool: status}
        assert "tool.progress" in await p.names(started.run_id)
        await ask(p, session_id="s")
        called = ["user", "assistant", "tool", "tool"]
        assert [[m.role for m in request.messages] for request in provider.requests[1:]] == [called, [*called, "user"]]


async def test_reset_cancels_what_is_live_and_empties_history(start_process: Any) -> None:
    provider = ScriptedProvider(says("", ("c1", "slow", "{}")), says("fresh"))
    async with start_process(provider) as p:
        live = await p.service.start(ANONYMOUS, StartRun(input="a", session_id="s"))
        queued = await p.service.start(ANONYMOUS, StartRun(input="b", session_id="s"))
        await p.toolbox.started.wait()
        await p.sessions.reset(ANONYMOUS, "s")
        for started in (live, queued):
            end = await p.service.result(started)
            assert (end.status, end.stop_reason, end.error.code) == ("cancelled", "cancelled", "run_cancelled")
        assert await p.sessions.messages(ANONYMOUS, "s") == []
        assert len(p.notes.stops) == 1
        await ask(p, "c", session_id="s")
        assert [m.content for m in provider.requests[1].messages] == ["c"]
        with pytest.raises(RequestError) as error:
            await p.sessions.reset(ANONYMOUS, "unknown")
        assert error.value.code == "not_found"


async def test_a_drain_finishes_what_somebody_waits_for_and_hands_on_the_rest(start_process: Any) -> None:
    gate = asyncio.Event()
    provider = ScriptedProvider(
        [gate, *says("in time")], [asyncio.Event()], [asyncio.Event()], says("later"), says("too")
    )
    async with start_process(provider) as p:
        first = await p.service.start(ANONYMOUS, StartRun(input="a"))
        second = await p.service.start(ANONYMOUS, StartRun(input="b"))
        third = await p.service.start(ANONYMOUS, StartRun(input="c"))
        answers = [asyncio.create_task(p.service.result(started)) for started in (first, second)]
        await until(lambda: len(provider.requests) == 3)
        drain = asyncio.create_task(p.worker.drain(60))
        await asyncio.sleep(0)
        with pytest.raises(RequestError) as refused:
            await p.service.start(ANONYMOUS, StartRun(input="d"))
        assert refused.value.code == "not_ready"
        gate.set()
        assert (await answers[0]).output == "in time"
        p.worker.hurry()
        with pytest.raises(RequestError) as kept:
            await answers[1]
        assert (kept.value.code, "goes on" in kept.value.detail) == ("not_ready", True)
        await drain
        assert p.notes.handed_on == 2
        for started in (second, third):
            assert (await p.service.run(ANONYMOUS, started.run_id)).status == "queued"
            assert (await p.names(started.run_id))[-2:] == ["message.reset", "usage.recorded"]
        async with start_process(provider) as successor:
            for started in (second, third):
                stream = await successor.service.events(ANONYMOUS, started.run_id, Cursor())
                assert [item.name async for batch in stream for item in batch][-1] == "run.finished"
                assert (await successor.service.run(ANONYMOUS, started.run_id)).output in ("later", "too")
            assert [info.attempt for info in successor.notes.begun] == [2, 2]


async def test_what_belongs_to_others_is_not_there(start_process: Any) -> None:
    provider = ScriptedProvider(says("a"), says("b"))
    alice, bob = Principal(tenant="default", user="alice"), Principal(tenant="default", user="bob")
    other = Principal(tenant="other")
    async with start_process(provider) as p:
        started, _ = await ask(p, principal=alice, session_id="s")
        for stranger in (bob, other):
            for call in (
                p.service.run(stranger, started.run_id),
                p.service.steps(stranger, started.run_id),
                p.service.events(stranger, started.run_id, Cursor()),
                p.service.journal(stranger, started.run_id, 0, 10),
                p.sessions.messages(stranger, "s"),
                p.sessions.session(stranger, "s"),
                p.sessions.reset(stranger, "s"),
            ):
                with pytest.raises(RequestError) as error:
                    await call
                assert error.value.code == "not_found"
            assert await p.service.runs(stranger, RunFilter()) == []
            assert await p.sessions.sessions(stranger, None, 10) == []
        with pytest.raises(RequestError):
            await ask(p, principal=bob, session_id="s")
        await ask(p, principal=other, session_id="s")
        assert [m.content for _, m in await p.sessions.messages(other, "s")] == ["hello", "b"]
        assert len(p.feeds._feeds) == 0


async def test_unknown_agents_and_bad_session_ids_are_refused(start_process: Any) -> None:
    async with start_process(ScriptedProvider()) as p:
        with pytest.raises(RequestError, match="helper"):
            await ask(p, agent="nobody")
        for bad in ("", "a b", "x" * 129, "é"):
            with pytest.raises(RequestError) as error:
                await ask(p, session_id=bad)
            assert error.value.errors[0].path == "session_id"


@pytest.mark.parametrize("bad", ["x", "-1", "1.2.3", "1.", "99999999999", "٣"])
def test_cursors_that_are_none(bad: str) -> None:
    with pytest.raises(RequestError):
        parse_cursor(bad)
