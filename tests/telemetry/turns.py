"""A turn with a tool, as the runner makes it, and where its spans go."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from decimal import Decimal

from app.domain.errors import ProviderError
from app.domain.events import RunFinished
from app.domain.messages import ToolCall
from app.domain.models import ModelChunk, Recorder
from app.domain.observers import RunTimes
from app.telemetry.http import HttpTelemetry, Receive, Scope, Send
from app.telemetry.metrics import Metrics
from app.telemetry.runs import RunTelemetry
from app.telemetry.setup import Tracing
from app.telemetry.traced import TracedProvider, TracedTarget, TracedToolbox
from tests.telemetry.fakes import (
    CANARY,
    COMPLETED,
    REQUEST,
    SPEC,
    USAGE,
    FakeRouter,
    FakeTarget,
    FakeToolbox,
    run_info,
    tool_context,
)
from tests.telemetry.receiver import Receiver

CALL = ToolCall("c1", "calculator", f'{{"x": "{CANARY}"}}')


ENDED = RunFinished(
    status="succeeded", stop_reason="completed", output=f"answer {CANARY}", usage=USAGE, cost_usd=0.00125, iterations=2
)


TIMES = RunTimes(total=1.5, effects=1.2)


CALLER = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


async def read(provider: TracedProvider) -> list[ModelChunk]:
    async with aclosing(provider.stream(REQUEST, Recorder())) as chunks:
        return [chunk async for chunk in chunks]


async def tool_turn(tracing: Tracing, metrics: Metrics, traceparent: str | None = CALLER) -> None:
    """A request that makes a run, executed in a task of its own: one model call that falls back, one tool call."""
    router = FakeRouter(
        TracedTarget(target=FakeTarget("local", "m-0", ProviderError("overloaded", "busy")), tracing=tracing),
        TracedTarget(target=FakeTarget(cost=Decimal("0.00125")), tracing=tracing),
    )
    provider = TracedProvider(provider=router, metrics=metrics)
    toolbox = TracedToolbox(toolbox=FakeToolbox(), tracing=tracing, metrics=metrics)
    observer = RunTelemetry(tracing=tracing, metrics=metrics)

    async def execute(stored: str | None) -> None:
        with observer.running(run_info(stored)) as watch:
            assert (await read(provider))[-1] == COMPLETED
            await asyncio.create_task(toolbox.run(SPEC, CALL, tool_context()))
            watch.finished(ENDED, "m-1-2026", TIMES)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        scope["path_template"] = "/chat"
        await asyncio.create_task(execute(observer.traceparent()))
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"answer"})

    async def receive() -> dict[str, object]:
        raise AssertionError("nobody reads")

    async def send(message: object) -> None:
        pass

    headers = [] if traceparent is None else [(b"traceparent", traceparent.encode())]
    scope = {"type": "http", "method": "POST", "path": "/chat", "headers": headers, "query_string": CANARY.encode()}
    await HttpTelemetry(app=app, tracing=tracing, metrics=metrics)(scope, receive, send)


def environment(collector: Receiver, protocol: str, **more: str) -> dict[str, str]:
    endpoint = collector.grpc_endpoint if protocol == "grpc" else collector.http_endpoint
    return {"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint, "OTEL_EXPORTER_OTLP_PROTOCOL": protocol, **more}
