"""Ended runs with callbacks in a real database, a real receiver, and processes that send."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from typing import Any

import httpcore2
import pytest

from app.callbacks.deliveries import Deliveries
from app.callbacks.sending import Sender
from app.domain.callbacks import Callback, CallbackStore
from app.domain.principals import Principal
from app.domain.runs import Run, RunStatus
from app.egress.addresses import Address
from app.egress.network import system_resolver
from app.storage.postgres.callbacks import PostgresCallbackStore
from app.storage.postgres.pool import Database, open_pool
from tests.callbacks.receiver import Receiver, receiving

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
ANN = Principal(tenant="t1", user="ann")
TENANT = Principal(tenant="t1")
AT = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)


def anywhere(_: Address) -> bool:
    return True


def ended(run_id: str, status: RunStatus = "succeeded") -> Run:
    return Run(
        id=run_id, session_id="s1", agent="assistant", agent_version="v1", user_id="ann", tags={}, status=status,
        stop_reason="completed", output="grüße", error=None, degraded=False, cached=False, iterations=1, usage=None,
        cost_usd=None, resumed_from=None, outcome_unknown=False, created_at=AT, started_at=AT, finished_at=AT,
    )  # fmt: skip


class EndedRuns:
    """Every run has ended, but those that are gone."""

    def __init__(self) -> None:
        self.gone: set[str] = set()

    async def run(self, principal: Principal, run_id: str) -> Run | None:
        return None if run_id in self.gone or principal.tenant != "t1" else ended(run_id)


class World:
    """The database with its callbacks, and what sends them."""

    def __init__(self, db: Database) -> None:
        self.db = db
        self.store = PostgresCallbackStore(database=db)
        self.runs = EndedRuns()
        self._turns = 0

    async def run(self, url: str, run_id: str = "run_1", status: str = "due") -> str:
        """A run whose callback has that status."""
        self._turns += 1
        async with self.db.transaction() as connection:
            await connection.execute(
                "INSERT INTO sessions (tenant, id, owner) VALUES ('t1', 's1', 'ann') ON CONFLICT DO NOTHING"
            )
            await connection.execute(
                "INSERT INTO runs (id, tenant, owner, session_id, session_epoch, turn, agent, agent_version, status, tags, last_seq)"
                " VALUES ($1, 't1', 'ann', 's1', 1, $2, 'assistant', 'v1', 'succeeded', '{}', 1)",
                run_id, self._turns,
            )  # fmt: skip
            await connection.execute(
                "INSERT INTO callbacks (run_id, tenant, owner, url, status, next_at)"
                " VALUES ($1, 't1', 'ann', $2, $3, CASE $3 WHEN 'due' THEN clock_timestamp() END)",
                run_id, url, status,
            )  # fmt: skip
        return run_id

    async def callback(self, run_id: str = "run_1") -> Callback:
        found = await self.store.callback(ANN, run_id)
        assert found is not None
        return found

    def deliveries(self, store: CallbackStore | None = None, sender: Sender | None = None, **more: Any) -> Deliveries:
        return Deliveries(
            store=store or self.store, runs=self.runs, sender=sender or a_sender(),
            **{"secret": SECRET, "pauses": (0.01,)} | more,
        )  # fmt: skip

    async def until(self, deliveries: Deliveries, holds: Callable[[Callback], bool], run_id: str = "run_1") -> Callback:
        """The callback as soon as that holds."""
        async with asyncio.timeout(20):
            while not holds(found := await self.callback(run_id)):
                await asyncio.sleep(0.01)
                deliveries.wake()
        return found


def a_sender(
    allow: Callable[[Address], bool] = anywhere, resolver: Any = system_resolver, time_limit: float = 10
) -> Sender:
    return Sender(resolver=resolver, allow=allow, network=httpcore2.AnyIOBackend(), time_limit=time_limit)


@asynccontextmanager
async def serving(*all_deliveries: Deliveries) -> AsyncIterator[None]:
    """They serve for the time of the block."""
    tasks = [asyncio.create_task(deliveries.serve()) for deliveries in all_deliveries]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        for task in tasks:
            with suppress(asyncio.CancelledError):
                await task


@pytest.fixture
async def world(database: str) -> AsyncIterator[World]:
    async with open_pool(database) as db:
        yield World(db)


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with receiving() as opened:
        yield opened
