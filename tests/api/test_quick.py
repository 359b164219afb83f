"""The quick endpoints: their answers, field by field."""

from __future__ import annotations

import asyncio
import re
from typing import Any

import pytest

from app.domain.agents import Variable
from app.domain.models import ReasoningDelta
from tests.api.edge import frames
from tests.runs.conftest import react
from tests.scripted import ScriptedProvider, says
from tests.waiting import until

TOOL_TURN = (says("Let me see.", ("c1", "echo", '{"a":1}')), says("It is 1.", pieces=2))
METADATA = {
    "agent_version", "model", "iterations", "duration_ms", "queue_ms", "cached", "degraded", "stop_reason", "usage",
    "cost_usd",
}  # fmt: skip


def check_metadata(found: dict[str, Any], *, iterations: int = 1) -> None:
    assert set(found) - {"steps"} == METADATA
    assert re.fullmatch("[0-9a-f]{12}", found["agent_version"])
    assert (found["model"], found["iterations"], found["stop_reason"]) == ("model", iterations, "completed")
    assert (found["cached"], found["degraded"], found["cost_usd"]) == (False, False, None)
    assert found["usage"] == {
        "input_tokens": 10 * iterations,
        "cached_input_tokens": None,
        "cache_write_tokens": None,
        "output_tokens": 5 * iterations,
        "reasoning_tokens": None,
    }
    assert found["duration_ms"] > 0
    assert found["queue_ms"] >= 0


async def test_agents_are_listed_by_name(edge: Any) -> None:
    agents = (react(name="zoe", description="The last", model="lost"), react(name="adam", kind="chat", tools=()))
    async with edge(ScriptedProvider(), *agents) as e:
        listed = (await e.client.get("/agents")).json()
        assert [agent["name"] for agent in listed] == ["adam", "zoe"]
        assert listed[1] == {
            "name": "zoe",
            "description": "The last",
            "kind": "react",
            "status": "unavailable",
            "version": agents[0].version,
            "tools": ["echo", "slow", "slow_write", "risky"],
        }
        assert (listed[0]["status"], listed[0]["kind"], listed[0]["tools"]) == ("ready", "chat", [])
        assert (await e.client.get("/agents/zoe")).json() == listed[1]


async def test_an_agent_is_run_by_name(edge: Any) -> None:
    async with edge(ScriptedProvider(*TOOL_TURN), react(name="first"), react(name="second")) as e:
        response = await e.client.post(
            "/agents/second",
            json={
                "input": {"any": ["json", 1, None]},
                "session_id": "s.1:2_3-4",
                "tags": {"team": "blue"},
                "user_id": "u",
            },
        )
        answer = response.json()
        assert response.status_code == 200
        assert response.headers["content-type"] == "application/json"
        assert set(answer) == {"result", "run_id", "session_id", "duration_ms", "metadata"}
        assert (answer["result"], answer["session_id"]) == ("It is 1.", "s.1:2_3-4")
        check_metadata(answer["metadata"], iterations=2)
        assert "steps" not in answer["metadata"]
        assert e.provider.requests[0].messages[0].content == '{"any":["json",1,null]}'
        run = (await e.client.get(f"/v1/runs/{answer['run_id']}")).json()
        assert (run["agent"], run["tags"], run["user_id"]) == ("second", {"team": "blue"}, "u")


@pytest.mark.parametrize("value", [None, False, 0, 1.5, "", [], {}, [[{"a": "b"}]], "text"])
async def test_input_is_any_json(edge: Any, value: Any) -> None:
    async with edge(ScriptedProvider(says("ok"))) as e:
        answer = await e.client.post("/agents/helper", json={"input": value})
        assert answer.status_code == 200
        events = (
            await e.client.get(f"/v1/runs/{answer.json()['run_id']}/events", headers={"Accept": "application/json"})
        ).json()
        assert events["data"][0]["data"]["input"] == value


async def test_a_chat_turn_and_its_steps(edge: Any) -> None:
    async with edge(ScriptedProvider(*TOOL_TURN, says("again"))) as e:
        answer = await e.ask("What is it?", include_steps=True)
        assert set(answer) == {"response", "session_id", "run_id", "metadata"}
        assert answer["response"] == "It is 1."
        check_metadata(answer["metadata"], iterations=2)
        steps = answer["metadata"]["steps"]
        assert [(step["kind"], step["name"], step["status"]) for step in steps] == [
            ("model", "scripted/model", "ok"), ("tool", "echo", "ok"), ("model", "scripted/model", "ok"),
        ]  # fmt: skip
        assert (steps[1]["input"], steps[1]["output"]) == ({"a": 1}, {"a": 1})
        assert steps == (await e.client.get(f"/v1/runs/{answer['run_id']}/steps")).json()["data"]
        again = await e.ask("And now?", session_id=answer["session_id"])
        assert again["session_id"] == answer["session_id"]
        assert [m.content for m in e.provider.requests[2].messages] == [
            "What is it?",
            "Let me see.",
            '{"a":1}',
            "It is 1.",
            "And now?",
        ]


