"""Who may ask what: every route says what it needs, and nobody gets in with less."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from litestar import Litestar, get
from litestar.datastructures import State
from litestar.testing import AsyncTestClient

from app.access.format import checksum, new_key
from app.api.authentication import (
    ANY_KEY,
    DECLARED,
    FIRST_FRAME,
    METRICS,
    PUBLIC,
    Access,
    allowed,
    handlers_of,
    scopes_of,
)
from app.api.problems import HANDLERS
from app.domain.principals import ANONYMOUS, SCOPES, Scope
from app.main import HEALTH, NAMES, SERVICE, _litestar
from app.storage.postgres.pool import open_pool
from tests.api.edge import Always, Edge
from tests.api.keyed import EVERYTHING, OPERATOR, client_of, key_service, make_key, sent
from tests.api.problems import check
from tests.api.sockets import talking
from tests.api.test_openapi import DOCUMENT
from tests.scripted import ScriptedProvider, says
from tests.waiting import until

WHOLE = _litestar(SERVICE, dict.fromkeys(NAMES), State(), 1)
HEALTH_ROUTES = ("/health", "/healthz", "/readiness", "/metrics")


def operations() -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, item in DOCUMENT["paths"].items():
        for method, operation in item.items():
            yield method.upper(), path, operation


NOTHING = {
    parameter["name"]: "nothing"
    for _, _, operation in operations()
    for parameter in operation.get("parameters", ())
    if parameter["in"] == "path"
}


def test_every_route_says_what_it_needs() -> None:
    found = {str(handler): handler.opt.get("scope") for handler in handlers_of(WHOLE)}
    assert {name: said for name, said in found.items() if said not in DECLARED} == {}
    by_name = scopes_of(WHOLE)
    assert {name for name, said in by_name.items() if said == PUBLIC} >= {"health", "healthz", "readiness", "page"}
    assert by_name["metrics_page"] == METRICS
    assert by_name["runs_socket"] == FIRST_FRAME
    assert {name for name, said in by_name.items() if said == ANY_KEY} == {
        "list_agents",
        "get_agent",
        "list_models",
        "list_prompts",
    }
    assert all(handler.opt["scope"] in (PUBLIC, METRICS) for handler in HEALTH)


async def test_a_route_that_says_nothing_is_closed() -> None:
    """Even to an admin."""

    @get("/forgotten")
    async def forgotten() -> str:
        return "told"

    access = Access(authentication=Always(ANONYMOUS))
    app = Litestar(
        [forgotten], guards=[allowed], state=State({"access": access}), exception_handlers=HANDLERS, logging_config=None
    )
    async with AsyncTestClient(app) as client:
        response = await client.get("/forgotten")
        assert (response.status_code, response.json()["code"]) == (403, "forbidden")


async def test_without_any_key_everybody_is_the_default_tenant(edge: Any) -> None:
    async with edge(ScriptedProvider(*[says("ok")] * 2)) as e:
        await e.ask()
        answer = await e.client.post("/chat", json={"message": "x"}, headers={"Authorization": "Bearer anything"})
        assert answer.status_code == 200
        assert (await e.client.get("/agents", headers={"Authorization": "Basic dXNlcjpwdw=="})).status_code == 200
        assert len((await e.client.get("/v1/runs")).json()["data"]) == 2


async def test_nobody_is_let_in_without_a_key_where_that_is_not_said(edge: Any) -> None:
    async with edge(ScriptedProvider(), keyless="never") as e:
        check(await e.client.get("/v1/runs"), 401, "unauthenticated")
        assert (await e.client.get("/healthz")).status_code == 200


async def within_a_second(e: Edge, status: int, key: str | None = None) -> None:
    """Every request is answered so; a slow machine has some seconds for it."""
    async with client_of(e.app, key) as client:
        await within(client, status, "/v1/runs")


async def test_one_key_closes_every_process_and_a_revocation_too(edge: Any, database: str) -> None:
    async with edge(ScriptedProvider()) as one, edge(ScriptedProvider()) as two:
        assert (await one.client.get("/v1/runs")).status_code == (await two.client.get("/v1/runs")).status_code == 200
        made, key = await make_key(database)
        for e in (one, two):
            await within_a_second(e, 401)
            async with client_of(e.app, key) as client:
                assert (await client.get("/v1/runs")).status_code == 200
        async with key_service(database) as keys:
            await keys.revoke(OPERATOR, made.id)
        for e in (one, two):
            await within_a_second(e, 401, key)
            check(await e.client.get("/v1/runs"), 401, "unauthenticated")  # and it stays closed


async def test_every_route_needs_a_key_once_there_is_one(edge: Any, database: str) -> None:
    _, expired = await make_key(database, expires=timedelta(seconds=-1))
    revoked, gone = await make_key(database)
    async with key_service(database) as keys:
        await keys.revoke(OPERATOR, revoked.id)
    body = "sth_000000000000_" + "0" * 32
    refused = (
        None, expired, gone, new_key()[0], body + checksum(body), body + "000000", "garbage", "a.b.c", "x" * 9000, "\xff\xfe",
    )  # fmt: skip
    async with edge(ScriptedProvider()) as e:
        for key in refused:
            async with client_of(e.app) as client:
                headers = {} if key is None else {"Authorization": f"Bearer {key}".encode("latin-1")}
                for method, path, operation in operations():
                    response = await client.request(method, sent(operation, path, NOTHING), headers=headers)  # type: ignore[arg-type]  # bytes are taken
                    if operation.get("security") == [] or path == "/metrics":
                        assert response.status_code == 200, path
                    else:
                        check(response, 401, "unauthenticated")
                        assert response.headers["www-authenticate"].startswith("Bearer ")
                        assert key is None or key not in response.text
        for path in ("/docs", "/openapi.json", *HEALTH_ROUTES):
            assert (await e.client.get(path)).status_code == 200, path


@pytest.mark.parametrize("scope", sorted(SCOPES))
async def test_a_scope_opens_its_own_routes_and_no_other(edge: Any, database: str, scope: Scope) -> None:
    """The bodies are no JSON, so that nothing happens where somebody gets in."""
    _, key = await make_key(database, scopes=[scope])
    async with edge(ScriptedProvider()) as e, client_of(e.app, key) as client:
        for method, path, operation in operations():
            content = None if method == "GET" else b"{"
            response = await client.request(method, sent(operation, path, NOTHING), content=content)
            needed = operation.get("x-scope")
            if needed is None or needed == scope or scope == "admin":
                assert response.status_code not in (401, 403, 500), (operation["operationId"], response.text)
            else:
                told = check(response, 403, "forbidden")
                assert f"`{needed}`" in told["detail"]


async def test_how_a_key_is_sent(edge: Any, database: str) -> None:
    _, key = await make_key(database)
    _, other = await make_key(database)
    async with edge(ScriptedProvider()) as e:
        for good in (
            [("authorization", f"Bearer {key}")],
            [("Authorization", f"bearer  {key} ")],
            [("X-API-Key", key)],
            [("X-API-Key", key), ("Authorization", "Basic dXNlcjpwdw==")],
            [("X-API-Key", key), ("Authorization", f"Bearer {key}")],
        ):
            assert (await e.client.get("/agents", headers=good)).status_code == 200, good
        for bad in (
            [],
            [("Authorization", key)],
            [("Authorization", f"Basic {key}")],
            [("Authorization", "Bearer")],
            [("Authorization", f"Bearer {key} {key}")],
            [("Authorization", f"Bearer {key}"), ("Authorization", f"Bearer {other}")],
            [("X-API-Key", key), ("Authorization", f"Bearer {other}")],
            [("X-API-Key", key), ("X-API-Key", other)],
            [("X-API-Key", "")],
        ):
            check(await e.client.get("/agents", headers=bad), 401, "unauthenticated")
        check(await e.client.get(f"/agents?token={key}&api_key={key}&access_token={key}"), 401, "unauthenticated")


async def test_metrics_may_need_a_key(edge: Any, database: str) -> None:
    _, key = await make_key(database, scopes=["usage"])
    async with edge(ScriptedProvider(), open_metrics=False) as e:
        check(await e.client.get("/metrics"), 401, "unauthenticated")
        assert (await e.client.get("/metrics", headers={"X-API-Key": key})).status_code == 200


async def test_a_stream_ends_with_its_key(served: Any, database: str) -> None:
    made, key = await make_key(database)
    hold = asyncio.Event()
    async with served(ScriptedProvider([hold])) as (_, client):
        client.headers["X-API-Key"] = key
        async with client.stream("POST", "/chat/stream", json={"message": "x"}) as response:
            lines = response.aiter_lines()
            while not (await anext(lines)).startswith("event: start"):
                pass
            async with key_service(database) as keys:
                await keys.revoke(OPERATOR, made.id)
            async with asyncio.timeout(10):  # far less than the stream would go on
                async for _ in lines:
                    pass
        check(await client.get("/v1/runs"), 401, "unauthenticated")
        hold.set()


@pytest.mark.parametrize("path", ["/chat", "/v1/runs"])
async def test_an_answer_that_was_waited_for_is_not_given_to_a_revoked_key(edge: Any, database: str, path: str) -> None:
    made, key = await make_key(database)
    hold = asyncio.Event()
    provider = ScriptedProvider([hold, *says("secret")])
    async with edge(provider) as e, client_of(e.app, key) as client:
        body = {"message": "x"} if path == "/chat" else {"agent": "helper", "input": "x"}
        waiting = asyncio.create_task(client.post(path, json=body))
        await until(lambda: provider.requests)
        async with key_service(database) as keys:
            await keys.revoke(OPERATOR, made.id)
        await within_a_second(e, 401, key)
        hold.set()
        check(await waiting, 401, "unauthenticated")


async def test_a_socket_says_who_it_is_by_its_first_frame(edge: Any, database: str) -> None:
    made, key = await make_key(database, "a", "ann", ["runs"])
    _, other = await make_key(database, "b", scopes=["runs"])
    _, again = await make_key(database, "a", "ann", ["runs"])
    _, weak = await make_key(database, "a", "ann", ["usage"])
    async with edge(ScriptedProvider(says("ok"))) as e:
        async with talking(e.app) as talk:
            await talk.say("run", message="x")
            await talk.refused("unauthenticated")
            assert await talk.closed() == 1008
        for token in ("garbage", new_key()[0], ""):
            async with talking(e.app) as talk:
                await talk.say("auth", token=token)
                await talk.refused("unauthenticated")
                assert await talk.closed() == 1008
        async with talking(e.app) as talk:
            await talk.say("auth", token=weak)
            await talk.refused("forbidden")
            await talk.say("auth", token=key, ref="1")
            assert await talk.hear() == {"type": "ack", "ref": "1"}
            await talk.say("auth", token=other, ref="2")
            await talk.refused("forbidden")
            await talk.say("run", message="x", ref="3")
            frames = await talk.hear_all()
            assert frames[-1]["data"]["status"] == "succeeded"
            async with client_of(e.app, again) as client:
                assert (await client.get(f"/v1/runs/{frames[-1]['run_id']}")).json()["user_id"] == "ann"
            await talk.say("run", message="x", user_id="bob", ref="4")
            assert (await talk.refused("forbidden"))["ref"] == "4"
            async with key_service(database) as keys:
                await keys.revoke(OPERATOR, made.id)
            assert await talk.closed() == 1008
        async with talking(e.app, headers={"Authorization": f"Bearer {other}"}) as talk:
            await talk.say("subscribe", run_id=frames[-1]["run_id"])
            await talk.refused("not_found")


async def test_what_must_not_be_known_is_not_let_in_while_the_database_is_away(edge: Any, database: str) -> None:
    """A key that is known is good for less than a second then; nobody gets in without one."""
    _, key = await make_key(database, scopes=EVERYTHING)
    async with edge(ScriptedProvider()) as e, client_of(e.app, key) as client:
        assert (await client.get("/agents")).status_code == 200
        async with open_pool(database, pool_min=1, pool_max=1) as admin:
            await admin.execute("ALTER TABLE key_changes RENAME TO gone")  # what the process asks is not there
            await within(client, 503)
            check(await client.get("/agents"), 503, "not_ready")
            check(await e.client.get("/agents"), 503, "not_ready")
            assert (await e.client.get("/healthz")).status_code == 200
            await admin.execute("ALTER TABLE gone RENAME TO key_changes")
        assert (await client.get("/agents")).status_code == 200
        check(await e.client.get("/agents"), 401, "unauthenticated")


async def within(client: Any, status: int, path: str = "/agents") -> None:
    async with asyncio.timeout(5):
        while (await client.get(path)).status_code != status:  # noqa: ASYNC110 - nothing tells
            await asyncio.sleep(0.01)
