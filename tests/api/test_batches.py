"""Batches over HTTP: accepted whole or refused with the place that is wrong, once for each key, read in order."""

from __future__ import annotations

from typing import Any

import httpx2
import pytest

from app.api.batch_shapes import MAX_BODY
from app.domain.agents import Variable
from app.domain.principals import Principal
from app.domain.screening import Screening
from app.storage.postgres.pool import open_pool
from tests.api.edge import Edge
from tests.api.test_openapi import DOCUMENT, matches
from tests.batches.world import tagger
from tests.runs.conftest import react
from tests.scripted import ScriptedProvider
from tests.waiting import until


def items(*texts: Any) -> list[dict[str, Any]]:
    return [{"custom_id": f"item {n}", "input": text} for n, text in enumerate(texts)]


async def ended(e: Edge, batch_id: str) -> dict[str, Any]:
    found: dict[str, Any] = {}

    async def has() -> bool:
        nonlocal found
        found = (await e.client.get(f"/v1/batches/{batch_id}")).json()
        return found["finished_at"] is not None

    await until(has)
    return found


def described(name: str, response: httpx2.Response) -> None:
    """The answer is what the description says."""
    operation = next(o for item in DOCUMENT["paths"].values() for o in item.values() if o["operationId"] == name)
    matches(response.json(), operation["responses"][str(response.status_code)]["content"]["application/json"]["schema"])


async def test_a_batch_is_accepted_done_and_read_in_pages(edge: Any) -> None:
    async with edge(ScriptedProvider(), tagger()) as e:
        accepted = await e.client.post(
            "/v1/batches", json={"items": items("one", {"two": 2}, "three"), "tags": {"team": "x"}}
        )
        assert accepted.status_code == 202, accepted.text
        described("create_batch", accepted)
        batch_id = accepted.json()["id"]
        assert accepted.headers["location"] == f"/v1/batches/{batch_id}"
        done = await ended(e, batch_id)
        assert (done["status"], done["counts"]["succeeded"], done["cost_usd"]) == ("ended", 3, 0)
        assert (done["agent"], done["provider"], done["tags"]) == ("tagger", "offline", {"team": "x"})
        first = await e.client.get(f"/v1/batches/{batch_id}/results?limit=2")
        described("get_batch_results", first)
        second = await e.client.get(f"/v1/batches/{batch_id}/results?limit=2&cursor={first.json()['next_cursor']}")
        assert second.json()["next_cursor"] is None
        results = first.json()["data"] + second.json()["data"]
        assert [result["custom_id"] for result in results] == ["item 0", "item 1", "item 2"]
        assert [text in result["output"] for text, result in zip(("one", "two", "three"), results, strict=True)]
        listed = await e.client.get("/v1/batches")
        described("list_batches", listed)
        assert [batch["id"] for batch in listed.json()["data"]] == [batch_id]
        again = await e.client.post(f"/v1/batches/{batch_id}/cancel")
        assert (again.status_code, again.json()["status"]) == (200, "ended")
        described("cancel_batch", again)


async def test_the_same_key_is_the_same_batch(edge: Any) -> None:
    async with edge(ScriptedProvider(), tagger()) as e:
        body = {"items": items("one")}
        first = await e.client.post("/v1/batches", json=body, headers={"Idempotency-Key": "k"})
        again = await e.client.post("/v1/batches", json=body, headers={"Idempotency-Key": "k"})
        other = await e.client.post("/v1/batches", json={"items": items("two")}, headers={"Idempotency-Key": "k"})
        assert first.json()["id"] == again.json()["id"]
        assert again.headers["idempotency-replayed"] == "true"
        assert again.headers["location"] == first.headers["location"]
        assert (other.status_code, other.json()["code"]) == (422, "idempotency_key_reused")
        assert len((await e.client.get("/v1/batches")).json()["data"]) == 1


TWICE = [{"custom_id": "a", "input": 1}, {"custom_id": "a", "input": 2}]


