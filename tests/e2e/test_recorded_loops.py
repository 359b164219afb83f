"""Tool loops that other people's agents went through with real models, gone through again by ours: same answers, same tools, same end."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, Literal

import httpx2
import msgspec
import pytest

from app.domain import events as ev
from app.domain.agents import Agent, Limits, versioned
from app.domain.messages import Api, ToolCall
from app.domain.principals import ANONYMOUS
from app.domain.tools import ToolContext, ToolResult, ToolSpec
from app.llm.providers import open_provider
from app.llm.router import Route, Router
from app.runs.service import RunService, StartRun
from tests.e2e.provider import Call
from tests.e2e.wires import ApiName, ToolUse, bodies
from tests.llm import recordings
from tests.llm.targets import Gate
from tests.llm.wire import Script, Served
from tests.runs.conftest import process
from tests.scripted import tool_spec

SPOKEN: dict[Api, ApiName] = {"anthropic-messages": "anthropic", "openai-responses": "responses", "openai-chat": "chat"}
Kind = Literal["openai", "anthropic"]


def _loops() -> list[dict[str, Any]]:
    place = recordings.folder()
    if place is None:
        return []
    found: list[dict[str, Any]] = msgspec.json.decode((place / "golden" / "agent_loops.json").read_bytes())
    return found


LOOPS = _loops()
pytestmark = pytest.mark.skipif(not LOOPS, reason="the recordings are not there")


class Earlier(msgspec.Struct):
    """What was said before the loop began: a question, the model's messages (text, calls), and the results of the calls."""

    question: str = ""
    said: list[tuple[str, list[ToolUse]]] = []


class RecordedTools:
    """A toolbox that answers each call as it was answered then."""

    def __init__(self, results: dict[str, Any]) -> None:
        self._results = results
        self.calls: list[ToolCall] = []

    def specs(self, names: Sequence[str]) -> tuple[ToolSpec, ...]:
        return tuple(tool_spec(name) for name in names)

    async def run(self, spec: ToolSpec | None, call: ToolCall, context: ToolContext) -> ToolResult:
        assert spec is not None, f"{call.name} is not one of the agent's tools"
        self.calls.append(call)
        result = msgspec.Raw(msgspec.json.encode(_plain(self._results[call.id])))
        return ToolResult(call_id=call.id, name=call.name, status="ok", result=result)


def _plain(result: Any) -> Any:
    """A recorded result as our tools return it: text where it was text, else JSON."""
    if isinstance(result, list) and all(part.get("type") == "text" for part in result):
        return "".join(part["text"] for part in result)
    return result


def _text(content: Any) -> str:
    if isinstance(content, str):
        return content
    return "\n".join(part["text"] for part in content or () if "text" in part)


def _opening(loop: dict[str, Any]) -> tuple[str, str, Earlier | None, dict[str, Any]]:
    """System text, the question, what stands before it in the session, and the results of the calls in there.

    Where the loop was recorded from its middle on, that middle becomes an earlier turn and the question is asked again.
    """
    system, question, results = _text(loop["system"] or ""), "", {}
    earlier = Earlier()
    for message in loop["messages"]:
        kind, role, content = message.get("type"), message.get("role"), message.get("content")
        if kind == "function_call":
            text, calls = earlier.said.pop() if earlier.said else ("", [])
            earlier.said.append((text, [*calls, (message["call_id"], message["name"], message["arguments"])]))
        elif kind == "function_call_output":
            results[message["call_id"]] = message["output"]
        elif role == "system":
            system = system or _text(content)
        elif role == "assistant":
            parts = content if isinstance(content, list) else []
            uses = [p for p in parts if p["type"] == "tool_use"]
            calls = [(p["id"], p["name"], msgspec.json.encode(p["input"]).decode()) for p in uses]
            earlier.said.append((_text(content), calls))
        elif role == "user":
            answers = [p for p in content if p["type"] == "tool_result"] if isinstance(content, list) else []
            results |= {p["tool_use_id"]: p["content"] for p in answers}
            if not answers:
                earlier.question, question = question or _text(content), _text(content)
    if not earlier.said:
        return system, question, None, {}
    if earlier.said[-1][1]:
        earlier.said.append(("Very well.", []))
    return system, question, earlier, results


