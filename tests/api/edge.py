"""The HTTP edge over a real database and a scripted model, in this process: without sockets, or behind the real server."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx2
import msgspec
from granian.constants import HTTPModes, Interfaces
from granian.server.embed import Server
from prometheus_client import CollectorRegistry

from app.api.guards import Gate
from app.api.health import Readings
from app.api.targets import Targets
from app.domain.agents import Agent
from app.domain.models import Provider
from app.domain.principals import ANONYMOUS
from app.domain.stores import RunStore
from app.main import create_app
from app.prompts.render import render
from app.runs.agents import Agents
from app.runs.live import Feeds
from app.runs.recovery import Recovery
from app.runs.runner import Runner
from app.runs.service import RunService
from app.runs.worker import Worker
from app.storage.postgres.pool import open_pool
from app.storage.postgres.runs import PostgresRunStore
from app.telemetry.http import AsgiApp
from app.telemetry.metrics import Metrics
from app.telemetry.setup import open_tracing
from tests.runs.conftest import react
from tests.scripted import Notes, ScriptedToolbox

Frame = tuple[str | None, str, Any]
"""The id, the name and the data of one event."""


@dataclass
class Edge:
    """One process: its application, a client of it, and what is behind it."""

    app: AsgiApp
    client: httpx2.AsyncClient
    service: RunService
    worker: Worker
    feeds: Feeds
    provider: Any
    toolbox: ScriptedToolbox
    gate: Gate

    async def ask(self, message: str = "hello", **more: Any) -> dict[str, Any]:
        """The answer of a turn that succeeds."""
        response = await self.client.post("/chat", json={"message": message} | more)
        assert response.status_code == 200, response.text
        answer: dict[str, Any] = response.json()
        return answer

    async def frames(self, method: str, path: str, body: Any = None, **headers: str) -> list[Frame]:
        """Every event of a whole stream."""
        response = await self.client.request(method, path, json=body, headers=headers)
        assert response.status_code == 200, response.text
        return frames(response.content)


@asynccontextmanager
async def open_edge(
    dsn: str,
    provider: Provider,
    *agents: Agent,
    concurrency: int = 8,
    keep_alive: float = 10.0,
    max_body: int = 100_000,
    max_streams: int = 100,
    routes: Mapping[str, tuple[str, ...]] | None = None,
    through: Callable[[RunStore], RunStore] = lambda store: store,
) -> AsyncIterator[Edge]:
    """A process on that database that serves those agents, the first one by default."""
    notes, toolbox, feeds, gate = Notes(), ScriptedToolbox(), Feeds(), Gate(None)
    tracing = open_tracing({}, "test")
    async with open_pool(dsn) as database:
        store = through(PostgresRunStore(database=database))
        known = {agent.name: agent for agent in agents or (react(),)}
        registry = Agents(current=known, default=next(iter(known)), store=store)
        await registry.save(ANONYMOUS.tenant)
        worker = Worker(
            store=store,
            runner=Runner(store=store, provider=provider, toolbox=toolbox, observer=notes, feeds=feeds),
            recovery=Recovery(store=store, feeds=feeds, agents=registry, observer=notes),
            feeds=feeds,
            agents=registry,
            render=render,
            observer=notes,
            concurrency=concurrency,
        )
        service = RunService(
            store=store,
            agents=registry,
            worker=worker,
            feeds=feeds,
            render=render,
            observer=notes,
            keep_alive=keep_alive,
        )
        app = create_app(
            service=service,
            readings=Readings(version="test", vital={}, others={}),
            targets=Targets(routes=routes or {"default": ("scripted",)}),
            metrics=Metrics(registry=CollectorRegistry(), version="test"),
            tracing=tracing,
            gate=gate,
            max_body=max_body,
            max_streams=max_streams,
        )
        serving = asyncio.create_task(worker.serve())
        client = httpx2.AsyncClient(
            transport=httpx2.ASGITransport(app=app, raise_app_exceptions=True),
            base_url="http://steadyhand",
            timeout=30,
        )
        try:
            async with client:
                yield Edge(app, client, service, worker, feeds, provider, toolbox, gate)
        finally:
            toolbox.gate.set()
            feeds.close()
            await worker.drain(1.0)
            serving.cancel()
            await asyncio.wait([serving])
            await tracing.aclose()


@asynccontextmanager
async def listening(app: AsgiApp) -> AsyncIterator[int]:
    """The application behind the real server, started as `serve` does it; gives the port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    server = Server(
        app, address="127.0.0.1", port=port, interface=Interfaces.ASGINL, http=HTTPModes.auto, log_enabled=False
    )
    task = asyncio.create_task(server.serve())
    try:
        while True:
            assert not task.done(), task
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                await asyncio.sleep(0.005)  # the server says nowhere that it listens
            else:
                writer.close()
                break
        yield port
    finally:
        server.stop()  # type: ignore[no-untyped-call]  # granian has no annotation there
        await task


def frames(content: bytes) -> list[Frame]:
    """The events of a stream's bytes, each proven whole: nothing but comments, the opening, and events with data."""
    text = content.decode()
    assert text.startswith("retry: 1000\n\n")
    assert text.endswith("\n\n")
    return [frame for block in text.split("\n\n")[1:-1] if (frame := parse(block)) is not None]


def parse(block: str) -> Frame | None:
    """One block of a stream; None for a comment."""
    if block.startswith(":"):
        assert "\n" not in block
        return None
    fields = dict(line.split(": ", 1) for line in block.split("\n"))
    assert set(fields) in ({"id", "event", "data"}, {"event", "data"}), block
    return fields.get("id"), fields["event"], msgspec.json.decode(fields["data"])


def text_of(events: list[Frame], message_id: str | None = None) -> str:
    """What the deltas of one message (None: of the only one) spell, by their offsets; no gap, no repeat."""
    deltas = [data for _, name, data in events if name == "message.delta"]
    wanted = message_id or deltas[0]["message_id"]
    text = ""
    for delta in deltas:
        if delta["message_id"] == wanted:
            assert delta["offset"] == len(text), delta
            text += delta["text"]
    return text


async def until(condition: Callable[[], Any]) -> None:
    """Returns once it holds; the test's own timeout is the limit."""
    while not condition():  # noqa: ASYNC110 - waits for whatever the test waits for
        await asyncio.sleep(0.001)
