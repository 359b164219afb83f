"""Runs that go round in circles, over HTTP and over the death of their process."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from app.agent import loops
from app.agent.decide import LOOPED
from app.agent.loops import PARALLEL
from app.domain.agents import Limits
from app.domain.models import ModelRequest
from app.domain.principals import ANONYMOUS
from app.runs.service import StartRun
from tests.agent.states import SCHEMA
from tests.runs.conftest import process, react
from tests.runs.test_durability import end_of
from tests.scripted import ScriptedProvider, says
from tests.waiting import until

MANY = Limits(iterations=50)


def again(number: int, *wishes: tuple[str, str]) -> Any:
    """A message with those calls; asked without tools, the model makes them nevertheless."""
    return says("", *((f"c{number}.{at}", name, arguments) for at, (name, arguments) in enumerate(wishes)))


def answering(number: int, *wishes: tuple[str, str], text: str = "what I know") -> Any:
    """The same, or an answer where there are no tools."""

    def answer(request: ModelRequest) -> Any:
        return says(text) if request.tool_choice == "none" else again(number, *wishes)

    return answer


@pytest.mark.parametrize(
    ("pattern", "kind"),
    [
        ([[("echo", '{"n":1}')]], "repeated"),
        ([[("echo", '{"n":1}')], [("echo", '{"n":2}'), ("echo", '{"n":3}')]], "cycle"),
        ([[("nobody", "{}")]], "refused"),
    ],
)
async def test_a_run_that_goes_round_in_circles_answers(edge: Any, pattern: Any, kind: str) -> None:
    provider = ScriptedProvider(*(answering(n, *pattern[n % len(pattern)]) for n in range(50)))
    async with edge(provider, react(limits=MANY)) as e:
        answer = await e.ask()
        assert (answer["response"], answer["metadata"]["stop_reason"]) == ("what I know", "loop_detected")
        assert answer["metadata"]["degraded"] is False
        assert len(provider.requests) == 4 * len(pattern) + 1
        assert [request.tool_choice for request in provider.requests[-2:]] == ["auto", "none"]
        assert ["make no progress" in m.content for m in provider.requests[-1].messages].count(True) == 1
        run = await e.run(answer["run_id"])
        assert (run["status"], run["stop_reason"], run["error"]) == ("succeeded", "loop_detected", None)
        path = f"/v1/runs/{answer['run_id']}"
        events = (await e.client.get(f"{path}/events", headers={"Accept": "application/json"})).json()["data"]
        told = [event["data"] for event in events if event["event"] == "loop.detected"]
        assert told == [{"kind": kind, "tools": [pattern[0][0][0]]}]
        tools = [step for step in (await e.client.get(f"{path}/steps")).json()["data"] if step["kind"] == "tool"]
        assert len(tools) == 4 * sum(map(len, pattern))
        history = (await e.client.get(f"/history/{answer['session_id']}")).json()["messages"]
        assert [message["role"] for message in history if "make no progress" in message["content"]] == []


async def test_a_model_that_never_answers_is_spoken_for(edge: Any) -> None:
    stubborn = ScriptedProvider(*(again(n, ("echo", "{}")) for n in range(50)))
    async with edge(stubborn, react(limits=MANY)) as e:
        answer = await e.ask()
        assert (answer["response"], answer["metadata"]["stop_reason"]) == (LOOPED, "loop_detected")
        assert answer["metadata"]["degraded"] is True
        assert len(stubborn.requests) == 5
        assert len(e.toolbox.calls) == 4


async def test_a_structured_answer_comes_out_of_a_loop(edge: Any) -> None:
    provider = ScriptedProvider(*(answering(n, ("echo", "{}"), text='{"n": 3}') for n in range(50)))
    async with edge(provider, react(limits=MANY, output_schema=SCHEMA)) as e:
        answer = await e.ask()
        assert (answer["response"], answer["metadata"]["stop_reason"]) == ({"n": 3}, "loop_detected")


async def test_a_message_with_too_many_calls(edge: Any) -> None:
    many = again(0, *(("echo", f'{{"n":{n}}}') for n in range(PARALLEL + 5)))
    async with edge(ScriptedProvider(many, says("done"))) as e:
        answer = await e.ask()
        assert answer["response"] == "done"
        assert len(e.toolbox.calls) == PARALLEL
        results = [message for message in e.provider.requests[1].messages if message.role == "tool"]
        assert [message.content == loops.TOO_MANY for message in results].count(True) == 5


async def test_denied_again_and_again(edge: Any) -> None:
    """Whatever it asks for, a person says no: the fourth no is the last."""
    provider = ScriptedProvider(*(answering(n, ("risky", f'{{"n":{n}}}')) for n in range(50)))
    async with edge(provider, react(limits=MANY)) as e:
        response = await e.client.post("/v1/runs", json={"agent": "helper", "input": "x"})
        run_id = response.json()["id"]
        for _ in range(4):
            await e.became(run_id, "waiting")
            (approval,) = (await e.client.get(f"/v1/approvals?status=pending&run_id={run_id}")).json()["data"]
            await e.client.post(f"/v1/approvals/{approval['id']}", json={"decision": "deny"})
        run = await e.became(run_id, "succeeded")
        assert (run["stop_reason"], run["output"]) == ("loop_detected", "what I know")
        assert e.toolbox.calls == []


async def test_the_same_after_the_process_died_in_the_last_call(database: str) -> None:
    stuck = ScriptedProvider(*(again(n, ("echo", "{}")) for n in range(4)), [asyncio.Event()])
    last = ScriptedProvider(says("what I know"))
    async with process(database, stuck, react(limits=MANY), lease=0.3) as p:
        started = await p.service.start(ANONYMOUS, StartRun(input="go", session_id="s"))
        await until(lambda: len(stuck.requests) == 5)
        await p.die()
        async with process(database, last, react(limits=MANY), owner="other") as q:
            await end_of(q, started.run_id)
            run = await q.service.run(ANONYMOUS, started.run_id)
            assert (run.stop_reason, run.output) == ("loop_detected", "what I know")
            assert last.requests[0].messages == stuck.requests[-1].messages
            assert last.requests[0].tool_choice == "none"
            assert (await q.names(started.run_id)).count("loop.detected") == 1