@asynccontextmanager
async def _house(dsn: str, agent: Agent, api: Api, script: Script, tools: RecordedTools) -> AsyncIterator[RunService]:
    """Everything between a service call and the vendor's HTTP API, which is the script."""
    kind: Kind = "anthropic" if api == "anthropic-messages" else "openai"
    opened = open_provider(
        name=kind,
        kind=kind,
        api="responses" if api == "openai-responses" else "chat" if api == "openai-chat" else None,
        api_key="test-key",
        base_url="",
        http_client=httpx2.AsyncClient(transport=httpx2.MockTransport(script)),
    )
    router = Router(routes={"default": Route(targets=(opened.target("model-1"),))}, breakers=Gate())
    try:
        async with process(dsn, router, agent, toolbox=tools) as running:
            yield running.service
    finally:
        await opened.aclose()


async def _asked(service: RunService, question: str) -> tuple[str, ev.RunFinished]:
    started = await service.start(ANONYMOUS, StartRun(input=question, session_id="s"))
    end = await service.result(started)
    assert isinstance(end, ev.RunFinished)
    return started.run_id, end


@pytest.mark.parametrize("loop", LOOPS, ids=[loop["id"][-60:] for loop in LOOPS])
async def test_the_loop_goes_as_it_went(database: str, loop: dict[str, Any]) -> None:
    api: Api = loop["api"]
    (episode,) = [episode for episode in recordings.episodes(api) if episode["id"] == loop["id"]]
    system, question, earlier, results = _opening(loop)
    recorded = [call for step in loop["steps"] for call in step["tool_calls"]]
    tools = RecordedTools(results | {call["id"]: call["result"] for call in recorded})
    specs = tuple(tool_spec(tool["name"], schema=tool["schema"] or {"type": "object"}) for tool in loop["tools"])
    agent = Agent(
        name="a", description="", kind="react", instructions=system, tools=specs, limits=Limits(iterations=50)
    )
    script = Script()
    async with _house(database, versioned(agent), api, script, tools) as service:
        if earlier is not None:
            script.answers = [_body(api, *message) for message in earlier.said]
            _, before = await _asked(service, earlier.question)
            assert (before.status, before.output) == ("succeeded", earlier.said[-1][0])
            assert not script.answers
            script.requests.clear()
            tools.calls.clear()
        script.answers = [Served(t["body"].encode(), t["status"], t["headers"]) for t in episode["turns"]]
        run_id, end = await _asked(service, question)

        assert (end.status, end.stop_reason, end.error) == ("succeeded", "completed", None)
        assert end.output == loop["final_text"]
        assert len(script.requests) == loop["upstream_calls"]
        assert [(c.id, c.name, msgspec.json.decode(c.arguments)) for c in tools.calls] == [
            (call["id"], call["name"], call["args"]) for call in recorded
        ]
        sent = [
            Call(api=SPOKEN[api], headers={}, body=msgspec.json.decode(request.content)) for request in script.requests
        ]
        assert sent[0].question == question
        assert sent[0].system == system
        given = set(results)
        for call, step in zip(sent, loop["steps"], strict=True):
            assert set(call.results) == given
            given |= {use["id"] for use in step["tool_calls"]}
        for use in recorded:
            wanted = _plain(use["result"])
            got = sent[-1].results[use["id"]]
            assert (got if isinstance(wanted, str) else msgspec.json.decode(got)) == wanted
        stored = [ev.decode(event) for event in (await service.journal(ANONYMOUS, run_id, 0, 1000))[0]]
        texts = [event.message.content for event in stored if isinstance(event, ev.MessageCompleted)]
        assert texts == [step["text"] for step in loop["steps"]]


def _body(api: Api, text: str, calls: list[ToolUse]) -> Served:
    answer = bodies(text, calls)(SPOKEN[api])
    assert isinstance(answer.pieces[0], bytes)
    return Served(answer.pieces[0], headers={"content-type": answer.content_type})