async def test_a_new_session_gets_a_new_id(edge: Any) -> None:
    async with edge(ScriptedProvider(says("a"), says("b"), says("c"))) as e:
        found = {
            (await e.ask())["session_id"],
            (await e.ask())["session_id"],
            (await e.ask(session_id=None))["session_id"],
        }
        assert len(found) == 3
        assert all(re.fullmatch("[A-Za-z0-9._:-]{1,128}", session_id) for session_id in found)


async def test_context_reaches_the_prompt(edge: Any) -> None:
    variables = {"city": Variable(), "mood": Variable(default="calm")}
    poet = react(name="poet", instructions="A {{mood}} poet of {{city}}.", variables=variables)
    async with edge(ScriptedProvider(says("ok"), says("ok")), poet) as e:
        await e.ask(context={"city": "Ulm", "river": "Danube"})
        await e.client.post("/agents/poet", json={"input": "x", "context": {"city": "{{mood}}", "mood": "wild"}})
        first, second = e.provider.requests
        assert first.system == "A calm poet of Ulm."
        assert first.messages[0].context == '{"river":"Danube"}'
        assert second.system == "A wild poet of {{mood}}."
        missing = (await e.client.post("/chat", json={"message": "x"})).json()
        assert (missing["status"], missing["code"], missing["errors"][0]["path"]) == (
            422,
            "validation_error",
            "context.city",
        )
        wrong = (await e.client.post("/chat", json={"message": "x", "context": {"city": 5}})).json()
        assert (wrong["status"], wrong["errors"][0]["message"]) == (422, "must be of type string")


async def test_a_question_and_its_defaults(edge: Any) -> None:
    async with edge(ScriptedProvider(says("forty-two"), says("more"))) as e:
        answer = (await e.client.post("/agent", json={"question": "six by seven?"})).json()
        assert set(answer) == {"answer", "iterations", "duration", "cached", "session_id", "run_id"}
        assert (answer["answer"], answer["iterations"], answer["cached"]) == ("forty-two", 1, False)
        assert 0 < answer["duration"] < 30
        more = (
            await e.client.post("/agent", json={"question": "and?", "session_id": answer["session_id"], "timeout": 5})
        ).json()
        assert more["session_id"] == answer["session_id"]
        assert len(e.provider.requests[1].messages) == 3


async def test_history_and_reset(edge: Any) -> None:
    gate = asyncio.Event()
    provider = ScriptedProvider(*TOOL_TURN, [gate, *says("never")], says("fresh"))
    async with edge(provider) as e:
        first = await e.ask("What is it?", session_id="s")
        messages = (await e.client.get("/history/s")).json()["messages"]
        assert [(m["role"], m["content"]) for m in messages] == [
            ("user", "What is it?"), ("assistant", "Let me see."), ("tool", '{"a":1}'), ("assistant", "It is 1."),
        ]  # fmt: skip
        assert messages[1]["tool_calls"] == [{"id": "c1", "name": "echo", "arguments": '{"a":1}'}]
        assert (messages[2]["call_id"], messages[2]["name"]) == ("c1", "echo")
        assert {m["run_id"] for m in messages} == {first["run_id"]}
        live = asyncio.create_task(e.client.post("/chat", json={"message": "go on", "session_id": "s"}))
        await until(lambda: len(provider.requests) == 3)
        reset = await e.client.post("/reset", json={"session_id": "s"})
        assert (reset.status_code, reset.content) == (204, b"")
        cancelled = await live
        assert (cancelled.status_code, cancelled.json()["code"]) == (409, "run_cancelled")
        assert (await e.client.get("/history/s")).json() == {"messages": []}
        assert (await e.client.get("/v1/sessions/s")).status_code == 200
        await e.ask("anew", session_id="s")
        assert [m.content for m in provider.requests[3].messages] == ["anew"]
        for unknown in (
            await e.client.post("/reset", json={"session_id": "unknown"}),
            await e.client.get("/history/unknown"),
            await e.client.get("/v1/sessions/unknown"),
            await e.client.get("/v1/sessions/unknown/messages"),
        ):
            assert (unknown.status_code, unknown.json()["code"]) == (404, "not_found")
            assert "unknown" in unknown.json()["detail"]


