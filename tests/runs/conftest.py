"""A run service on a real database, with a scripted model and scripted tools."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from app.domain.agents import Agent, versioned
from app.domain.events import StoredEvent
from app.domain.principals import ANONYMOUS
from app.runs.agents import Agents
from app.runs.live import Feeds
from app.runs.recovery import Recovery
from app.runs.runner import Runner
from app.runs.service import RunService
from app.runs.worker import Worker
from app.storage.postgres.pool import Database, open_pool
from app.storage.postgres.runs import PostgresRunStore
from tests.scripted import Notes, ScriptedProvider, ScriptedToolbox, tool_spec


def render(agent: Agent, context: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    return agent.instructions, dict(context)


def react(**more: Any) -> Agent:
    tools = (
        tool_spec("echo"),
        tool_spec("slow"),
        tool_spec("slow_write", effect="write"),
        tool_spec("risky", risk="high"),
    )
    fields = {"name": "helper", "description": "", "kind": "react", "instructions": "Be brief.", "tools": tools}
    return versioned(Agent(**(fields | more)))


@dataclass
class Harness:
    """Everything of one process."""

    database: Database
    store: PostgresRunStore
    service: RunService
    worker: Worker
    recovery: Recovery
    feeds: Feeds
    provider: ScriptedProvider
    toolbox: ScriptedToolbox
    notes: Notes
    serving: asyncio.Task[None]

    async def events(self, run_id: str) -> list[StoredEvent]:
        return await self.store.events(run_id, 0, 10_000)

    async def names(self, run_id: str) -> list[str]:
        return [event.name for event in await self.events(run_id)]


@asynccontextmanager
async def process(dsn: str, provider: ScriptedProvider, *agents: Agent, concurrency: int = 8) -> AsyncIterator[Harness]:
    """One process on that database. Leaving it is a drain without patience."""
    notes, toolbox, feeds = Notes(), ScriptedToolbox(), Feeds()
    async with open_pool(dsn) as database:
        store = PostgresRunStore(database=database)
        known = {agent.name: agent for agent in agents or (react(),)}
        registry = Agents(current=known, default=next(iter(known)), store=store)
        await registry.save(ANONYMOUS.tenant)
        runner = Runner(store=store, provider=provider, toolbox=toolbox, observer=notes, feeds=feeds)
        recovery = Recovery(store=store, feeds=feeds, agents=registry, observer=notes)
        worker = Worker(
            store=store,
            runner=runner,
            recovery=recovery,
            feeds=feeds,
            agents=registry,
            render=render,
            observer=notes,
            concurrency=concurrency,
        )
        service = RunService(store=store, agents=registry, worker=worker, feeds=feeds, render=render, observer=notes)
        serving = asyncio.create_task(worker.serve())
        try:
            yield Harness(database, store, service, worker, recovery, feeds, provider, toolbox, notes, serving)
        finally:
            toolbox.gate.set()
            await worker.drain(1.0)
            await service.aclose()
            serving.cancel()
            await asyncio.wait([serving])


@pytest.fixture
def start_process(database: str) -> Any:
    """Opens a process on the test's database: `async with start_process(provider, *agents) as p`."""

    def start(provider: ScriptedProvider, *agents: Agent, concurrency: int = 8) -> Any:
        return process(database, provider, *agents, concurrency=concurrency)

    return start
