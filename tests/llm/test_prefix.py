"""What a model reads first stays, to the byte, what it was: the writers keep it so, and what changes is found."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Iterator
from contextlib import contextmanager
from itertools import pairwise
from typing import Any

import httpx2
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.trace import NoOpTracer

from app.domain.messages import Api, Message, Native, ToolCall
from app.domain.models import Attempt, ModelChunk, ModelRequest
from app.domain.observers import RunInfo
from app.llm import anthropic_messages, openai_chat, openai_responses
from app.llm.prefix import Change, Prefixes, WatchedTarget
from app.llm.prices import PriceBook
from app.settings import load
from app.telemetry import context
from app.telemetry.setup import Tracing
from app.wiring.models import providers_of, routes_of
from tests.llm.messages import CALCULATOR, assistant, result, user
from tests.llm.test_streams import stream
from tests.llm.wire import API_NAMES, Script, Served

WRITERS = {
    "anthropic-messages": anthropic_messages.API,
    "openai-responses": openai_responses.api(own_host=True),
    "openai-chat": openai_chat.api(own_host=True),
}
THOUGHT = [{"type": "thinking", "thinking": "hm", "signature": "s"}, {"type": "text", "text": "So."}]

# --- what is written ----------------------------------------------------------------------------------------------------

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)


@st.composite
def rounds(draw: st.DrawFn, widest: int = 30) -> list[list[Message]]:
    """What is new at each call: the user's words, or an answer with what came after it."""
    steps: list[list[Message]] = []
    for at in range(draw(st.integers(1, 8))):
        step: list[Message] = []
        if at:
            calls = tuple(ToolCall(f"c{at}_{n}", "calculator", "{}") for n in range(draw(st.integers(0, widest))))
            said = assistant(draw(texts), *calls)
            if draw(st.booleans()):
                uses = [{"type": "tool_use", "id": c.id, "name": c.name, "input": {}} for c in calls]
                items = msgspec.Raw(msgspec.json.encode(THOUGHT + uses))
                said = msgspec.structs.replace(said, native=Native(api="anthropic-messages", items=items))
            step += [said, *(result(call.id, draw(texts)) for call in calls)]
        if not step or not step[0].tool_calls or draw(st.booleans()):
            step.append(user(draw(texts), draw(st.sampled_from([None, '{"a":1}']))))
        steps.append(step)
    return steps


def calls_of(steps: list[list[Message]], **options: Any) -> list[ModelRequest]:
    history: tuple[Message, ...] = ()
    requests = []
    for step in steps:
        history += tuple(step)
        requests.append(
            ModelRequest(route="r", system="Be brief.", messages=history, tools=(CALCULATOR,), affinity="s", **options)
        )
    return requests


def content_of(api: Api, request: ModelRequest) -> bytes:
    """The tools, the system prompt and the history as they are sent, open at the end; without what vendors do not count."""
    written = WRITERS[api].write(request, "m")[0]
    prompt = written[written.index(b'"tools":[') :]
    for no_content in (
        b',"cache_control":{"type":"ephemeral"}',
        b'"tool_choice":{"type":"none"},',
        b'"tool_choice":"none",',
    ):
        prompt = prompt.replace(no_content, b"")
    return prompt.rstrip(b"]}")


@pytest.mark.parametrize("api", API_NAMES)
@given(steps=rounds(widest=4), silent=st.sets(st.integers(0, 8)))
def test_what_a_call_sent_is_how_the_next_begins(api: Api, steps: list[list[Message]], silent: set[int]) -> None:
    requests = [
        msgspec.structs.replace(request, tool_choice="none" if at in silent else "auto")
        for at, request in enumerate(calls_of(steps))
    ]
    sent = [content_of(api, request) for request in requests]
    for earlier, later in pairwise(sent):
        assert later.startswith(earlier)


def marked(request: ModelRequest) -> tuple[int, list[int]]:
    """Breakpoints before the history, and those in it: the numbers of their blocks."""
    body = msgspec.json.decode(anthropic_messages.write(request, "m")[0])
    head = [block for block in body.get("tools", []) + body.get("system", []) if "cache_control" in block]
    blocks = [(message["role"], block) for message in body["messages"] for block in message["content"]]
    found = [at for at, (_, block) in enumerate(blocks) if "cache_control" in block]
    assert all(blocks[at][0] == "user" and blocks[at][1]["type"] in ("text", "tool_result") for at in found)
    return len(head), found


@given(steps=rounds())
def test_anthropic_always_finds_what_the_last_call_wrote(steps: list[list[Message]]) -> None:
    """However many tools were called: a breakpoint finds what was written at most 20 blocks before it."""
    written: list[int] = []
    for request in calls_of(steps):
        head, now = marked(request)
        assert head == 1
        assert 1 <= len(now) <= 3
        if written:
            assert any(0 <= at - written[-1] < 20 for at in now)
        written = now


