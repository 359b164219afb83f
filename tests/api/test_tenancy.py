"""What belongs to one tenant, or one user of it, is not there for another: every operation of the API's description is tried.

A new route is tried without being named here. One with a path parameter that is new, or that takes something that no rule
here covers, fails with what to write.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx2
import msgspec
import pytest

from app.api.examples import REQUESTS
from app.domain.principals import Scope
from tests.api.edge import Edge
from tests.api.keyed import ALL_BUT_ADMIN, EVERYTHING, client_of, clients_of, make_key, sent
from tests.api.problems import check
from tests.api.test_openapi import DOCUMENT
from tests.batches.world import tagger
from tests.runs.conftest import react
from tests.scripted import ScriptedProvider, says
from tests.waiting import until

SESSION = "the-session"
SHARED = {"list_agents", "get_agent", "list_models", "list_prompts"}
"""What a workspace has, every tenant sees."""
OWN = {"list_audit"}
"""Lists in which a stranger has something of its own: nothing of the owner's is there."""
BODIES: dict[str, Any] = {
    "chat": {"message": "x", "session_id": SESSION},
    "stream_chat": {"message": "x", "session_id": SESSION},
    "run_agent": {"input": "x", "session_id": SESSION},
    "stream_agent": {"input": "x", "session_id": SESSION},
    "question": {"question": "x", "session_id": SESSION},
    "chat_async": {"items": [{"message": "x", "session_id": SESSION}]},
    "create_run": {"agent": "helper", "input": "x", "session_id": SESSION},
}
"""What names a session that may not be there yet: for a stranger it begins one of its own."""
OTHERS: dict[str, tuple[Any, int]] = {
    "reset": ({"session_id": SESSION}, 404),
    "create_batch": ({"agent": "tagger", "items": [{"custom_id": "1", "input": "x"}]}, 202),
    "drop_answers": (None, 200),
    "disable_control": ({"reason": "x"}, 200),
    "enable_control": (None, 204),
}
"""What changes something, and names nothing in its path: what a stranger sends, and is answered."""


def operations() -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, item in DOCUMENT["paths"].items():
        for method, operation in item.items():
            if operation.get("security") is None and operation["operationId"] not in SHARED:
                yield method.upper(), path, operation


def has_ids(operation: dict[str, Any]) -> bool:
    return any(
        parameter["in"] == "path" and parameter["name"] not in ("name", "kind")
        for parameter in operation.get("parameters", ())
    )


NAMED = [found for found in operations() if has_ids(found[2])]
LISTS = [found for found in operations() if found[0] == "GET" and not has_ids(found[2])]
CHANGES = [found for found in operations() if found[0] != "GET" and not has_ids(found[2])]
CHANGES.sort(key=lambda found: found[2]["operationId"] in BODIES)  # what begins a session comes last


async def everything(client: httpx2.AsyncClient) -> dict[str, str]:
    """One of each thing, made by that client, by the names of path parameters."""
    waiting = await client.post(
        "/chat", json={"message": "x", "agent": "helper", "session_id": SESSION, "tags": {"secret": "of-the-owner"}}
    )
    assert waiting.status_code == 202, waiting.text
    resolved = await client.post("/chat", json={"message": "x", "agent": "helper", "session_id": "resolved"})
    assert resolved.status_code == 202, resolved.text
    decided = resolved.json()["approvals"][0]["id"]
    approved = await client.post(f"/v1/approvals/{decided}", json={"decision": "approve"})
    assert approved.status_code == 200, approved.text
    done = await client.post(
        "/chat/async",
        json={"message": "x", "agent": "helper", "session_id": "with-callback", "callback_url": "https://example.com/"},
    )
    assert done.status_code == 202, done.text
    batch = await client.post("/v1/batches", json={"agent": "tagger", "items": [{"custom_id": "1", "input": "x"}]})
    assert batch.status_code == 202, batch.text
    state = await client.put(f"/v1/sessions/{SESSION}/state", json={"state": {"secret": "of-the-owner"}})
    assert state.status_code == 200, state.text
    run_id = done.json()["task_id"]

    async def ended() -> bool:
        run = (await client.get(f"/v1/runs/{run_id}")).json()
        approved = (await client.get(f"/v1/runs/{resolved.json()['run_id']}")).json()
        found = (await client.get(f"/v1/batches/{batch.json()['id']}")).json()
        return run["status"] == approved["status"] == "succeeded" and found["finished_at"] is not None

    await until(ended)
    return {
        "run_id": run_id,
        "session_id": SESSION,
        "approval_id": waiting.json()["approvals"][0]["id"],
        "decided_id": decided,
        "batch_id": batch.json()["id"],
        "name": "helper",
    }


