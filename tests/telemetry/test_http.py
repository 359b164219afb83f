"""The outermost layer around a real Litestar application, and around ASGI applications that misbehave."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from typing import Any, cast

import pytest
from litestar import Litestar, WebSocket, get, post, websocket
from litestar.exceptions import HTTPException
from litestar.params import FromPath
from litestar.response import Stream

from app.telemetry.http import SCOPE_REQUEST_ID, AsgiApp, HttpTelemetry, Receive, Scope, Send
from app.telemetry.logs import JsonFormatter
from app.telemetry.setup import Tracing, open_tracing
from tests.telemetry.fakes import CANARY, new_metrics
from tests.telemetry.receiver import Receiver, otlp_receiver


class Client:
    """Calls an ASGI application as a server does, wrapped in telemetry."""

    def __init__(self, app: AsgiApp, tracing: Tracing | None = None) -> None:
        self.metrics, self.registry = new_metrics()
        self._app = HttpTelemetry(app=app, tracing=tracing or open_tracing({}, "0"), metrics=self.metrics)
        self.gone: asyncio.Event | None = None
        self.sent: list[Any] = []

    async def call(self, method: str, path: str, kind: str = "http", **headers: str) -> list[Any]:
        self.sent, over = [], self.gone or asyncio.Event()
        incoming = [{"type": "websocket.connect"}] if kind == "websocket" else [{"type": "http.request", "body": b""}]

        async def receive() -> Any:
            if incoming:
                return incoming.pop()
            await over.wait()
            return {"type": "websocket.disconnect" if kind == "websocket" else "http.disconnect"}

        async def send(message: Any) -> None:
            self.sent.append(message)
            if message["type"] == "http.response.body" and not message.get("more_body"):
                over.set()

        scope: dict[str, Any] = {
            "type": kind,
            "asgi": {"version": "3.0"},
            "path": path,
            "raw_path": path.encode(),
            "query_string": f"q={CANARY}".encode(),
            "headers": [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()],
            "scheme": "http",
            "http_version": "1.1",
            "server": ("127.0.0.1", 8000),
            "client": ("127.0.0.1", 1234),
        }
        if kind == "http":
            scope["method"] = method
        await self._app(scope, receive, send)
        return self.sent

    def request_id(self) -> str:
        values = [value for name, value in self.sent[0]["headers"] if name == b"x-request-id"]
        assert len(values) == 1
        return str(values[0].decode())

    def counted(self, method: str, route: str, status: str) -> float | None:
        return self.registry.get_sample_value(
            "http_requests_total", {"method": method, "route": route, "status": status}
        )

    def timed(self, method: str, route: str) -> float | None:
        return self.registry.get_sample_value("http_request_duration_seconds_count", {"method": method, "route": route})


@get("/v1/runs/{run_id:str}")
async def one_run(run_id: FromPath[str]) -> dict[str, str]:
    return {"id": run_id}


@post("/broken")
async def broken() -> None:
    raise HTTPException(status_code=503, detail="down")


@get("/stream")
async def stream() -> Stream:
    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(50):
            yield b"x"

    return Stream(pieces())


@get("/healthz")
async def healthz() -> str:
    return "ok"


@websocket("/ws")
async def socket(socket: WebSocket[Any, Any, Any]) -> None:
    await socket.accept()
    await socket.close()


def litestar() -> AsgiApp:
    app = Litestar([one_run, broken, stream, healthz, socket], openapi_config=None, logging_config=None)
    return cast("AsgiApp", app)  # Litestar types its scopes more narrowly


async def exporting(collector: Receiver) -> Tracing:
    return open_tracing({"OTEL_EXPORTER_OTLP_ENDPOINT": collector.http_endpoint}, "0")


async def test_spans_and_metrics_of_a_litestar_application() -> None:
    async with otlp_receiver() as collector:
        tracing = await exporting(collector)
        client = Client(litestar(), tracing)
        await client.call("GET", "/v1/runs/r-1", user_agent="curl/8", x_request_id="mine-1")
        assert client.request_id() == "mine-1"
        await client.call("POST", "/broken")
        assert client.sent[0]["status"] == 503
        assert len(await client.call("GET", "/stream")) > 50
        await client.call("GET", f"/{CANARY}")
        await client.call("DELETE", "/stream")
        await client.call("BREW", "/stream")
        await client.call("GET", "/healthz")
        assert client.request_id()
        await client.call("GET", "/ws", kind="websocket")
        assert client.request_id()
        await tracing.aclose()
        await collector.wait(lambda spans: len(spans) == 7)

        assert [span.name for span in collector.spans] == [
            "GET /v1/runs/{run_id}", "POST /broken", "GET /stream", "GET", "DELETE", "HTTP", "GET /ws"
        ]  # fmt: skip
        assert all(span.kind == "SERVER" and span.parent_id is None for span in collector.spans)
        assert collector.spans[0].attributes == {
            "http.request.method": "GET",
            "http.route": "/v1/runs/{run_id}",
            "http.response.status_code": 200,
            "url.path": "/v1/runs/r-1",
            "url.scheme": "http",
            "server.address": "127.0.0.1",
            "server.port": 8000,
            "client.address": "127.0.0.1",
            "network.protocol.version": "1.1",
            "user_agent.original": "curl/8",
            "steadyhand.request.id": "mine-1",
        }
        down = collector.spans[1]
        assert (down.status, down.attributes["error.type"]) == ("ERROR", "503")
        assert collector.spans[3].status == "UNSET"
        assert "http.route" not in collector.spans[3].attributes
        brew = collector.spans[5].attributes
        assert (brew["http.request.method"], brew["http.request.method_original"]) == ("_OTHER", "BREW")

    assert client.counted("GET", "/v1/runs/{run_id}", "200") == client.timed("GET", "/v1/runs/{run_id}") == 1
    assert client.counted("POST", "/broken", "503") == 1
    assert client.counted("GET", "/stream", "200") == 1
    assert client.counted("GET", "unmatched", "404") == 1
    assert client.counted("DELETE", "unmatched", "405") == 1
    assert client.counted("_OTHER", "unmatched", "405") == 1
    assert client.counted("GET", "/healthz", "200") == 1
    assert client.counted("GET", "/ws", "101") == 1
    assert client.registry.get_sample_value("agent_active_connections") == 0
    assert CANARY.encode() not in client.metrics.render()[0]


@pytest.mark.parametrize("given", ["", "a" * 129, "two words", "line\nbreak", "ümlaut", 'quote"', "<tag>"])
async def test_a_request_id_that_is_not_plain_is_replaced(given: str) -> None:
    client = Client(litestar())
    await client.call("GET", "/healthz", x_request_id=given)
    first = client.request_id()
    assert len(first) == 32
    await client.call("GET", "/healthz", x_request_id=given)
    assert client.request_id() not in (first, given)


async def test_the_application_can_read_the_id_and_its_messages_are_left_alone() -> None:
    start = {"type": "http.response.start", "status": 204, "headers": [(b"a", b"b")]}
    seen: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(scope[SCOPE_REQUEST_ID])
        await send(start)
        await send({"type": "http.response.body", "body": b""})

    client = Client(app)
    await client.call("GET", "/")
    assert seen == [client.request_id()]
    assert start["headers"] == [(b"a", b"b")]


async def test_an_exception_is_a_500_and_goes_on_to_the_server() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        raise ZeroDivisionError(CANARY)

    async with otlp_receiver() as collector:
        tracing = await exporting(collector)
        client = Client(app, tracing)
        with pytest.raises(ZeroDivisionError):
            await client.call("GET", "/")
        await tracing.aclose()
        await collector.wait(lambda spans: len(spans) == 1)
        (span,) = collector.spans
        assert (span.status, span.attributes["error.type"]) == ("ERROR", "ZeroDivisionError")
        assert span.attributes["http.response.status_code"] == 500
        assert CANARY not in repr(span)
    assert client.counted("GET", "unmatched", "500") == 1
    assert client.registry.get_sample_value("agent_active_connections") == 0


@pytest.mark.parametrize("began", [True, False])
async def test_a_client_that_goes_away(began: bool, caplog: pytest.LogCaptureFixture) -> None:
    reached = asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if began:
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"x", "more_body": True})
        reached.set()
        await asyncio.Event().wait()

    caplog.set_level(logging.INFO)
    client = Client(app)
    task = asyncio.create_task(client.call("GET", "/"))
    await reached.wait()
    assert client.registry.get_sample_value("agent_active_connections") == 1
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    status = 200 if began else 499
    assert client.counted("GET", "unmatched", str(status)) == 1
    (line,) = [json.loads(JsonFormatter().format(r)) for r in caplog.records if r.name == "app.access"]
    assert (line["status"], line["incomplete"]) == (status, True)
    assert client.registry.get_sample_value("agent_active_connections") == 0


async def test_an_application_that_leaves_a_gone_client_without_an_answer() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        assert (await receive())["type"] == "http.disconnect"

    client = Client(app)
    client.gone = asyncio.Event()
    client.gone.set()
    await client.call("GET", "/")
    assert client.counted("GET", "unmatched", "499") == 1


async def test_the_access_log_has_the_route_and_no_content(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    client = Client(litestar())
    await client.call("GET", "/v1/runs/r-1")
    await client.call("GET", "/healthz")
    (record,) = [record for record in caplog.records if record.name == "app.access"]
    line = json.loads(JsonFormatter().format(record))
    assert line.pop("duration_ms") > 0
    fields = {name: line[name] for name in ("event", "method", "route", "status")}
    assert fields == {"event": "http_request", "method": "GET", "route": "/v1/runs/{run_id}", "status": 200}
    assert "incomplete" not in line
    assert CANARY not in caplog.text


async def test_lifespan_and_refused_sockets_pass_through() -> None:
    seen: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(scope["type"])
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 4401})

    async def nothing(*_: object) -> Any:
        return None

    client = Client(app)
    await client._app({"type": "lifespan"}, nothing, nothing)
    await client.call("GET", "/ws", kind="websocket")
    assert seen == ["lifespan", "websocket"]
    assert client.counted("GET", "unmatched", "403") == 1
