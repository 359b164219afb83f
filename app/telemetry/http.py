"""The outermost ASGI layer: request ids, the server span, HTTP metrics and the access log."""

from __future__ import annotations

import asyncio
import logging
import re
import time
import uuid
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any

from opentelemetry import context as otel
from opentelemetry.context import Context
from opentelemetry.trace import Span, SpanKind, StatusCode, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from opentelemetry.util.types import AttributeValue

from app.telemetry import context, names
from app.telemetry.metrics import Metrics
from app.telemetry.setup import Tracing

Scope = MutableMapping[str, Any]
AsgiMessage = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[AsgiMessage]]
Send = Callable[[AsgiMessage], Awaitable[None]]
AsgiApp = Callable[[Scope, Receive, Send], Awaitable[None]]

SCOPE_REQUEST_ID = "steadyhand.request_id"
"""The key of the request's id in its ASGI scope."""
QUIET_PATHS = frozenset({"/health", "/healthz", "/readiness", "/metrics"})
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT", "QUERY"})
OTHER_METHOD = "_OTHER"
UNMATCHED = "unmatched"
"""The route of requests that match none (404, 405): their paths are anybody's text."""
CLIENT_GONE = 499

log = logging.getLogger("app.access")
_REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")
_W3C = TraceContextTextMapPropagator()


class HttpTelemetry:
    """Wraps an ASGI application. Reads the route from `path_template`, which Litestar puts into the scope as it routes.

    Every response has `X-Request-Id`: the caller's own where it is 1 to 128 of `A-Za-z0-9._:-`, else a new one. Requests
    to `quiet` paths are counted, but make no span and no line above DEBUG.
    """

    def __init__(
        self, *, app: AsgiApp, tracing: Tracing, metrics: Metrics, quiet: frozenset[str] = QUIET_PATHS
    ) -> None:
        self._app = app
        self._tracing = tracing
        self._metrics = metrics
        self._quiet = quiet

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection of any kind; whatever the application raises goes on to the server."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        request_id, traceparent, tracestate, agent = _headers(scope["headers"])
        scope[SCOPE_REQUEST_ID] = request_id
        exchange = _Exchange(scope, send, request_id)
        quiet = scope["path"].removeprefix(scope.get("root_path") or "") in self._quiet
        request_token = context.request_id.set(request_id)
        span: Span | None = None
        if not quiet:
            self._metrics.active_connections.inc()
            if self._tracing.enabled or traceparent is not None:
                parent = _parent(traceparent, tracestate)
                attributes = _described(scope, exchange, agent) if self._tracing.enabled else None
                span = self._tracing.tracer.start_span(exchange.method, parent, SpanKind.SERVER, attributes)
                span_token = otel.attach(set_span_in_context(span, parent))
        try:
            await self._app(scope, receive, exchange.send)
        except asyncio.CancelledError:
            exchange.fail(CLIENT_GONE, "cancelled")
            raise
        except BaseException as error:
            exchange.fail(500, type(error).__qualname__)
            raise
        finally:
            self._ended(scope, exchange, quiet)
            if span is not None:
                _end(span, exchange, _route(scope))
                otel.detach(span_token)
            if not quiet:
                self._metrics.active_connections.dec()
            context.request_id.reset(request_token)

    def _ended(self, scope: Scope, exchange: _Exchange, quiet: bool) -> None:
        seconds = time.perf_counter() - exchange.started
        route, method = _route(scope), exchange.method
        # No status at all: the application returned without an answer, because nobody was there any more.
        status = exchange.status or CLIENT_GONE
        self._metrics.http_requests[method, route, str(status)].inc()
        self._metrics.http_duration[method, route].observe(seconds)
        level = logging.DEBUG if quiet else logging.INFO
        if log.isEnabledFor(level):
            fields = {"method": method, "route": route, "status": status, "duration_ms": round(seconds * 1000, 3)}
            if not exchange.complete:
                fields["incomplete"] = True
            log.log(level, "http_request", extra=fields)