@pytest.mark.parametrize("missed", range(14))
def test_anthropic_finds_what_was_written_before_calls_that_went_elsewhere(missed: int) -> None:
    steps = [[user("x")]] + [[assistant("", ToolCall(f"c{n}", "t", "{}")), result(f"c{n}", "y")] for n in range(40)]
    requests = calls_of(steps)
    for earlier, later in zip(requests, requests[1 + missed :], strict=False):
        last = marked(earlier)[1][-1]
        assert any(0 <= at - last < 20 for at in marked(later)[1])


def test_tools_end_in_a_breakpoint_where_there_is_no_system_prompt() -> None:
    (request,) = calls_of([[user("x")]])
    body = msgspec.json.decode(anthropic_messages.write(msgspec.structs.replace(request, system=""), "m")[0])
    assert "system" not in body
    assert body["tools"][-1]["cache_control"] == {"type": "ephemeral"}
    bare = msgspec.structs.replace(request, system="", tools=())
    assert marked(bare) == (0, [0])


# --- what changes -------------------------------------------------------------------------------------------------------

TALK = (
    Message(id="1", role="user", content="What is 6 times 7?", context='{"unit":"apples"}'),
    Message(id="2", role="assistant", content="", tool_calls=(ToolCall("c", "calculator", "{}"),)),
    Message(id="3", role="tool", content="42", call_id="c"),
)
FIRST = ModelRequest(route="r", system="Be brief.", messages=TALK, tools=(CALCULATOR,), affinity="s")


def like(**other: Any) -> ModelRequest:
    return msgspec.structs.replace(FIRST, **other)


def with_message(at: int, **other: Any) -> ModelRequest:
    messages = [*TALK[:at], msgspec.structs.replace(TALK[at], **other), *TALK[at + 1 :]]
    return like(messages=(*messages, Message(id="4", role="user", content="And 8?")))


def opened(**bounds: int) -> Prefixes:
    return Prefixes(author=lambda: "agent 1", **bounds)


REORDERED = msgspec.structs.replace(CALCULATOR, schema=dict(reversed(CALCULATOR.schema.items())))


@pytest.mark.parametrize(
    ("later", "part", "offset"),
    [
        (like(system="Be brief, it is 12:01."), "system", len("Be brief")),
        (like(system="Be"), "system", 2),
        (like(system="é" + FIRST.system), "system", 0),
        (like(tools=(CALCULATOR, CALCULATOR)), "tools", len(msgspec.json.encode(FIRST.tools)) - 1),
        (like(tools=()), "tools", 1),
        (like(tools=(REORDERED,)), "tools", msgspec.json.encode(FIRST.tools).index(b'"schema":{"type"') + 11),
        (with_message(0, content="What is 6 times 8?"), "messages[0].content", 16),
        (with_message(0, context='{"unit":"pears"}'), "messages[0].context", 9),
        (with_message(1, tool_calls=(ToolCall("d", "calculator", "{}"),)), "messages[1].tool_calls", 8),
        (with_message(2, is_error=True), "messages[2].is_error", 0),
    ],
)
def test_a_change_is_found_to_the_byte_and_told_once(later: ModelRequest, part: str, offset: int) -> None:
    prefixes = opened()
    assert prefixes.check(FIRST, "p/m") is None
    assert prefixes.check(later, "p/m") == Change(part=part, offset=offset)
    assert prefixes.check(FIRST, "p/m") is None
    assert prefixes.check(later, "p/m") is None


@pytest.mark.parametrize(
    "later",
    [
        FIRST,
        like(tool_choice="none"),
        like(messages=(*TALK, Message(id="4", role="assistant", content="42."))),
        like(messages=TALK[:1]),
        like(messages=TALK[1:]),
        like(messages=(Message(id="sum", role="user", content="So far: 42."), *TALK[2:])),
        like(messages=()),
        msgspec.structs.replace(with_message(2, content="4"), trimmed_tokens=7),
        with_message(1, stop="tool_calls"),
        like(affinity="another", system="x"),
        like(route="another", system="x"),
    ],
)
def test_what_is_no_change(later: ModelRequest) -> None:
    """Growth, another session or route; a history that was reset, trimmed or summed up; what no model reads."""
    prefixes = opened()
    prefixes.check(FIRST, "p/m")
    assert prefixes.check(msgspec.json.decode(msgspec.json.encode(later), type=ModelRequest), "p/m") is None


