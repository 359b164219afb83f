"""The service as users start it: runs that go round in circles against providers on the wire, a person's word, and what is kept of it."""

from __future__ import annotations

import asyncio
import json

import pytest

from app.agent.loops import NOTE
from tests.e2e import service as services
from tests.e2e.conftest import KEY, Serve
from tests.e2e.provider import StandIn
from tests.e2e.service import Service
from tests.e2e.wires import APIS, ApiName, says


@pytest.mark.long
async def test_a_model_that_repeats_itself_is_made_to_answer(serve: Serve, own_provider: StandIn) -> None:
    async with serve() as service:
        await asyncio.gather(*(_repeats(service, own_provider, api) for api in APIS))
        assert await service.metric("agent_loops_contained_total") == len(APIS)
        assert [line["event"] for line in service.logs].count("loop_contained") == len(APIS)


async def _repeats(service: Service, provider: StandIn, api: ApiName) -> None:
    question = f"{api}: what is 6 times 7, really?"
    again = [says(calls=[(f"c{n}", "calculator", '{"expression": "6 * 7"}')]) for n in range(4)]
    provider.script(question, *again, says("It is ", "42."))
    answer = await service.chat(question, agent=api, include_steps=True)
    assert (answer["response"], answer["metadata"]["stop_reason"]) == ("It is 42.", "loop_detected")
    asked = provider.asked(question)
    assert [NOTE in "".join(call.results.values()) for call in asked] == [False, False, False, True, True]
    assert asked[4].body["tool_choice"] in ("none", {"type": "none"})
    assert len([step for step in answer["metadata"]["steps"] if step["kind"] == "tool"]) == 4
    events = await service.events(answer["run_id"])
    assert [event["data"] for event in events if event["event"] == "loop.detected"] == [
        {"kind": "repeated", "tools": ["calculator"]}
    ]


@pytest.mark.long
async def test_a_word_and_what_is_kept_of_it(serve: Serve, own_provider: StandIn, database: str) -> None:
    own_provider.script("launch it", says(calls=[("one", "launch_rocket", "{}")]), says("It flies."))
    async with serve() as service:
        response = await service.post("/chat", {"message": "launch it", "agent": "chat"})
        assert response.status_code == 202
        (asked,) = response.json()["approvals"]
        assert (asked["arguments"], len(asked["digest"]), asked["grounds"]["results"]) == ({}, 64, [])
        decided = await service.post(f"/v1/approvals/{asked['id']}", {"decision": "approve", "comment": "go"})
        assert (decided.status_code, decided.json()["resolved_actor"]) == (200, "local")
        run_id = response.json()["run_id"]
        while (run := await service.json(f"/v1/runs/{run_id}"))["status"] != "succeeded":
            pass
        assert run["output"] == "It flies."
        page = await service.json("/v1/audit?action=approval.approved")
        (entry,) = page["data"]
        assert (entry["target"], entry["detail"]["digest"]) == (asked["id"], asked["digest"])
        assert await service.metric("agent_approvals_total", risk="high", decision="approved") == 1
        assert await service.metric("agent_approval_age_seconds_count", decision="approved") == 1
        words = ["audit", "--target", asked["id"], "--workspace", str(service.folder / "workspace")]
        environ = {"DATABASE_URL": database, "STAND_IN_KEY": KEY}
        code, out, _ = await services.run(service.folder, *words, "--json", environ=environ)
        assert (code, json.loads(out)["data"]) == (0, page["data"])
        code, out, _ = await services.run(service.folder, *words, environ=environ)
        assert code == 0
        assert f" local approval.approved {asked['id']} run_id={run_id} tool=launch_rocket risk=high " in out
