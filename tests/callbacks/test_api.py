from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import httpx2
import msgspec
import pytest
from litestar import Litestar, Request, Response, post
from litestar.datastructures import State
from litestar.di import NamedDependency, Provide
from litestar.params import JSONBody

from app.api.aside import Aside
from app.api.callbacks import HANDLERS
from app.api.decoding import StrictRequest
from app.api.idempotency import Idempotent, key_of
from app.api.problems import HANDLERS as PROBLEMS
from app.callbacks.service import CallbackService
from app.domain.principals import Principal
from app.storage.postgres.keys import PostgresKeyStore
from tests.callbacks.conftest import ANN, World, anywhere
from tests.callbacks.receiver import Receiver


class Body(msgspec.Struct):
    """Any body."""

    a: Any = None
    b: Any = None


@post("/echo", status_code=200)
async def echo(
    data: JSONBody[Body],
    request: Request[Any, Any, Any],
    idempotent: NamedDependency[Idempotent],
    principal: NamedDependency[Principal],
) -> Response[bytes]:
    async def action() -> Body:
        return data

    return await idempotent.answer(principal, await key_of(request), action)


@post("/nothing", status_code=204)
async def nothing(
    request: Request[Any, Any, Any],
    idempotent: NamedDependency[Idempotent],
    principal: NamedDependency[Principal],
) -> Response[None]:
    async def action() -> None:
        pass

    return await idempotent.answer(principal, await key_of(request), action, status=204)


def always(value: Any) -> Provide:
    return Provide(lambda: value, sync_to_thread=False)


@pytest.fixture
async def client(world: World) -> AsyncIterator[httpx2.AsyncClient]:
    async def numbers(host: str, port: int) -> list[str]:
        return [host]

    dependencies = {
        "callbacks": CallbackService(store=world.store, resolver=numbers, allow=anywhere, wake=lambda: None),
        "idempotent": Idempotent(store=PostgresKeyStore(database=world.db)),
        "principal": ANN,
    }
    app = Litestar(
        route_handlers=[*HANDLERS, echo, nothing],
        dependencies={name: always(value) for name, value in dependencies.items()},
        exception_handlers=PROBLEMS,
        request_class=StrictRequest,
        request_max_body_size=10_000,
        state=State({"aside": Aside()}),
        signature_types=[Principal],
        openapi_config=None,
        logging_config=None,
    )
    transport = httpx2.ASGITransport(app=app)  # type: ignore[arg-type]  # litestar's scope is a TypedDict
    async with httpx2.AsyncClient(transport=transport, base_url="http://test") as opened:
        yield opened


async def test_a_runs_callback(client: httpx2.AsyncClient, world: World, receiver: Receiver) -> None:
    await world.run(receiver.url)
    response = await client.get("/v1/runs/run_1/callbacks")
    assert response.status_code == 200
    said = response.json()
    assert (said["url"], said["status"], said["data"]) == (receiver.url, "due", [])
    assert said["next_at"].endswith("Z")
    response = await client.get("/v1/runs/run_2/callbacks")
    assert (response.status_code, response.json()["code"]) == (404, "not_found")


async def test_sending_it_again(client: httpx2.AsyncClient, world: World, receiver: Receiver) -> None:
    await world.run(receiver.url, status="delivered")
    await world.run(receiver.url, "run_2", status="waiting")
    first = await client.post("/v1/runs/run_1/callbacks", headers={"Idempotency-Key": "k"})
    assert (first.status_code, first.json()["status"]) == (202, "due")
    assert await world.store.claim(60, []) is not None
    again = await client.post("/v1/runs/run_1/callbacks", headers={"Idempotency-Key": "k"})
    assert (again.status_code, again.content) == (202, first.content)
    assert (first.headers.get("idempotency-replayed"), again.headers["idempotency-replayed"]) == (None, "true")
    assert await world.store.claim(60, []) is None
    third = await client.post("/v1/runs/run_1/callbacks")
    assert third.status_code == 202
    assert await world.store.claim(60, []) is not None
    for run_id, status, code in (("run_2", 409, "state_conflict"), ("run_3", 404, "not_found")):
        refused = await client.post(f"/v1/runs/{run_id}/callbacks", headers={"Idempotency-Key": "k"})
        assert (refused.status_code, refused.json()["code"]) == (status, code)


async def test_one_body_however_it_is_written(client: httpx2.AsyncClient) -> None:
    async def send(body: bytes, key: str = "k") -> tuple[int, str | None, bytes]:
        response = await client.post(
            "/echo", content=body, headers={"Idempotency-Key": key, "Content-Type": "application/json"}
        )
        return response.status_code, response.headers.get("idempotency-replayed"), response.content

    assert await send(b'{"a": {"x": 1, "y": "\xc3\xa9"}, "b": [1, 2]}') == (
        200,
        None,
        '{"a":{"x":1,"y":"é"},"b":[1,2]}'.encode(),
    )
    assert (await send(b'{"b":[1,2],"a":{"y":"\\u00e9","x":1}}'))[:2] == (200, "true")
    for other in (b'{"a": {"x": 1, "y": "e"}, "b": [1, 2]}', b'{"a": {"x": 1, "y": "\xc3\xa9"}, "b": [2, 1]}', b"{}"):
        status, _, content = await send(other)
        assert (status, msgspec.json.decode(content)["code"]) == (422, "idempotency_key_reused")
    assert (await send(b"{", "broken"))[0] == 400
    assert (await send(b"{}", "broken"))[:2] == (200, None)


async def test_a_route_without_a_body(client: httpx2.AsyncClient) -> None:
    for replayed in (None, "true"):
        response = await client.post("/nothing", headers={"Idempotency-Key": "k"})
        assert (response.status_code, response.content) == (204, b"")
        assert "content-type" not in response.headers
        assert response.headers.get("idempotency-replayed") == replayed


@pytest.mark.parametrize("key", ["", " ", "with space", "x" * 256, "ümlaut", "tab\tbed"])
async def test_keys_that_are_none(client: httpx2.AsyncClient, key: str) -> None:
    response = await client.post("/nothing", headers=[(b"Idempotency-Key", key.encode())])
    assert (response.status_code, response.json()["code"]) == (422, "validation_error")
    assert response.json()["errors"][0]["path"] == "Idempotency-Key"


async def test_two_keys_are_none(client: httpx2.AsyncClient) -> None:
    response = await client.post("/nothing", headers=[("Idempotency-Key", "a"), ("Idempotency-Key", "b")])
    assert response.status_code == 422


async def test_the_longest_key(client: httpx2.AsyncClient) -> None:
    response = await client.post("/nothing", headers={"Idempotency-Key": "~" * 255})
    assert response.status_code == 204
    path = "/v1/runs/" + "x" * 5_000 + "/callbacks"
    assert (await client.post(path, headers={"Idempotency-Key": "k"})).status_code == 404