@pytest.mark.parametrize(
    ("body", "status", "code", "path"),
    [
        ({"items": []}, 422, "validation_error", "items"),
        ({"items": items("x"), "agent": "nobody"}, 404, "not_found", None),
        ({"items": items("x"), "agent": "helper"}, 422, "validation_error", "agent"),
        ({"items": items("x"), "agent": "elsewhere"}, 422, "validation_error", "agent"),
        ({"items": TWICE}, 422, "validation_error", "items[1].custom_id"),
        ({"items": [{"input": 1}]}, 422, "validation_error", "items[0].custom_id"),
        ({"items": [{"custom_id": "", "input": 1}]}, 422, "validation_error", "items[0].custom_id"),
        ({"items": items("x"), "completion_window": 1}, 422, "validation_error", "completion_window"),
        ({"items": items("x"), "window": 1}, 422, "validation_error", "window"),
        ({"items": items("a\x00b")}, 422, "validation_error", ""),
        ({"items": items("x"), "agent": "greeter"}, 422, "validation_error", "items[0].context.name"),
    ],
)
async def test_what_cannot_be_a_batch_is_refused_with_its_place(
    edge: Any, body: Any, status: int, code: str, path: str | None
) -> None:
    greeter = tagger(name="greeter", instructions="Greet {{name}}.", variables={"name": Variable()})
    agents = (tagger(), react(), tagger(name="elsewhere", model="live-only"), greeter)
    async with edge(ScriptedProvider(), *agents) as e:
        response = await e.client.post("/v1/batches", json=body)
        assert (response.status_code, response.json()["code"]) == (status, code), response.text
        if path is not None:
            assert [error["path"] for error in response.json()["errors"]] == [path]
        assert (await e.client.get("/v1/batches")).json()["data"] == []


async def test_a_batch_may_be_larger_than_other_bodies_but_not_without_end(edge: Any) -> None:
    agent = tagger(safety=Screening(max_input=1_000_000))
    async with edge(ScriptedProvider(), agent, max_body=1000) as e:
        fits = await e.client.post("/v1/batches", json={"items": items("x" * 100_000)})
        assert fits.status_code == 202
        floods = await e.client.post("/v1/batches", json={"items": items("x" * MAX_BODY)})
        assert (floods.status_code, floods.json()["code"]) == (413, "body_too_large")


async def test_batches_without_end_are_refused(edge: Any, database: str) -> None:
    async with edge(ScriptedProvider(), tagger()) as e, open_pool(database) as db:
        await db.execute(
            "INSERT INTO batches (id, tenant, agent, agent_version, route, provider, model, tags, items, expires_at)"
            " SELECT 'b' || n, 'default', 'tagger', 'v', 'default', 'offline', 'm', '{}', 1, now() FROM generate_series(1, 100) AS n"
        )
        response = await e.client.post("/v1/batches", json={"items": items("x")})
        assert (response.status_code, response.json()["code"]) == (429, "queue_full")
        assert len((await e.client.get("/v1/batches?limit=200")).json()["data"]) == 100


@pytest.mark.parametrize("path", ["/v1/batches/b", "/v1/batches/b/results"])
async def test_a_batch_that_is_not_there_is_not_found(edge: Any, path: str) -> None:
    async with edge(ScriptedProvider(), tagger()) as e:
        assert (await e.client.get(path)).status_code == 404
        assert (await e.client.post("/v1/batches/b/cancel")).status_code == 404


async def test_the_batches_of_another_user_are_not_there(edge: Any) -> None:
    ann, bob = (Principal(tenant="default", user=user) for user in ("ann", "bob"))
    async with edge(ScriptedProvider(), tagger(), principal=ann) as e:
        batch_id = (await e.client.post("/v1/batches", json={"items": items("x")})).json()["id"]
        await ended(e, batch_id)
    async with edge(ScriptedProvider(), tagger(), principal=bob) as e:
        for path in ("", "/results"):
            assert (await e.client.get(f"/v1/batches/{batch_id}{path}")).status_code == 404
        assert (await e.client.post(f"/v1/batches/{batch_id}/cancel")).status_code == 404
        assert (await e.client.get("/v1/batches")).json()["data"] == []


async def test_a_cursor_of_nowhere_is_refused(edge: Any) -> None:
    async with edge(ScriptedProvider(), tagger()) as e:
        batch_id = (await e.client.post("/v1/batches", json={"items": items("x")})).json()["id"]
        for cursor in ("x", "-1", "99999999999"):
            response = await e.client.get(f"/v1/batches/{batch_id}/results?cursor={cursor}")
            assert (response.status_code, response.json()["code"]) == (400, "invalid_cursor")
