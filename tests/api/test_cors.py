"""Pages of other origins: only those that were written down, and no cookies for anybody."""

from __future__ import annotations

from typing import Any

import aiohttp
import pytest

from tests.api.edge import listening
from tests.api.problems import check
from tests.api.sockets import talking_to
from tests.scripted import ScriptedProvider, says

APP = "https://app.example.com"
ASK = {
    "Origin": APP,
    "Access-Control-Request-Method": "POST",
    "Access-Control-Request-Headers": "authorization,content-type",
}
OTHERS = ("https://app.example.com.evil.example", "https://app.example.com:8443", "http://app.example.com", "https://APP.example.com", "null", "", APP + "/")  # fmt: skip


def allowed(response: Any) -> list[str]:
    return [name for name in response.headers if name.startswith("access-control-")]


async def test_nobody_is_let_in_by_default(edge: Any) -> None:
    async with edge(ScriptedProvider(says("ok"))) as e:
        assert allowed(await e.client.options("/chat", headers=ASK)) == []
        response = await e.client.post("/chat", json={"message": "a"}, headers={"Origin": APP})
        assert response.status_code == 200
        assert allowed(response) == []
        assert "vary" not in response.headers


async def test_a_page_of_an_allowed_origin_may_call_and_read_every_answer(edge: Any) -> None:
    async with edge(ScriptedProvider(says("ok")), front={"cors_origins": [APP, "http://localhost:3000"]}) as e:
        preflight = await e.client.options("/chat", headers=ASK)
        assert preflight.status_code == 204
        assert preflight.headers["access-control-allow-origin"] == APP
        assert {"POST", "PUT", "DELETE"} <= set(preflight.headers["access-control-allow-methods"].split(", "))
        sent = {name.lower() for name in preflight.headers["access-control-allow-headers"].split(", ")}
        assert {"authorization", "content-type", "idempotency-key", "last-event-id", "x-api-key", "if-match"} <= sent
        assert preflight.headers["x-request-id"]
        good = await e.client.post("/chat", json={"message": "a"}, headers={"Origin": APP})
        bad = await e.client.post("/chat", json={}, headers={"Origin": APP})
        gone = await e.client.get("/nothing", headers={"Origin": APP})
        check(bad, 422, "validation_error")
        check(gone, 404, "not_found")
        for response in (preflight, good, bad, gone):
            assert response.headers.get_list("access-control-allow-origin") == [APP]
            assert response.headers["access-control-expose-headers"] == "*"
            assert response.headers["vary"] == "Origin"
            assert "access-control-allow-credentials" not in response.headers
        e.gate.closed = "closing"
        assert (await e.client.get("/v1/runs", headers={"Origin": APP})).headers["access-control-allow-origin"] == APP


async def test_other_origins_get_an_answer_that_their_browser_keeps_from_them(edge: Any) -> None:
    async with edge(ScriptedProvider(), front={"cors_origins": [APP]}) as e:
        for origin in OTHERS:
            for response in (
                await e.client.options("/chat", headers={**ASK, "Origin": origin}),
                await e.client.get("/agents", headers={"Origin": origin}),
            ):
                assert allowed(response) == [], origin
                assert response.headers["vary"] == "Origin"


async def test_everybody_may_be_let_in_but_without_cookies(edge: Any) -> None:
    async with edge(ScriptedProvider(), front={"cors_origins": ["*"]}) as e:
        preflight = await e.client.options("/chat", headers=ASK)
        assert preflight.headers["access-control-allow-origin"] == "*"
        assert "Authorization" in preflight.headers["access-control-allow-headers"]
        response = await e.client.get("/agents", headers={"Origin": "https://x.example", "Cookie": "a=b"})
        assert response.headers["access-control-allow-origin"] == "*"
        assert "access-control-allow-credentials" not in response.headers


async def test_preflights_are_counted_under_one_route(edge: Any) -> None:
    async with edge(ScriptedProvider(), front={"cors_origins": [APP]}) as e:
        for path in ("/chat", "/v1/runs", "/nothing"):
            assert (await e.client.options(path, headers=ASK)).status_code == 204
        counted = (await e.client.get("/metrics")).text
        assert 'http_requests_total{method="OPTIONS",route="preflight",status="204"} 3.0' in counted


@pytest.mark.parametrize(("origin", "welcome"), [(APP, True), ("https://other.example", False), ("http://[", False)])
async def test_sockets_honour_the_list(edge: Any, origin: str, welcome: bool) -> None:
    async with edge(ScriptedProvider(), front={"cors_origins": [APP]}) as e, listening(e.app) as port:
        if welcome:
            async with talking_to(port, origin=origin) as talk:
                await talk.say("ping")
                assert await talk.hear() == {"type": "pong"}
            return
        # The header by which a proxy names another host is nothing from a client that is none.
        headers = {"X-Forwarded-Host": "other.example"}
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            async with talking_to(port, origin=origin, headers=headers):
                pass
        assert refused.value.status == 403
