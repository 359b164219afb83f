"""Turns that are answered by earlier ones: what is kept, for whom, and what becomes of those who wait for an answer."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator
from typing import Any

import msgspec
import pytest

from app.domain import events as ev
from app.domain.agents import Agent, Caching
from app.domain.cache import Selection
from app.domain.errors import ProviderError, ProvidersUnavailable
from app.domain.messages import Usage
from app.domain.models import Completed, ModelChunk, ModelRequest, Recorder, TextDelta
from app.domain.principals import ANONYMOUS, Principal
from app.domain.tools import ToolContext, ToolResult, ToolSpec
from app.runs.service import StartRun
from app.runs.stream import Cursor
from tests.runs.conftest import Harness, react
from tests.runs.test_durability import sound
from tests.scripted import ScriptedProvider, ScriptedToolbox, says, tool_spec
from tests.waiting import until

DOWN = ProvidersUnavailable("default", [ProviderError("connect", "refused")])
HIT, MISS, BYPASS = ("exact", "hit"), ("exact", "miss"), ("exact", "bypass")


def caching(**more: Any) -> Agent:
    return react(cache=Caching(ttl=60.0), **more)


def chatting(**more: Any) -> Agent:
    return caching(name="chat", kind="chat", tools=(), **more)


async def ask(p: Harness, question: str = "why?", principal: Principal = ANONYMOUS, **more: Any) -> Any:
    started = await p.service.start(principal, StartRun(input=question, **more))
    return await p.service.result(started)


async def many(p: Harness, count: int, question: str = "why?") -> list[Any]:
    return await asyncio.gather(*(ask(p, question) for _ in range(count)))


class Echo:
    """Answers each question by itself, and counts how often it was asked. `gate` None: at once."""

    def __init__(self, gate: asyncio.Event | None = None) -> None:
        self.asked: Counter[str] = Counter()
        self.gate = gate

    async def stream(self, request: ModelRequest, recorder: Recorder) -> AsyncGenerator[ModelChunk, None]:
        question = request.messages[-1].content
        self.asked[question] += 1
        if self.gate is not None:
            await self.gate.wait()
        recorder.open("scripted", "model", 0.0).outcome = "ok"
        yield TextDelta(f"answer to {question}")
        yield Completed(content=f"answer to {question}", stop="stop", response_model="model")


async def test_the_same_question_is_answered_without_a_model_and_says_so(start_process: Any) -> None:
    provider = ScriptedProvider(says("Because.", pieces=3))
    async with start_process(provider, chatting()) as p:
        first = await ask(p)
        assert (first.cached, first.iterations, first.output) == (False, 1, "Because.")
        started = await p.service.start(ANONYMOUS, StartRun(input="why?", session_id="s"))
        end = await p.service.result(started)
        assert (end.status, end.stop_reason, end.cached, end.iterations) == ("succeeded", "completed", True, 0)
        assert (end.output, end.model, end.cost_usd, end.degraded) == ("Because.", first.model, 0.0, False)
        nothing = Usage(
            input_tokens=0, cached_input_tokens=0, cache_write_tokens=0, output_tokens=0, reasoning_tokens=0
        )
        assert end.usage == nothing
        assert len(provider.requests) == 1
        run = await p.service.run(ANONYMOUS, started.run_id)
        assert (run.cached, run.iterations, run.output, run.cost_usd) == (True, 0, "Because.", 0.0)
        events = await p.events(started.run_id)
        assert [event.name for event in events] == ["run.created", "run.started", "message.completed", "run.finished"]
        sound(events)
        stream = await p.service.events(ANONYMOUS, started.run_id, Cursor())
        items = [item async for batch in stream for item in batch]
        assert [item.name for item in items][2:] == ["message.delta", "message.completed", "run.finished"]
        assert p.counts == {MISS: 1, HIT: 1}


async def test_an_agent_without_cache_has_none(start_process: Any) -> None:
    provider = ScriptedProvider(says("one"), says("two"))
    async with start_process(provider, react()) as p:
        assert [(await ask(p)).output for _ in range(2)] == ["one", "two"]
        assert not p.counts


async def test_a_cached_answer_is_part_of_its_conversation(start_process: Any) -> None:
    echo = Echo()
    async with start_process(echo, chatting()) as p:
        for session in ("a", "b", "c"):
            for question in ("one", "two"):
                end = await ask(p, question, session_id=session)
                assert end.output == f"answer to {question}"
        assert echo.asked == {"one": 1, "two": 1}
        assert not (await ask(p, "two")).cached, "it has another history"
        assert await p.sessions.messages(ANONYMOUS, "c") != []
        said = [message.content for _, message in await p.sessions.messages(ANONYMOUS, "c")]
        assert said == ["one", "answer to one", "two", "answer to two"]


async def test_a_structured_answer_is_kept_as_what_it_is(start_process: Any) -> None:
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    provider = ScriptedProvider(says("nonsense"), says('{"n": 7}'))
    async with start_process(provider, chatting(output_schema=schema)) as p:
        assert [(await ask(p)).output for _ in range(2)] == [{"n": 7}, {"n": 7}]
        assert len(provider.requests) == 2


@pytest.mark.parametrize(
    "other",
    [
        {"agent": "terse"},
        {"question": "why ?"},
        {"context": {"x": 2}},
        {"principal": Principal(tenant="other")},
    ],
    ids=lambda other: next(iter(other)),
)
async def test_whatever_a_model_would_read_is_part_of_the_question(start_process: Any, other: dict[str, Any]) -> None:
    echo = Echo()
    async with start_process(echo, chatting(), caching(name="terse", instructions="Be terse.")) as p:
        for agent in p.service.agents.current.values():
            await p.store.save_agent("other", agent)
        await ask(p, context={"x": 1})
        assert (await ask(p, context={"x": 1})).cached
        assert not (await ask(p, **({"context": {"x": 1}} | other))).cached
        assert echo.asked.total() == 2


async def test_answers_of_tools_are_their_users_own(start_process: Any) -> None:
    ann, bob = Principal(tenant="default", user="ann"), Principal(tenant="default", user="bob")
    async with start_process(Echo(), caching(), chatting()) as p:
        assert [(await ask(p, principal=who)).cached for who in (ann, bob, ann)] == [False, False, True]
        assert [(await ask(p, principal=who, agent="chat")).cached for who in (ann, bob)] == [False, True]


READ, WRITE = ("c1", "echo", '{"n":1}'), ("c2", "write", "{}")


class Tools(ScriptedToolbox):
    """`echo` reads, `write` writes, `broken` fails, `state` looks at the session's state."""

    async def run(self, spec: ToolSpec | None, call: Any, context: ToolContext) -> ToolResult:
        if call.name == "state":
            await context.state.get()
        result = await super().run(spec, call, context)
        return msgspec.structs.replace(result, status="error") if call.name == "broken" else result