class _Exchange:
    """What one request came to: sends for the application and remembers the outcome."""

    __slots__ = ("_header", "_send", "complete", "error", "method", "started", "status")

    def __init__(self, scope: Scope, send: Send, request_id: str) -> None:
        self.started = time.perf_counter()
        method = scope.get("method", "GET")
        self.method = method if method in METHODS else OTHER_METHOD
        self.status: int | None = None
        self.error: str | None = None
        self.complete = False
        self._send = send
        self._header = (b"x-request-id", request_id.encode())

    async def send(self, message: AsgiMessage) -> None:
        """Pass the message on; the one that begins the answer gets the request's id."""
        kind = message["type"]
        if kind == "http.response.body":
            self.complete = not message.get("more_body", False)
        elif kind == "http.response.start" or kind == "websocket.http.response.start":
            self.status = message["status"]
            message = {**message, "headers": [*message.get("headers", ()), self._header]}
        elif kind == "websocket.accept":
            self.status = 101
            self.complete = True
            message = {**message, "headers": [*message.get("headers", ()), self._header]}
        elif kind == "websocket.close":
            self.status = self.status or 403
            self.complete = True
        elif kind == "websocket.http.response.body":
            self.complete = not message.get("more_body", False)
        await self._send(message)

    def fail(self, status: int, error: str) -> None:
        """It ended with an exception; `status` counts where no answer had begun."""
        self.error = error
        if self.status is None:
            self.status = status


def _headers(headers: Iterable[tuple[bytes, bytes]]) -> tuple[str, str | None, str | None, str | None]:
    """The request's id, its traceparent and tracestate, and its user agent."""
    request_id = traceparent = tracestate = agent = None
    for name, value in headers:
        if name == b"x-request-id":
            request_id = value.decode("latin-1")
        elif name == b"traceparent":
            traceparent = value.decode("latin-1")
        elif name == b"tracestate":
            tracestate = value.decode("latin-1")
        elif name == b"user-agent":
            agent = value.decode("latin-1")
    if request_id is None or not _REQUEST_ID.fullmatch(request_id):
        request_id = uuid.uuid4().hex
    return request_id, traceparent, tracestate, agent


def _parent(traceparent: str | None, tracestate: str | None) -> Context:
    if traceparent is None:
        return Context()
    carrier = {"traceparent": traceparent}
    if tracestate is not None:
        carrier["tracestate"] = tracestate
    return _W3C.extract(carrier, Context())


def _described(scope: Scope, exchange: _Exchange, agent: str | None) -> dict[str, AttributeValue]:
    attributes: dict[str, AttributeValue] = {
        names.HTTP_METHOD: exchange.method,
        names.URL_PATH: scope["path"],
        names.URL_SCHEME: scope.get("scheme", "http"),
        names.PROTOCOL_VERSION: scope.get("http_version", "1.1"),
        names.REQUEST_ID: scope[SCOPE_REQUEST_ID],
    }
    if exchange.method == OTHER_METHOD:
        attributes[names.HTTP_METHOD_ORIGINAL] = str(scope["method"])[:32]
    if agent is not None:
        attributes[names.USER_AGENT] = agent
    server, client = scope.get("server"), scope.get("client")
    if server:
        attributes[names.SERVER_ADDRESS] = server[0]
        if server[1] is not None:
            attributes[names.SERVER_PORT] = server[1]
    if client:
        attributes[names.CLIENT_ADDRESS] = client[0]
    return attributes


def _end(span: Span, exchange: _Exchange, route: str) -> None:
    """End the span under the name that only the router knew."""
    if span.is_recording():
        method = "HTTP" if exchange.method == OTHER_METHOD else exchange.method
        if route == UNMATCHED:
            span.update_name(method)
        else:
            span.update_name(f"{method} {route}")
            span.set_attribute(names.HTTP_ROUTE, route)
        if exchange.status is not None:
            span.set_attribute(names.HTTP_STATUS, exchange.status)
        error = exchange.error
        if error is None and exchange.status is not None and exchange.status >= 500:
            error = str(exchange.status)
        if error is not None:
            span.set_attribute(names.ERROR_TYPE, error)
            if error != "cancelled":
                span.set_status(StatusCode.ERROR)
    span.end()


def _route(scope: Scope) -> str:
    return scope.get("path_template") or UNMATCHED