async def test_a_session_belongs_to_its_user(edge: Any) -> None:
    async with edge(ScriptedProvider(says("a"), says("b"))) as e:
        await e.ask(session_id="s", user_id="ann")
        refused = await e.client.post("/chat", json={"message": "x", "session_id": "s", "user_id": "bob"})
        assert (refused.status_code, refused.json()["code"]) == (404, "not_found")
        await e.ask(session_id="s", user_id="ann")
        assert (await e.client.get("/v1/sessions/s")).json()["user_id"] == "ann"
        assert len((await e.client.get("/v1/runs", params={"user_id": "ann"})).json()["data"]) == 2
        assert (await e.client.get("/v1/runs", params={"user_id": "bob"})).json() == {"data": [], "next_cursor": None}


async def test_a_structured_answer_is_json(edge: Any) -> None:
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    async with edge(ScriptedProvider(*[says('{"n": 4}')] * 3), react(output_schema=schema)) as e:
        assert (await e.ask())["response"] == {"n": 4}
        assert (await e.client.post("/agents/helper", json={"input": 1})).json()["result"] == {"n": 4}
        assert (await e.frames("POST", "/chat/stream", {"message": "x"}))[-1][2]["result"] == {"n": 4}


@pytest.mark.parametrize(
    ("path", "body"),
    [("/chat/stream", {"message": "hi"}), ("/agents/helper/stream", {"input": "hi"})],
)
async def test_a_turn_is_streamed_under_the_quick_names(edge: Any, path: str, body: dict[str, Any]) -> None:
    reasoned = [ReasoningDelta("thinking"), *TOOL_TURN[0]]
    async with edge(ScriptedProvider(reasoned, TOOL_TURN[1])) as e:
        response = await e.client.post(path, json=body | {"session_id": "s", "include_steps": True})
        assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
        assert response.headers["cache-control"] == "no-cache"
        assert response.headers["x-accel-buffering"] == "no"
        assert response.headers["x-request-id"]
        assert "content-length" not in response.headers
        events = frames(response.content)
        names = [name for _, name, _ in events]
        assert names[0] == "start"
        assert names[-1] == "done"
        assert set(names) == {"start", "chunk", "tool", "done"}
        run_id = events[0][2]["run_id"]
        assert events[0][2] == {"run_id": run_id, "session_id": "s", "agent": "helper"}
        tools = [data for _, name, data in events if name == "tool"]
        assert tools == [
            {"name": "echo", "call_id": "c1", "status": "started"},
            {"name": "echo", "call_id": "c1", "status": "ok", "result": {"a": 1}},
        ]
        chunks: dict[str, str] = {}
        for _, name, data in events:
            if name == "chunk":
                assert set(data) == {"text", "message_id"}
                chunks[data["message_id"]] = chunks.get(data["message_id"], "") + data["text"]
        assert list(chunks.values()) == ["Let me see.", "It is 1."]
        done = events[-1][2]
        assert set(done) == {"result", "status", "metadata"}
        assert (done["result"], done["status"]) == ("It is 1.", "succeeded")
        check_metadata(done["metadata"], iterations=2)
        assert len(done["metadata"]["steps"]) == 3
        ids = [tuple(map(int, event_id.split("."))) for event_id, _, _ in events if event_id is not None]
        assert len(ids) == len(events)
        assert ids == sorted(set(ids))
        replayed = await e.frames("GET", f"/v1/runs/{run_id}/events?view=quick")
        assert [name for _, name, _ in replayed] == ["start", "chunk", "tool", "tool", "chunk", "done"]


async def test_a_rejected_message_is_reset_in_the_stream(edge: Any) -> None:
    schema = {"type": "object", "required": ["n"]}
    async with edge(ScriptedProvider(says("no json"), says('{"n":1}')), react(output_schema=schema)) as e:
        events = await e.frames("POST", "/chat/stream", {"message": "x"})
        chunks = [data["message_id"] for _, name, data in events if name == "chunk"]
        resets = [data for _, name, data in events if name == "reset"]
        assert resets == [{"message_id": chunks[0]}]
        assert chunks[-1] != chunks[0]
        assert events[-1][2]["result"] == {"n": 1}
