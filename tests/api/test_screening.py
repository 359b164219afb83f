"""What may be said over HTTP: how long, and to agents that refuse personal data."""

from __future__ import annotations

from typing import Any

import msgspec

from app.domain.agents import Agent, versioned
from app.domain.screening import Screening
from tests.api.problems import check
from tests.runs.conftest import react
from tests.scripted import ScriptedProvider, says

LONG = "ü" * 10_001


def chat(**more: Any) -> Agent:
    return react(tools=(), **more)


async def test_every_route_that_takes_an_input_bounds_it_and_says_where(edge: Any) -> None:
    async with edge(ScriptedProvider(*[says("ok")] * 9), chat(name="helper")) as e:
        for path, body, where in (
            ("/chat", {"message": LONG}, "message"),
            ("/chat/stream", {"message": LONG}, "message"),
            ("/chat/async", {"message": LONG}, "message"),
            ("/chat/async", {"items": [{"message": LONG}]}, "items[0].message"),
            ("/agent", {"question": LONG}, "question"),
            ("/agents/helper", {"input": LONG}, "input"),
            ("/agents/helper", {"input": {"a": LONG}}, "input"),
            ("/agents/helper/stream", {"input": LONG}, "input"),
            ("/v1/runs", {"agent": "helper", "input": LONG}, "input"),
            ("/chat", {"message": "hi", "context": {"a": LONG}}, "context"),
        ):
            problem = check(await e.client.post(path, json=body), 422, "validation_error")
            assert [error["path"] for error in problem["errors"]] == [where], path
            assert "10000" in problem["errors"][0]["message"]
            assert LONG[:50] not in str(problem)
        assert e.provider.requests == []
        fits = await e.client.post("/chat", json={"message": LONG[:-1]})
        assert fits.status_code == 200


async def test_steering_is_bounded(edge: Any) -> None:
    async with edge(ScriptedProvider(says("", ("c1", "slow", "{}")), says("ok"))) as e:
        run = (await e.client.post("/v1/runs", json={"agent": "helper", "input": "go", "background": True})).json()
        await e.toolbox.started.wait()
        problem = check(
            await e.client.post(f"/v1/runs/{run['id']}/messages", json={"content": LONG}), 422, "validation_error"
        )
        assert [error["path"] for error in problem["errors"]] == ["content"]
        e.toolbox.gate.set()
        await e.became(run["id"], "succeeded")


async def test_batches_are_bounded_and_refuse_agents_that_hide_data(edge: Any) -> None:
    plain, hiding = chat(name="helper"), chat(name="hiding", safety=Screening(pii="redact"))
    async with edge(ScriptedProvider(), plain, hiding) as e:
        items = [{"custom_id": "a", "input": "hi"}, {"custom_id": "b", "input": LONG}]
        problem = check(
            await e.client.post("/v1/batches", json={"agent": "helper", "items": items}), 422, "validation_error"
        )
        assert [error["path"] for error in problem["errors"]] == ["items[1].input"]
        problem = check(
            await e.client.post("/v1/batches", json={"agent": "hiding", "items": items[:1]}), 422, "validation_error"
        )
        assert [error["path"] for error in problem["errors"]] == ["agent"]
        assert "placeholders" in problem["detail"]


async def test_an_agent_that_blocks_names_kinds_and_never_the_text(edge: Any) -> None:
    agent = versioned(msgspec.structs.replace(chat(name="helper"), safety=Screening(pii="block")))
    async with edge(ScriptedProvider(says("ok")), agent) as e:
        body = {"message": "I am ann@example.org, card 4242 4242 4242 4242"}
        response = await e.client.post("/chat", json=body)
        problem = check(response, 422, "validation_error")
        assert problem["errors"] == [
            {"path": "message", "message": "must not contain personal data or secrets; found: CARD, EMAIL"}
        ]
        assert "ann@" not in response.text
        assert "4242" not in response.text
        assert (await e.client.post("/chat", json={"message": "I am Ann"})).status_code == 200


async def test_streams_spell_the_message_that_they_complete(edge: Any) -> None:
    """Held back, taken out and put back: the offsets still count what was shown."""
    key = "ghp_" + "aB3d" * 9
    text = f"Mail <EMAIL_1> the key {key}, or look at ![x](https://evil.example/?d=1)."
    agent = chat(name="helper", safety=Screening(pii="redact"))
    async with edge(ScriptedProvider(says(text, pieces=len(text))), agent) as e:
        run = (
            await e.client.post(
                "/v1/runs", json={"agent": "helper", "input": "I am ann@example.org", "background": True}
            )
        ).json()
        frames = await e.frames("GET", f"/v1/runs/{run['id']}/events")
        spelled = ""
        for _, name, data in frames:
            if name == "message.delta":
                assert data["offset"] == len(spelled)
                spelled += data["text"]
        (completed,) = [data["message"]["content"] for _, name, data in frames if name == "message.completed"]
        assert spelled == completed
        assert (
            completed
            == "Mail ann@example.org the key ghp_[secret removed], or look at ! [x](https://evil.example/?d=1)."
        )
        assert "EMAIL_1" not in str(frames)
        assert [data for _, name, data in frames if name == "context.redacted"] == [{"entities": {"EMAIL": 1}}]