def test_another_target_or_version_of_the_agent_has_another_prefix() -> None:
    author = ["agent 1"]
    prefixes = Prefixes(author=lambda: author[0])
    changed = like(system="x")
    assert prefixes.check(FIRST, "p/m") is None
    assert prefixes.check(changed, "p/other") is None
    author[0] = "agent 2"
    assert prefixes.check(changed, "p/m") is None
    author[0] = "agent 1"
    assert prefixes.check(FIRST, "p/m") is None
    assert prefixes.check(changed, "p/m") is not None


def test_requests_of_no_session_are_not_compared() -> None:
    prefixes = opened()
    prefixes.check(like(affinity=""), "p/m")
    assert prefixes.check(like(affinity="", system="x"), "p/m") is None


def test_the_longest_unused_is_forgotten() -> None:
    prefixes = opened(max_sessions=2)
    for session in ("a", "b", "a", "c"):
        assert prefixes.check(like(affinity=session), "p/m") is None
    assert prefixes.check(like(affinity="b", system="x"), "p/m") is None
    assert prefixes.check(like(affinity="c", system="x"), "p/m") is not None


def test_what_is_kept_has_a_size() -> None:
    """It grows with a session and shrinks with it; one too large is not kept, and leaves no trace."""
    prefixes = opened(max_bytes=100_000)
    long = Message(id="5", role="user", content="x" * 60_000)
    for _ in range(3):
        prefixes.check(like(affinity="a"), "p/m")
        prefixes.check(like(affinity="a", messages=(*TALK, long)), "p/m")
    assert prefixes.check(like(affinity="a"), "p/m") is None
    prefixes.check(like(affinity="b", messages=(long,)), "p/m")
    assert prefixes.check(like(affinity="a", system="x"), "p/m") is not None
    prefixes.check(like(affinity="c", messages=(long,)), "p/m")
    assert prefixes.check(like(affinity="b", system="x"), "p/m") is None
    prefixes.check(like(affinity="d", system="x" * 200_000), "p/m")
    assert prefixes.check(like(affinity="d"), "p/m") is None
    assert prefixes.check(like(affinity="d", system="x"), "p/m") is not None


class Silent:
    """A target that says nothing."""

    provider = "openai"
    system = "openai"
    model = "m"

    async def stream(self, request: ModelRequest, attempt: Attempt) -> AsyncGenerator[ModelChunk, None]:
        chunks: tuple[ModelChunk, ...] = ()
        for chunk in chunks:
            yield chunk


async def test_a_change_is_a_warning_without_content(caplog: pytest.LogCaptureFixture) -> None:
    target = WatchedTarget(target=Silent(), prefixes=opened())
    attempt = Attempt(number=1, provider="openai", model="m", started=0.0)
    with caplog.at_level(logging.WARNING):
        for system in ("It is 12:00 secret", "It is 12:01 secret", "It is 12:02 secret"):
            assert [chunk async for chunk in target.stream(like(system=system), attempt)] == []
    (record,) = caplog.records
    assert record.getMessage() == "prompt_prefix_changed"
    told = {name: value for name, value in vars(record).items() if name in ("route", "model", "part", "offset")}
    assert told == {"route": "r", "model": "openai/m", "part": "system", "offset": 10}
    assert "secret" not in str(vars(record))


async def test_routes_watch_their_targets(caplog: pytest.LogCaptureFixture) -> None:
    """As it is wired: over the same session, warned within one version of an agent, not between two."""
    settings = load({"OPENAI_API_KEY": "k"}, {"steadyhand.toml": '[models.default]\nchain = ["openai/gpt-5.5"]'})
    script = Script(*[Served(stream("openai-responses"))] * 3)
    providers = providers_of(settings, PriceBook(own={}), httpx2.AsyncClient(transport=httpx2.MockTransport(script)))
    target = routes_of(settings, providers, Tracing(tracer=NoOpTracer()))["default"].targets[0]
    assert not isinstance(target, tuple)
    warned = []
    for version, system in (("1", "Be brief."), ("2", "Be long."), ("2", "Be lost.")):
        with context_of(version):
            attempt = Attempt(number=1, provider="openai", model="gpt-5.5", started=0.0)
            assert [chunk async for chunk in target.stream(like(system=system), attempt)]
        warned.append(sum(record.getMessage() == "prompt_prefix_changed" for record in caplog.records))
    assert warned == [0, 0, 1]
    await providers["openai"].aclose()


@contextmanager
def context_of(version: str) -> Iterator[None]:
    info = RunInfo(
        run_id="r",
        session_id="s",
        tenant="t",
        user_id=None,
        agent="a",
        agent_version=version,
        route="default",
        attempt=1,
        traceparent=None,
        queued=0.0,
    )
    token = context.run.set(info)
    try:
        yield
    finally:
        context.run.reset(token)