async def seen(client: httpx2.AsyncClient, ids: dict[str, str]) -> dict[str, Any]:
    """All that the owner reads of it."""
    found = {}
    for method, path, operation in operations():
        if method == "GET" and operation.get("x-scope") != "admin":
            response = await client.get(sent(operation, path, ids), headers={"Accept": "application/json"})
            assert response.status_code == 200, (path, response.text)
            assert "of-the-owner" in response.text or not path.endswith("state"), path
            found[operation["operationId"]] = response.json()
    return found


def opened(edge: Any) -> Any:
    asks = says("", ("c", "risky", "{}"))
    return edge(ScriptedProvider(asks, asks, *[says("ok")] * 40), react(), tagger())


@pytest.mark.parametrize(
    ("owner", "stranger"), [(("a", None), ("b", None)), (("a", "ann"), ("a", "bob"))], ids=["tenants", "users"]
)
async def test_nothing_of_another_is_there(edge: Any, database: str, owner: Any, stranger: Any) -> None:
    """Every operation with an id, every list and every change, in one process over one owner's things."""
    scopes = EVERYTHING if stranger[1] is None else ALL_BUT_ADMIN
    _, ours = await make_key(database, owner[0], owner[1], scopes)
    _, theirs = await make_key(database, stranger[0], stranger[1], scopes)
    _, sees_all = await make_key(database, owner[0], "carl", ("admin",))
    async with opened(edge) as e, clients_of(e.app, ours, theirs, sees_all) as (mine, other, admin):
        ids = await everything(mine)
        assert await seen(admin, ids), "an admin of the tenant sees what is its users'"
        for query in ({}, {"target": ids["decided_id"]}):
            told = await admin.get("/v1/audit", params=query)
            assert ids["decided_id"] in told.text, "what strangers must not see is there"
        before = await seen(mine, ids)
        for method, path, operation in NAMED:
            body = REQUESTS.get(operation["operationId"])
            response = await other.request(method, sent(operation, path, ids), json=body)
            check(response, 404, "not_found")
            assert "of-the-owner" not in response.text
        for method, path, operation in LISTS:
            await sees_nothing(other, method, path, operation, ids)
        for method, path, operation in CHANGES:
            await changes_nothing(other, method, path, operation, same_tenant=owner[0] == stranger[0])
        assert await seen(mine, ids) == before
        if owner[0] != stranger[0]:
            own = (await other.get(f"/history/{SESSION}")).json()["messages"]
            assert len(own) >= 2, "the stranger has a session of that name, which is its own"
            assert "of-the-owner" not in msgspec.json.encode(own).decode()


async def sees_nothing(
    client: httpx2.AsyncClient, method: str, path: str, operation: dict[str, Any], ids: dict[str, str]
) -> None:
    """A list is empty, whatever of the owner's it is asked for."""
    filters: list[dict[str, str]] = [{}] + [
        {parameter["name"]: ids[parameter["name"]]}
        for parameter in operation.get("parameters", ())
        if parameter["in"] == "query" and parameter["name"] in ids
    ]
    filters += [
        {"target": ids["decided_id"]}
        for parameter in operation.get("parameters", ())
        if (parameter["in"], parameter["name"]) == ("query", "target")
    ]
    for query in filters:
        response = await client.request(method, path, params=query)
        if operation["x-scope"] == "admin" and response.status_code == 403:
            continue
        assert response.status_code == 200, (path, response.text)
        if operation["operationId"] in OWN:
            assert not any(value in response.text for key, value in ids.items() if key.endswith("_id")), (
                path,
                response.text,
            )
            continue
        told = response.json()
        assert isinstance(told, dict), (
            f"{operation['operationId']} is no page: say in tests/api/test_tenancy.py what a stranger sees"
        )
        assert told.get("data") == [], (path, query, told)
        assert told.get("total", {}).get("requests", 0) == 0


async def changes_nothing(
    client: httpx2.AsyncClient, method: str, path: str, operation: dict[str, Any], *, same_tenant: bool
) -> None:
    """What names another's session begins one of its own, or finds none where users share their tenant's names."""
    name = operation["operationId"]
    assert name in BODIES or name in OTHERS, (
        f"{name} changes something and names nothing in its path: say in tests/api/test_tenancy.py what a stranger sends and sees"
    )
    path = path.replace("{kind}/{name}", "tool/echo").replace("{name}", "helper")
    if name in OTHERS:
        body, status = OTHERS[name]
        if same_tenant and operation["x-scope"] == "admin":
            status = 403
        response = await client.request(method, path, json=body)
    else:
        status = 404 if same_tenant else 201 if name == "create_run" else 202 if name == "chat_async" else 200
        response = await client.request(method, path, json=BODIES[name])
    assert response.status_code == status, (name, response.text)
    assert "of-the-owner" not in response.text


