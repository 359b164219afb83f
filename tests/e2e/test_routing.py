"""Tiers, refused parameters, prompts, experiments and shadows from outside: over HTTP, with a model server that counts."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from app.domain.experiments import bucket
from tests.agent.test_complexity import HARD
from tests.e2e.provider import Call, StandIn, stand_in
from tests.e2e.service import Service, run, serve, workspace
from tests.e2e.wires import Reply, fails, says
from tests.waiting import until

TOML = """
[providers.m]
kind = "openai"
api = "chat"
base_url = "{url}/v1"
api_key_env = ""
[models.default]
chain = ["m/mid"]
[models.fast]
chain = ["m/small"]
[models.best]
chain = ["m/large"]
[models.auto]
tiers = {{ cheap = "fast", mid = "default", premium = "best" }}
[experiments.tone]
agent = "assistant"
variants = [{{ name = "terse", percent = 50, prompt = "assistant@v2" }}]
[experiments.quiet]
agent = "clerk"
shadow = {{ percent = 100, model = "best" }}
"""
PROMPT = """
latest: v1
versions:
  v1: {template: "Be friendly to {{who}}.", variables: {who: {default: all}}}
  v2: {template: "Be terse.", changelog: "Shorter answers.", temperature: 0.5, model: best}
"""
NOTE = '''
from pathlib import Path

from app.tools import tool


@tool(risk="low", effect="write")
async def note(text: str) -> str:
    """Write it down."""
    with Path("notes.txt").open("a") as file:
        file.write(text + "\\n")
    return "noted"
'''
EASY = "What is the capital of Australia?"
INSIDE = next(f"user-{n}" for n in range(100) if bucket("tone", f"user-{n}") < 5000)
OUTSIDE = next(f"user-{n}" for n in range(100) if bucket("tone", f"user-{n}") >= 5000)


def files(url: str) -> dict[str, str]:
    head = "description: d\nkind: react\n"
    return {
        "steadyhand.toml": TOML.format(url=url),
        "prompts/assistant.yaml": PROMPT,
        "agents/assistant.yaml": head + "prompt: assistant\n",
        "agents/sorted.yaml": head + "instructions: Answer.\nmodel: auto\ntemperature: 0.3\n",
        "agents/clerk.yaml": head + "instructions: Note it.\ntools: [note]\n",
        "tools/notes.py": NOTE,
    }


def replies(call: Call) -> Reply:
    """Says which model it is and how it was told to speak; the small one takes no temperature; a clerk notes once."""
    model = call.body["model"]
    if model == "small" and "temperature" in call.body:
        return fails(400, message="Unrecognized request argument supplied: temperature")
    if "tools" in call.body and not call.results:
        return says(calls=[("c1", "note", f'{{"text": "by {model}"}}')])
    return says(f"{model}: {call.system}")


@asynccontextmanager
async def opened(folder: Path, database: str, **environ: str) -> AsyncIterator[tuple[Service, StandIn]]:
    async with stand_in(replies=replies) as provider:
        workspace(folder, files(provider.url))
        async with serve(folder, environ={"DATABASE_URL": database, "LOG_FORMAT": "json"} | environ) as service:
            yield service, provider


async def usage_of(service: Service, run_id: str) -> dict[str, Any]:
    (used,) = [event["data"] for event in await service.events(run_id) if event["event"] == "usage.recorded"]
    return dict(used)


async def test_a_question_goes_to_the_models_of_its_tier(tmp_path: Path, database: str) -> None:
    """And a parameter that they refuse is paid for once, and shown."""
    async with opened(tmp_path, database) as (service, provider):
        for question, model, tier in ((EASY, "small", "cheap"), (HARD, "large", "premium"), (EASY, "small", "cheap")):
            answer = await service.chat(question, agent="sorted")
            assert answer["response"] == f"{model}: Answer."
            assert answer["metadata"]["tier"] == tier
            used = await usage_of(service, answer["run_id"])
            assert (used["tier"]["route"], used["tier"]["tier"], used["tier"]["by"]) == ("auto", tier, "score")
            assert used.get("dropped_parameters") == (["temperature"] if model == "small" else None)
        assert [call.body["model"] for call in provider.calls] == ["small", "small", "large", "small"]
        assert ["temperature" in call.body for call in provider.calls] == [True, False, True, False]
        routes = {route["route"]: route for route in (await service.json("/v1/models"))["data"]}
        assert routes["fast"]["targets"][0]["refused_parameters"] == ["temperature"]
        assert routes["best"]["targets"][0]["refused_parameters"] == []
        assert routes["auto"]["tiers"]["premium"] == "best"
        decisions = "agent_llm_tier_decisions_total"
        assert await service.metric(decisions, route="auto", tier="cheap", by="score") == 2
        assert await service.metric(decisions, route="auto", tier="premium", by="score") == 1
        agents = {agent["name"]: agent["status"] for agent in await service.json("/agents")}
        assert agents["sorted"] == "ready"
        plain = await service.chat(EASY, agent="clerk")
        assert "tier" not in plain["metadata"]
        assert [line["event"] for line in service.logs].count("parameter_refused") == 1


async def test_a_variant_is_told_wherever_the_run_is(tmp_path: Path, database: str) -> None:
    async with opened(tmp_path, database) as (service, _):
        for user, variant, said in (
            (INSIDE, "terse", "large: Be terse."),
            (OUTSIDE, "control", "mid: Be friendly to all."),
        ):
            answer = await service.chat("hello", user_id=user)
            assert answer["response"] == said
            exposure = {"tone": variant}
            assert answer["metadata"]["experiments"] == exposure
            found = await service.json(f"/v1/runs/{answer['run_id']}")
            assert (found["experiments"], found["agent"], found["shadow_of"]) == (exposure, "assistant", None)
            assert found["agent_version"] == answer["metadata"]["agent_version"]
            (created, *_) = await service.events(answer["run_id"])
            assert created["data"]["experiments"] == exposure
            body = {"message": "hello", "user_id": user}
            async with service.stream("POST", "/chat/stream", body) as stream:
                done = (await stream.until("done"))[-1][2]
            assert done["metadata"]["experiments"] == exposure
            keyed = [await service.post("/chat", body, **{"Idempotency-Key": f'"{user}"'}) for _ in range(2)]
            assert keyed[1].headers["Idempotency-Replayed"] == "true"
            assert [one.json()["metadata"]["experiments"] for one in keyed] == [exposure] * 2
        bad = await service.post("/chat", {"message": "hello", "user_id": OUTSIDE, "context": {"who": 7}})
        assert (bad.status_code, bad.json()["errors"][0]["path"]) == (422, "context.who")
        other = await service.chat("hello", agent="sorted")
        assert "experiments" not in other["metadata"]


async def test_a_shadow_writes_nothing_outside(tmp_path: Path, database: str) -> None:
    async with opened(tmp_path, database) as (service, provider):
        answer = await service.chat("note this", agent="clerk", session_id="s")
        assert answer["response"] == "mid: Note it."
        found: list[Any] = []

        async def over() -> bool:
            found[:] = (await service.json(f"/v1/runs?shadow_of={answer['run_id']}"))["data"]
            return bool(found) and found[0]["status"] == "succeeded"

        await until(over)
        assert (tmp_path / "notes.txt").read_text() == "by mid\n"
        assert found[0]["output"] == "large: Note it."
        assert (found[0]["shadow_of"], found[0]["experiments"]) == (answer["run_id"], {"quiet": "shadow"})
        assert [call.body["model"] for call in provider.calls] == ["mid", "mid", "large", "large"]
        assert [one["id"] for one in (await service.json("/v1/runs"))["data"]] == [answer["run_id"]]
        assert [one["id"] for one in (await service.json("/v1/sessions"))["data"]] == ["s"]
        assert len((await service.json("/history/s"))["messages"]) == 4
        assert await service.metric("agent_requests_total", agent="clerk") == 1
        assert await service.metric("agent_shadow_runs_total", experiment="quiet", outcome="started") == 1
        assert await service.metric("agent_shadow_runs_total", experiment="quiet", outcome="succeeded") == 1


async def test_prompts_with_their_versions(tmp_path: Path, database: str) -> None:
    async with opened(tmp_path, database, APP_ENV="production") as (service, _):
        assert (await service.json("/v1/prompts"))["data"] == [
            {
                "name": "assistant",
                "latest": "v1",
                "versions": [
                    {
                        "version": "v1",
                        "changelog": "",
                        "variables": {"who": {"type": "string", "description": "", "default": "all"}},
                        "model": None,
                        "temperature": None,
                    },
                    {
                        "version": "v2",
                        "changelog": "Shorter answers.",
                        "variables": {},
                        "model": "best",
                        "temperature": 0.5,
                    },
                ],
                "agents": {"assistant": "v1"},
            }
        ]


async def test_a_changed_prompt_is_taken_over_and_a_broken_one_is_not(tmp_path: Path, database: str) -> None:
    async with opened(tmp_path, database) as (service, _):
        file = tmp_path / "workspace/prompts/assistant.yaml"

        async def latest() -> str:
            (prompt,) = (await service.json("/v1/prompts"))["data"]
            return str(prompt["latest"])

        old = (await service.chat("hello", user_id=OUTSIDE))["metadata"]["agent_version"]
        file.write_text(PROMPT.replace("latest: v1", "latest: v2"))

        async def is_v2() -> bool:
            return await latest() == "v2"

        await until(is_v2)
        answer = await service.chat("hello", user_id=OUTSIDE)
        assert answer["response"] == "large: Be terse."
        assert answer["metadata"]["agent_version"] != old

        file.write_text(PROMPT.replace("{{who}}", "{{whom}}"))
        code, _, told = await run(tmp_path, "validate", environ={"DATABASE_URL": database})
        assert code == 1
        (line, *_) = told.splitlines()
        assert "is not declared" in line
        await until(lambda: any(logged["event"] == line for logged in service.logs))
        assert await latest() == "v2"
        assert (await service.chat("hello", user_id=OUTSIDE))["response"] == "large: Be terse."

        file.write_text(PROMPT.replace("Be friendly", "Be kind"))
        agent = tmp_path / "workspace/agents/assistant.yaml"
        agent.write_text(agent.read_text().replace("prompt: assistant", "prompt: assistant@v1"))

        async def kind() -> bool:
            return "kind" in (await service.chat("hello", user_id=OUTSIDE))["response"]

        await until(kind)


async def test_an_experiment_that_cannot_be_stops_the_start(tmp_path: Path) -> None:
    workspace(tmp_path, files("http://127.0.0.1:1"))
    toml = tmp_path / "workspace/steadyhand.toml"
    toml.write_text(toml.read_text().replace("assistant@v2", "assistant@v3"))
    code, _, told = await run(tmp_path, "serve", "--port", "0")
    assert code == 1
    assert re.search(
        r"steadyhand\.toml: experiments\.tone\.variants\.0\.prompt: prompt assistant has no version 'v3'", told
    )