def tooled() -> Agent:
    tools = (tool_spec("echo"), tool_spec("write", effect="write"), tool_spec("again", effect="idempotent"))
    return caching(tools=(*tools, tool_spec("broken"), tool_spec("state"), tool_spec("risky", risk="high")))


@pytest.mark.parametrize(
    ("tools", "kept"),
    [
        (["echo"], True),
        (["echo", "echo"], True),
        (["write"], False),
        (["echo", "write"], False),
        (["again"], False),
        (["broken"], False),
        (["state"], False),
        (["unheard_of"], False),
    ],
    ids=str,
)
async def test_only_turns_that_read_and_went_well_are_kept(start_process: Any, tools: list[str], kept: bool) -> None:
    turn = [says("", *[(f"c{n}", name, "{}") for n, name in enumerate(tools)]), says("done")]
    async with start_process(ScriptedProvider(*turn, *turn), tooled(), toolbox=Tools()) as p:
        assert (await ask(p)).output == "done"
        again = await ask(p)
        assert (again.output, again.cached) == ("done", kept)
        await until(lambda: not p.answers._leads)


@pytest.mark.parametrize(
    ("answers", "more"),
    [
        ([DOWN, DOWN], {"fallback_reply": "Later."}),
        ([says("half", stop="length"), says("half", stop="length")], {}),
        ([says("no", stop="refusal"), says("no", stop="refusal")], {}),
        ([DOWN, DOWN], {}),
    ],
    ids=["degraded", "cut off", "refused", "failed"],
)
async def test_what_is_no_whole_answer_is_not_kept(start_process: Any, answers: list[Any], more: Any) -> None:
    provider = ScriptedProvider(*([a] if isinstance(a, Exception) else a for a in answers))
    async with start_process(provider, chatting(**more)) as p:
        first, second = await ask(p), await ask(p)
        assert (first.stop_reason, first.cached) == (second.stop_reason, second.cached)
        assert len(provider.requests) == 2
        await until(lambda: not p.answers._leads)