async def test_a_key_of_another_tenant_gets_its_own_answer(edge: Any, database: str) -> None:
    """The same idempotency key, in the same words: nothing of the first answer is given to the second tenant."""
    keys = [(await make_key(database, *whose))[1] for whose in (("a", None), ("b", None), ("a", "ann"))]
    async with edge(ScriptedProvider(*[says("ok")] * 3)) as e, clients_of(e.app, *keys) as clients:
        answers = [
            await client.post("/chat", json={"message": "x"}, headers={"Idempotency-Key": "one"}) for client in clients
        ]
        assert [answer.status_code for answer in answers] == [200] * 3
        assert len({answer.json()["run_id"] for answer in answers}) == 3
        assert not any("idempotency-replayed" in answer.headers for answer in answers)
        again = await clients[1].post("/chat", json={"message": "x"}, headers={"Idempotency-Key": "one"})
        assert again.headers["idempotency-replayed"] == "true"
        assert again.json()["run_id"] == answers[1].json()["run_id"]


async def test_an_agent_of_the_workspace_is_there_for_every_tenant(edge: Any, database: str) -> None:
    """Also in a process that began with another version of it, and has to look up what the run began with."""
    _, key = await make_key(database, "a")
    first = ScriptedProvider(says("", ("c", "risky", "{}")))
    async with edge(first, react()) as e, client_of(e.app, key) as client:
        waiting = await client.post("/chat", json={"message": "x", "session_id": "s"})
        assert waiting.status_code == 202, waiting.text
    changed = react(instructions="You are another one.")
    async with edge(ScriptedProvider(says("done")), changed) as e, client_of(e.app, key) as client:
        approval = waiting.json()["approvals"][0]["id"]
        decided = await client.post(f"/v1/approvals/{approval}", json={"decision": "approve"})
        assert decided.status_code == 200, decided.text
        await ended(e, client, waiting.json()["run_id"])


async def ended(e: Edge, client: httpx2.AsyncClient, run_id: str) -> None:
    async def has() -> bool:
        run = (await client.get(f"/v1/runs/{run_id}")).json()
        return bool(run["status"] == "succeeded")

    await until(has)


async def test_naming_a_user_needs_the_scope_for_it(edge: Any, database: str) -> None:
    whose: list[tuple[str | None, tuple[Scope, ...]]] = [
        (None, ("runs",)), ("ann", ("runs",)), ("ann", ("runs", "act_as")), (None, ("runs", "act_as")), ("ann", ("admin",)),
    ]  # fmt: skip
    everybody = [(await make_key(database, "a", user, scopes))[1] for user, scopes in whose]
    asked: list[tuple[str, Any]] = [
        ("/chat", {"message": "x"}),
        ("/agents/helper", {"input": "x"}),
        ("/v1/runs", {"agent": "helper", "input": "x"}),
        ("/chat/async", {"message": "x"}),
        ("/v1/batches", {"agent": "tagger", "items": [{"custom_id": "1", "input": "x"}]}),
    ]
    provider = ScriptedProvider(*[says("ok")] * 40)
    async with edge(provider, react(), tagger()) as e, clients_of(e.app, *everybody) as clients:
        for path, body in asked:
            statuses = []
            for client in clients:
                response = await client.post(path, json=body | {"user_id": "bob"}, headers={"Idempotency-Key": path})
                statuses.append(response.status_code)
                if response.status_code == 403:
                    told = check(response, 403, "forbidden")
                    assert told["errors"] == [{"path": "user_id", "message": "needs the scope `act_as`"}]
            assert [status // 100 for status in statuses] == [4, 4, 2, 2, 2], (path, statuses)
            assert statuses[:2] == [403, 403]
            own = await clients[1].post(path, json=body | {"user_id": "ann"})
            assert own.status_code // 100 == 2, own.text
        fork = await clients[1].post("/v1/sessions/x/fork", json={"user_id": "bob"})
        check(fork, 403, "forbidden")
        bobs = (await clients[3].get("/v1/runs", params={"user_id": "bob"})).json()["data"]
        assert len(bobs) == 12
        mine = (await clients[1].get("/v1/runs")).json()["data"]
        assert {run["user_id"] for run in mine} == {"ann"}


async def test_a_run_that_is_begun_for_another_user_is_answered(edge: Any, database: str) -> None:
    """The answer that is read back from the database too."""
    _, key = await make_key(database, "a", "ann", ("runs", "act_as"))
    async with edge(ScriptedProvider(*[says("ok")] * 2)) as e, client_of(e.app, key) as client:
        run = await client.post("/v1/runs", json={"agent": "helper", "input": "x", "user_id": "bob"})
        assert (run.status_code, run.json()["user_id"]) == (201, "bob")
        turn = await client.post("/chat", json={"message": "x", "user_id": "bob", "include_steps": True})
        assert len(turn.json()["metadata"]["steps"]) == 1
        check(await client.get(f"/v1/runs/{run.json()['id']}"), 404, "not_found")
