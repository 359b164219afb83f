"""The inbox of calls that need a person's word."""

from __future__ import annotations

import asyncio
from datetime import datetime
from typing import Any

import pytest

from app.domain.principals import Principal
from tests.api.problems import check
from tests.api.test_resources import pages
from tests.runs.conftest import react
from tests.scripted import ScriptedProvider, says

RISKY = says("", ("c1", "risky", '{"all":true}'))
APPROVAL = {
    "id", "run_id", "session_id", "agent", "user_id", "call_id", "tool", "arguments", "digest", "risk", "grounds", "status",
    "created_at", "expires_at", "resolved_at", "resolved_by", "resolved_actor", "comment", "edited", "changes",
}  # fmt: skip


async def waiting(e: Any, **more: Any) -> dict[str, Any]:
    """The pending approval of a run that waits for it."""
    response = await e.client.post("/v1/runs", json={"agent": "helper", "input": "x"} | more)
    assert response.json()["status"] == "waiting", response.text
    (approval,) = (await e.client.get("/v1/approvals", params={"run_id": response.json()["id"]})).json()["data"]
    pending: dict[str, Any] = approval
    return pending


async def test_a_call_is_approved(edge: Any) -> None:
    async with edge(ScriptedProvider(RISKY, says("done"))) as e:
        approval = await waiting(e, session_id="s", user_id="ann")
        assert set(approval) == APPROVAL
        assert (approval["tool"], approval["arguments"], approval["risk"]) == ("risky", {"all": True}, "high")
        assert (approval["status"], approval["session_id"], approval["user_id"]) == ("pending", "s", "ann")
        assert datetime.fromisoformat(approval["expires_at"]) > datetime.fromisoformat(approval["created_at"])
        path = f"/v1/approvals/{approval['id']}"
        assert (await e.client.get(path)).json() == approval
        assert e.toolbox.calls == []
        response = await e.client.post(path, json={"decision": "approve", "comment": "fine"})
        assert response.status_code == 200
        resolved = response.json()
        assert (resolved["status"], resolved["comment"], resolved["edited"]) == ("approved", "fine", None)
        assert resolved["resolved_at"] is not None
        run = await e.became(approval["run_id"], "succeeded")
        assert run["output"] == "done"
        assert [call.name for call in e.toolbox.calls] == ["risky"]
        assert (await e.client.post(path, json={"decision": "approve"})).json() == resolved
        check(await e.client.post(path, json={"decision": "deny"}), 409, "approval_resolved")
        assert (await e.client.get(path)).json() == resolved


async def test_a_call_is_denied_and_one_is_edited(edge: Any) -> None:
    async with edge(ScriptedProvider(RISKY, says("then not"), RISKY, says("less"))) as e:
        first = await waiting(e)
        check(
            await e.client.post(f"/v1/approvals/{first['id']}", json={"decision": "deny", "arguments": {}}),
            422,
            "validation_error",
        )
        denied = await e.client.post(f"/v1/approvals/{first['id']}", json={"decision": "deny", "comment": "no"})
        assert denied.json()["status"] == "denied"
        assert (await e.became(first["run_id"], "succeeded"))["output"] == "then not"
        assert e.toolbox.calls == []
        second = await waiting(e)
        edited = await e.client.post(
            f"/v1/approvals/{second['id']}", json={"decision": "approve", "arguments": {"all": False}}
        )
        assert (edited.json()["arguments"], edited.json()["edited"]) == ({"all": True}, {"all": False})
        await e.became(second["run_id"], "succeeded")
        assert [call.arguments for call in e.toolbox.calls] == ['{"all":false}']


async def test_the_stream_goes_on_over_the_wait(edge: Any) -> None:
    async with edge(ScriptedProvider(RISKY, says("done"))) as e:
        approval = await waiting(e)
        reading = asyncio.create_task(e.frames("GET", f"/v1/runs/{approval['run_id']}/events"))
        await e.client.post(f"/v1/approvals/{approval['id']}", json={"decision": "approve"})
        names = [name for _, name, _ in await reading]
        parts = ("approval.requested", "run.waiting", "approval.resolved", "tool.finished", "run.finished")
        assert [name for name in names if name in parts] == list(parts)


async def test_the_inbox_in_pages(edge: Any) -> None:
    async with edge(ScriptedProvider(*[RISKY] * 5, says("done"))) as e:
        made = [await waiting(e) for _ in range(5)]
        listed = await pages(e.client, "/v1/approvals")
        assert [approval["id"] for approval in listed] == [approval["id"] for approval in reversed(made)]
        await e.client.post(f"/v1/approvals/{made[1]['id']}", json={"decision": "deny"})
        await e.client.post(f"/v1/runs/{made[2]['run_id']}/cancel")
        for status, places in (("pending", [4, 3, 0]), ("denied", [1]), ("cancelled", [2]), ("approved", [])):
            found = await pages(e.client, "/v1/approvals", status=status)
            assert [approval["id"] for approval in found] == [made[place]["id"] for place in places], status
        check(
            await e.client.post(f"/v1/approvals/{made[2]['id']}", json={"decision": "approve"}),
            409,
            "approval_resolved",
        )
        for query, code in (
            ("status=open", "validation_error"), ("limit=0", "validation_error"), ("limit=x", "validation_error"),
            ("run_id=%00", "validation_error"), ("cursor=x", "invalid_cursor"),
        ):  # fmt: skip
            check(await e.client.get(f"/v1/approvals?{query}"), 400 if code == "invalid_cursor" else 422, code)
        assert (await e.client.get("/v1/approvals?run_id=nothing")).json()["data"] == []


@pytest.mark.parametrize(
    "body",
    [
        {}, {"decision": "maybe"}, {"decision": "approved"}, {"decision": None}, {"decision": "approve", "arguments": []},
        {"decision": "approve", "comment": 1}, {"decision": "approve", "comment": "\0"}, {"decision": "deny", "why": "x"},
        {"decision": "approve", "arguments": {"a": "\0"}}, {"decision": "deny", "comment": "x" * 2001}, [],
    ],
)  # fmt: skip
async def test_words_that_are_none(edge: Any, body: Any) -> None:
    async with edge(ScriptedProvider(RISKY)) as e:
        approval = await waiting(e)
        path = f"/v1/approvals/{approval['id']}"
        check(await e.client.post(path, json=body), 422, "validation_error")
        assert (await e.client.get(path)).json()["status"] == "pending"


async def test_approvals_that_are_not_there(edge: Any) -> None:
    ann, bob = Principal(tenant="default", user="ann"), Principal(tenant="default", user="bob")
    async with edge(ScriptedProvider(RISKY), principal=ann) as e:
        approval = await waiting(e)
        for other in (bob, Principal(tenant="other")):
            async with edge(ScriptedProvider(), react(), principal=other) as o:
                assert (await o.client.get("/v1/approvals")).json()["data"] == []
                for approval_id in (approval["id"], "nothing", "%00", "%ff"):
                    path = f"/v1/approvals/{approval_id}"
                    check(await o.client.get(path), 404, "not_found")
                    check(await o.client.post(path, json={"decision": "approve"}), 404, "not_found")
        assert (await e.client.get(f"/v1/approvals/{approval['id']}")).json()["status"] == "pending"
