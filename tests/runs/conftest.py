"""A run service on a real database, with a scripted model and scripted tools."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import pytest

from app.domain.agents import Agent, versioned
from app.domain.cache import SharedAnswers
from app.domain.events import StoredEvent
from app.domain.experiments import Experiment
from app.domain.principals import ANONYMOUS
from app.domain.tiers import TierRoute
from app.domain.usage import Caps
from app.runs.admission import UNBOUNDED, Admission
from app.runs.agents import Agents
from app.runs.alike import Alike
from app.runs.answers import Answers
from app.runs.approvals import ApprovalService
from app.runs.assembly import Stores, assemble
from app.runs.housekeeping import Housekeeping
from app.runs.live import Feeds
from app.runs.service import RunService
from app.runs.sessions import SessionService
from app.runs.switches import Switches
from app.runs.worker import Worker
from app.safety.guard import Screener
from app.storage.local.answers import LocalAnswers
from app.storage.postgres.approvals import PostgresApprovalStore
from app.storage.postgres.audit import PostgresAuditLog
from app.storage.postgres.controls import PostgresControls
from app.storage.postgres.keys import PostgresKeyStore
from app.storage.postgres.pool import Database, open_pool
from app.storage.postgres.runs import NO_CAPS, PostgresRunStore
from app.storage.postgres.sessions import PostgresSessionStore
from app.storage.postgres.usage import PostgresUsageLedger
from tests.scripted import Counts, NoHints, Notes, Quoted, ScriptedToolbox, tool_spec


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


class OwnLeases:
    """The leases of a process whose heartbeat never fails: they are as long as the test."""

    def __init__(self) -> None:
        self.held: dict[str, int] = {}

    def add(self, run_id: str, epoch: int, until: float, deadline: float) -> None:
        assert until <= deadline + 3600
        self.held[run_id] = epoch

    def remove(self, run_id: str) -> None:
        self.held.pop(run_id, None)


def stores_of(
    database: Database, runs: Any, through: Callable[[Any], Any] = lambda store: store, *, caps: Caps = NO_CAPS
) -> Stores:
    """Those of a process, each of them (but for `runs`) as `through` wraps it."""
    return Stores(
        runs=runs,
        sessions=through(PostgresSessionStore(database=database)),
        approvals=through(PostgresApprovalStore(database=database)),
        audit=through(PostgresAuditLog(database=database)),
        keys=through(PostgresKeyStore(database=database)),
        usage=through(PostgresUsageLedger(database=database, caps=caps)),
    )


@dataclass
class Harness:
    """Everything of one process."""

    database: Database
    store: PostgresRunStore
    service: RunService
    sessions: SessionService
    approvals: ApprovalService
    housekeeping: Housekeeping
    worker: Worker
    leases: OwnLeases
    feeds: Feeds
    provider: Any
    toolbox: Any
    notes: Notes
    answers: Answers
    counts: Counts
    serving: asyncio.Future[Any]

    async def die(self) -> None:
        """As if the process were killed: nothing is claimed, done or written from now on."""
        tasks = [execution.task for execution in self.worker._running.values()]
        for task in (self.serving, *tasks):
            task.cancel()
        await asyncio.gather(self.serving, *tasks, return_exceptions=True)

    async def events(self, run_id: str) -> list[StoredEvent]:
        return await self.store.events(run_id, 0, 10_000)

    async def names(self, run_id: str) -> list[str]:
        return [event.name for event in await self.events(run_id)]


@asynccontextmanager
async def process(
    dsn: str,
    provider: Any,
    *agents: Agent,
    concurrency: int = 8,
    toolbox: Any = None,
    lease: float = 30.0,
    approval_ttl: float = 3600.0,
    owner: str = "test",
    caps: Caps = NO_CAPS,
    tiers: Mapping[str, TierRoute] | None = None,
    experiments: Sequence[Experiment] = (),
    far: SharedAnswers | None = None,
    alike: Alike | None = None,
    near: LocalAnswers | None = None,
    admission: Admission | None = None,
    per_tenant: int = UNBOUNDED,
) -> AsyncIterator[Harness]:
    """One process on that database, with that model (priced, if it has a price) and, by default, scripted tools. Leaving it is a
    drain without patience.
    """
    notes, toolbox, leases = Notes(), toolbox or ScriptedToolbox(), OwnLeases()
    counts = Counts()
    answers = Answers(near=near or LocalAnswers(), far=far, alike=alike, count=counts.count, lease=0.5)
    async with open_pool(dsn) as database:
        store = PostgresRunStore(database=database, owner=owner, lease=lease, caps=caps, per_tenant=per_tenant)
        known = {agent.name: agent for agent in agents or (react(),)}
        registry = Agents(current=known, default=next(iter(known)), store=store, experiments=experiments)
        await registry.save(ANONYMOUS.tenant)
        runs = assemble(
            stores=stores_of(database, store, caps=caps),
            agents=registry,
            render=render,
            provider=provider,
            quotes=Quoted(getattr(provider, "price", None), getattr(provider, "least", Decimal(0))),
            tiers=tiers,
            toolbox=toolbox,
            observer=notes,
            screen=Screener(),
            hints=NoHints(),
            leases=leases,
            answers=answers,
            admission=admission or Admission(per_tenant=per_tenant),
            switches=Switches(store=PostgresControls(database=database)),
            concurrency=concurrency,
            lease=lease,
            max_attempts=3,
            approval_ttl=approval_ttl,
        )
        serving = asyncio.gather(runs.worker.serve(), runs.follower.run())
        try:
            yield Harness(
                database=database,
                store=store,
                service=runs.service,
                sessions=runs.sessions,
                approvals=runs.approvals,
                housekeeping=runs.housekeeping,
                worker=runs.worker,
                leases=leases,
                feeds=runs.feeds,
                provider=provider,
                toolbox=toolbox,
                notes=notes,
                answers=answers,
                counts=counts,
                serving=serving,
            )
        finally:
            if isinstance(toolbox, ScriptedToolbox):
                toolbox.gate.set()
            await runs.worker.drain(1.0)
            await runs.service.aclose()
            await answers.aclose()
            serving.cancel()
            await asyncio.gather(serving, return_exceptions=True)


@pytest.fixture
def start_process(database: str) -> Any:
    """Opens a process on the test's database: `async with start_process(provider, *agents) as p`."""

    def start(provider: Any, *agents: Agent, **more: Any) -> Any:
        return process(database, provider, *agents, **more)

    return start