async def test_runs_that_stop_on_the_way_or_go_on_do_without(start_process: Any) -> None:
    provider = ScriptedProvider(says("one"), says("two"), [ValueError("a fault")], says("three"))
    async with start_process(provider, chatting()) as p:
        await ask(p)
        started = await p.service.start(ANONYMOUS, StartRun(input="why?", session_id="s", stop_after="tool"))
        assert (await p.service.result(started)).output == "two"
        failed = await p.service.start(ANONYMOUS, StartRun(input="new", session_id="t"))
        assert (await p.service.result(failed)).status == "failed"
        resumed = await p.service.resume(ANONYMOUS, failed.run_id)
        assert (await p.service.result(resumed)).output == "three"
        assert p.counts == {MISS: 2, BYPASS: 2}
        await until(lambda: not p.answers._leads)


async def test_an_answer_that_was_steered_is_its_runs_own(start_process: Any) -> None:
    gate = asyncio.Event()
    provider = ScriptedProvider([gate, *says("one")], says("two"), says("three"))
    async with start_process(provider, chatting()) as p:
        started = await p.service.start(ANONYMOUS, StartRun(input="why?", session_id="s"))
        await until(lambda: provider.requests)
        await p.service.steer(ANONYMOUS, started.run_id, "be nice")
        gate.set()
        assert (await p.service.result(started)).output == "two"
        assert not (await ask(p)).cached


async def test_tags_of_the_run_that_was_answered_drop_its_answer(start_process: Any) -> None:
    echo = Echo()
    async with start_process(echo, chatting()) as p:
        await ask(p, tags={"team": "support"})
        assert (await ask(p, tags={"team": "sales"})).cached
        assert await p.answers.drop(Selection(tag="team:sales").labels("default")) == (0, True)
        assert await p.answers.drop(Selection(tag="team:support").labels("default")) == (1, True)
        assert not (await ask(p)).cached


async def test_a_queued_run_keeps_its_tags(start_process: Any) -> None:
    async with start_process(Echo(), chatting(), concurrency=1) as p:
        await many(p, 3, "first")
        runs = [await p.service.start(ANONYMOUS, StartRun(input=q, tags={"n": q})) for q in ("a", "b", "c")]
        for run in runs:
            await p.service.result(run)
        await until(lambda: not p.answers._leads)
        assert await p.answers.drop(Selection(tag="n").labels("default")) == (3, True)


async def test_a_fault_of_the_store_ends_in_the_runs_failure_and_leaves_no_lead(start_process: Any) -> None:
    class Broken:
        async def get(self, key: str) -> None:
            raise ValueError("broken")

    async with start_process(Echo(), chatting(), far=Broken()) as p:
        end = await ask(p)
        assert isinstance(end, ev.RunFinished)
        assert (end.status, end.stop_reason) == ("failed", "error")
        await until(lambda: not p.answers._leads)
