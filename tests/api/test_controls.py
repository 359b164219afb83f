"""The kill switch over HTTP: what is off does not begin, does not go on, and is told so, in every process."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from app.domain.experiments import Experiment, Variant
from app.domain.principals import SCOPES, Principal
from app.storage.postgres.audit import PostgresAuditLog
from app.storage.postgres.controls import PostgresControls
from app.storage.postgres.pool import open_pool
from tests.api.edge import Edge
from tests.api.problems import check
from tests.api.sockets import talking
from tests.batches.world import tagger
from tests.runs.conftest import react
from tests.scripted import ScriptedProvider, says, tool_spec
from tests.waiting import until

ADMIN = Principal(tenant="acme", actor="key:admin", scopes=SCOPES)
OTHER = Principal(tenant="other", actor="key:other", scopes=SCOPES)
OPERATOR = Principal(tenant="default", scopes=SCOPES)
HELPER, SPARE = react(), react(name="spare")
SLOW = [says("", ("c1", "slow", "{}")), says("went on without it")]


async def off(e: Edge, kind: str, name: str, **body: Any) -> dict[str, Any]:
    response = await e.client.put(f"/v1/controls/{kind}/{name}", json=body)
    assert response.status_code == 200, response.text
    control: dict[str, Any] = response.json()
    return control


async def background(e: Edge, agent: str = "helper", **more: Any) -> str:
    response = await e.client.post("/v1/runs", json={"agent": agent, "input": "x", "background": True} | more)
    assert response.status_code == 202, response.text
    run_id: str = response.json()["id"]
    return run_id


async def test_a_switched_off_agent_is_refused_on_every_way_and_others_are_not(edge: Any) -> None:
    async with edge(ScriptedProvider(says("ok"), says("ok")), HELPER, SPARE, principal=ADMIN) as e:
        control = await off(e, "agent", "helper", reason="wrong answers")
        assert (control["kind"], control["name"], control["reach"]) == ("agent", "helper", "tenant")
        assert (control["reason"], control["by"]) == ("wrong answers", "key:admin")
        for path, body in (
            ("/chat", {"message": "x"}),
            ("/chat/stream", {"message": "x"}),
            ("/agents/helper", {"input": "x"}),
            ("/agent", {"question": "x"}),
            ("/chat/async", {"message": "x"}),
            ("/v1/runs", {"agent": "helper", "input": "x"}),
        ):
            problem = check(await e.client.post(path, json=body), 403, "disabled")
            assert problem["detail"] == "Agent helper is switched off: wrong answers"
        async with talking(e.app) as talk:
            await talk.say("run", message="x")
            await talk.refused("disabled")
        assert (await e.client.post("/agents/spare", json={"input": "x"})).status_code == 200
        assert (await e.client.get("/v1/controls")).json() == {"data": [control]}
        assert (await e.client.delete("/v1/controls/agent/helper")).status_code == 204
        await e.ask()
        check(await e.client.delete("/v1/controls/agent/helper"), 404, "not_found")
        assert (await e.client.get("/v1/controls")).json() == {"data": []}


async def test_what_runs_is_stopped_and_what_is_queued_ends(edge: Any) -> None:
    provider = ScriptedProvider([asyncio.Event()])
    async with edge(provider, HELPER, principal=ADMIN, concurrency=1) as e:
        running = await background(e)
        await until(lambda: len(provider.requests) == 1)
        queued = await background(e)
        delayed = await background(e, not_before="2099-01-01T00:00:00Z")
        await off(e, "agent", "helper", reason="wrong answers")
        for run_id in (running, queued):
            run = await e.became(run_id, "cancelled")
            assert run["stop_reason"] == "cancelled"
            assert run["error"]["detail"] == "Cancelled: Agent helper is switched off: wrong answers"
        assert provider.closed == 1
        assert len(provider.requests) == 1
        assert (await e.run(delayed))["status"] == "queued"


async def test_a_tenant_can_switch_itself_off_and_nobody_else(edge: Any) -> None:
    async with (
        edge(ScriptedProvider(says("ok")), principal=ADMIN) as ours,
        edge(ScriptedProvider(says("ok"), says("ok")), principal=OTHER) as theirs,
    ):
        await off(ours, "tenant", "acme")
        problem = check(await ours.client.post("/chat", json={"message": "x"}), 403, "disabled")
        assert problem["detail"] == "Tenant acme is switched off."
        check(await ours.client.put("/v1/controls/tenant/other", json={}), 404, "not_found")
        await off(ours, "agent", "helper")
        await theirs.runs.switches.look()
        await theirs.ask()
        assert (await theirs.client.get("/v1/controls")).json() == {"data": []}
        check(await theirs.client.delete("/v1/controls/tenant/acme"), 404, "not_found")
        assert len((await ours.client.get("/v1/runs")).json()["data"]) == 0, "what is there can be read still"


async def test_tools_of_variants_and_of_former_versions_can_be_switched_off(edge: Any) -> None:
    variant = Variant(name="v", percent=100.0, agent=react(tools=(tool_spec("refund"),)))
    experiment = Experiment(name="e", agent="helper", salt="s", variants=(variant,))
    provider = ScriptedProvider(says("", ("c1", "refund", "{}")), says("ok"))
    former = react(name="former", tools=(tool_spec("pay"),))
    async with edge(ScriptedProvider(), former):
        pass
    async with edge(provider, HELPER, principal=ADMIN, experiments=(experiment,)) as e:
        for kind, name in (("tool", "refund"), ("tool", "pay"), ("agent", "former")):
            await off(e, kind, name)
        await e.ask()
        assert e.toolbox.calls == []
        for kind, name in (("tool", "refunds"), ("agent", "formerly"), ("tool", "former"), ("agent", "pay")):
            check(await e.client.put(f"/v1/controls/{kind}/{name}", json={}), 404, "not_found")


async def test_what_is_off_for_everybody_a_tenant_sees_and_cannot_lift(edge: Any, database: str) -> None:
    async with edge(ScriptedProvider(says("ok")), principal=ADMIN) as e, open_pool(database) as db:
        controls = PostgresControls(database=db)
        await controls.disable(OPERATOR, "instance", "agent", "helper", "being looked at")
        await controls.disable(OPERATOR, "instance", "tenant", "other", None)
        await e.runs.switches.look()
        check(await e.client.post("/chat", json={"message": "x"}), 403, "disabled")
        check(await e.client.delete("/v1/controls/agent/helper"), 404, "not_found")
        seen = (await e.client.get("/v1/controls")).json()["data"]
        assert [(one["kind"], one["name"], one["reach"]) for one in seen] == [("agent", "helper", "instance")]
        await off(e, "agent", "helper")
        assert await controls.enable(OPERATOR, "instance", "agent", "helper")
        check(await e.client.post("/chat", json={"message": "x"}), 403, "disabled")
        await e.client.delete("/v1/controls/agent/helper")
        await e.ask()
        entries = await PostgresAuditLog(database=db).entries(ADMIN, None, None, None, 10)
        everybodys = [
            ("control.disabled", "agent:helper", "local", {"reach": "instance"}),
            ("control.enabled", "agent:helper", "local", {"reach": "instance"}),
        ]
        assert [(one.action, one.target, one.actor, one.detail) for one in reversed(entries)] == [
            everybodys[0],
            ("control.disabled", "agent:helper", "key:admin", {"reach": "tenant"}),
            everybodys[1],
            ("control.enabled", "agent:helper", "key:admin", {"reach": "tenant"}),
        ]
        entries = await PostgresAuditLog(database=db).entries(OTHER, None, None, None, 10)
        assert [(one.action, one.target, one.actor, one.detail) for one in reversed(entries)] == [
            everybodys[0],
            ("control.disabled", "tenant:other", "local", {"reach": "instance"}),
            everybodys[1],
        ]


@pytest.mark.parametrize(
    ("kind", "name"), [("agent", "helpr"), ("tool", "ehco"), ("tool", "helper"), ("agent", "%20"), ("agent", "%00")]
)
async def test_a_name_that_is_nobodys_is_refused(edge: Any, kind: str, name: str) -> None:
    async with edge(ScriptedProvider(), HELPER) as e:
        response = await e.client.put(f"/v1/controls/{kind}/{name}", json={})
        check(response, 404, "not_found")
        if name == "helpr":
            assert "Did you mean helper?" in response.text
        check(await e.client.put("/v1/controls/model/x", json={}), 422, "validation_error")
        check(await e.client.put("/v1/controls/agent/helper", json={"why": "x"}), 422, "validation_error")


async def test_a_tool_that_is_off_is_denied_to_the_model_also_where_it_was_approved(edge: Any) -> None:
    provider = ScriptedProvider(
        says("", ("c1", "risky", "{}")), says("did without"), says("", ("c2", "echo", "{}")), says("ok")
    )
    async with edge(provider, HELPER, principal=ADMIN) as e:
        run = (await e.client.post("/v1/runs", json={"agent": "helper", "input": "x"})).json()
        approval = (await e.client.get("/v1/approvals")).json()["data"][0]
        await off(e, "tool", "risky", reason="it is broken")
        assert (await e.client.post(f"/v1/approvals/{approval['id']}", json={"decision": "approve"})).status_code == 200
        assert (await e.became(run["id"], "succeeded"))["output"] == "did without"
        told = provider.requests[1].messages[-1]
        assert told.content.startswith("Tool risky is switched off: it is broken")
        events = (await e.client.get(f"/v1/runs/{run['id']}/events", headers={"Accept": "application/json"})).json()
        assert [d["data"]["status"] for d in events["data"] if d["event"] == "tool.finished"] == ["denied"]
        assert not e.toolbox.calls
        await e.ask()
        assert [call.name for call in e.toolbox.calls] == ["echo"]


@pytest.mark.parametrize(("tool", "status"), [("slow", "cancelled"), ("slow_write", "outcome_unknown")])
async def test_a_tool_that_is_running_is_stopped_and_its_run_goes_on(edge: Any, tool: str, status: str) -> None:
    provider = ScriptedProvider(says("", ("c1", tool, "{}")), says("went on without it"))
    async with edge(provider, react(auto_approve="critical"), principal=ADMIN) as e:
        run_id = await background(e)
        await e.toolbox.started.wait()
        await off(e, "tool", tool)
        assert (await e.became(run_id, "succeeded"))["output"] == "went on without it"
        events = (await e.client.get(f"/v1/runs/{run_id}/events", headers={"Accept": "application/json"})).json()
        assert [d["data"]["status"] for d in events["data"] if d["event"] == "tool.finished"] == [status]


async def test_a_run_that_waited_is_not_taken_up_again(edge: Any) -> None:
    provider = ScriptedProvider(says("", ("c1", "risky", "{}")))
    async with edge(provider, HELPER, principal=ADMIN) as e:
        run = (await e.client.post("/v1/runs", json={"agent": "helper", "input": "x"})).json()
        approval = (await e.client.get("/v1/approvals")).json()["data"][0]
        await off(e, "agent", "helper")
        await e.client.post(f"/v1/approvals/{approval['id']}", json={"decision": "approve"})
        await e.became(run["id"], "cancelled")
        assert not e.toolbox.calls
        check(await e.client.post(f"/v1/runs/{run['id']}/resume", json={}), 403, "disabled")


async def test_the_other_process_hears_of_it_and_looks_by_itself_too(edge: Any) -> None:
    for hinted in (True, False):
        provider = ScriptedProvider([asyncio.Event()])
        async with (
            edge(provider, HELPER, principal=ADMIN, hinted=hinted) as worker,
            edge(ScriptedProvider(), HELPER, principal=ADMIN, hinted=hinted, concurrency=0) as api,
        ):
            run_id = await background(worker)
            await until(lambda: len(provider.requests) == 1)  # noqa: B023
            await off(api, "agent", "helper")
            await worker.became(run_id, "cancelled")
            check(await worker.client.post("/chat", json={"message": "x"}), 403, "disabled")
            await api.client.delete("/v1/controls/agent/helper")


async def test_a_batch_of_an_agent_that_is_off_is_not_sent(edge: Any) -> None:
    async with edge(ScriptedProvider(), tagger(), principal=ADMIN) as e:
        await off(e, "agent", "tagger", reason="wrong tags")
        body = {"agent": "tagger", "items": [{"custom_id": "1", "input": "x"}]}
        check(await e.client.post("/v1/batches", json=body), 403, "disabled")
        await e.client.delete("/v1/controls/agent/tagger")
        assert (await e.client.post("/v1/batches", json=body)).status_code == 202
