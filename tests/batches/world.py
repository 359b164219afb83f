"""Batches in a real database, at a vendor on a real socket, and the processes that look after them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Literal

import msgspec

from app.batches.jobs import BatchJobs
from app.batches.parts import PartWork
from app.batches.service import BatchService, WantedBatch
from app.batches.visit import Limits, Pauses
from app.domain.agents import Agent, versioned
from app.domain.batches import Batch, BatchItem, BatchLimits, BatchProvider, BatchResult, BatchStore
from app.domain.prices import Price, Rates
from app.domain.principals import Principal
from app.domain.usage import Caps
from app.llm.prices import PriceBook
from app.llm.providers import ModelProvider, open_provider
from app.prompts.render import render
from app.runs.acceptance import no_budget
from app.runs.ids import new_id
from app.safety.guard import Screener
from app.storage.postgres.batches import PostgresBatchStore
from app.storage.postgres.pool import Database
from tests.waiting import until

Kind = Literal["anthropic", "responses", "chat"]
KINDS: tuple[Kind, ...] = ("anthropic", "responses", "chat")
ANN = Principal(tenant="t1", user="ann")
BOB = Principal(tenant="t1", user="bob")
OTHER = Principal(tenant="t2")
MODEL = "model-1"
PRICE = Price(rates=Rates(input=Decimal(3), output=Decimal(15), cache_read=Decimal("0.3")))
COST = Decimal("0.00171")
"""What one answer of the vendor costs in a batch: half of 600 tokens at 3, 400 at 0.3 and 100 at 15 dollars a million."""
FAST = Pauses(first=0.01, longest=0.02, settle=0.02, again=0.01)
DONE = ("ended", "cancelled", "failed")


def tagger(**more: Any) -> Agent:
    fields: dict[str, Any] = {"name": "tagger", "description": "", "kind": "chat", "instructions": "Be brief."}
    return versioned(Agent(**(fields | more)))


def opened_provider(kind: Kind, url: str) -> ModelProvider:
    anthropic = kind == "anthropic"
    name = "anthropic" if anthropic else "openai"
    return open_provider(
        name=name,
        kind="anthropic" if anthropic else "openai",
        api=None if anthropic else "chat" if kind == "chat" else "responses",
        api_key="test-key",
        base_url=url if anthropic else f"{url}/v1",
        batch=True,
        prices=PriceBook(own={f"{name}/{MODEL}": PRICE}),
    )


class OneProvider:
    """Every route asks that model; `limits` may be smaller than its own."""

    def __init__(self, asked: BatchProvider | None, limits: BatchLimits | None = None) -> None:
        self._asked = asked
        if limits is not None and asked is not None:
            asked.limits = limits

    def of_route(self, route: str) -> BatchProvider | None:
        return self._asked

    def of_target(self, provider: str, model: str) -> BatchProvider | None:
        return self._asked


class World:
    """One database and one vendor. `jobs` are processes of this one; their pauses are next to nothing."""

    def __init__(
        self, db: Database, provider: ModelProvider, agent: Agent, limits: BatchLimits | None, caps: Caps
    ) -> None:
        self.db = db
        self.agent = agent
        self.provider = provider
        self.store = PostgresBatchStore(database=db, caps=caps)
        self.providers = OneProvider(provider.batches(MODEL), limits)
        self.service = BatchService(
            store=self.store,
            agent=lambda _: agent,
            providers=self.providers,
            render=render,
            wake=lambda: None,
            no_budget=lambda scope: no_budget(scope, datetime.now(UTC)),
        )

    async def create(self, *texts: str, window: float = 86_400, principal: Principal = ANN) -> Batch:
        items = [BatchItem(custom_id=f"item {n}", input=text) for n, text in enumerate(texts)]
        wanted = WantedBatch(agent=None, items=items, window=window)
        return await self.service.create(principal, wanted, new_id("batch"))

    async def batch(self, batch_id: str) -> Batch:
        return await self.service.batch(ANN, batch_id)

    async def results(self, batch_id: str) -> list[BatchResult]:
        return await self.service.results(ANN, batch_id, -1, 1000)

    async def statuses(self, batch_id: str) -> list[str]:
        return [result.status for result in await self.results(batch_id)]

    async def outputs(self, batch_id: str) -> list[Any]:
        return [
            None if result.output is None else msgspec.json.decode(result.output)
            for result in await self.results(batch_id)
        ]

    def jobs(
        self,
        *,
        claim: float = 30.0,
        store: BatchStore | None = None,
        pauses: Pauses = FAST,
        limits: Limits | None = None,
        off: Callable[[str, str], object | None] = lambda tenant, agent: None,
    ) -> BatchJobs:
        async def definition(tenant: str, name: str, version: str) -> Agent:
            return self.agent

        kept = store or self.store
        work = PartWork(
            store=kept,
            definition=definition,
            providers=self.providers,
            render=render,
            screen=Screener(),
            pauses=pauses,
            limits=limits,
            off=off,
        )
        return BatchJobs(store=kept, work=work, claim=claim)

    async def until(self, batch_id: str, statuses: Sequence[str] = DONE, *jobs: BatchJobs) -> Batch:
        """The batch as soon as it has one of those statuses."""
        found = await self.batch(batch_id)

        async def has() -> bool:
            nonlocal found
            for one in jobs:
                one.wake()
            found = await self.batch(batch_id)
            return found.status in statuses

        await until(has)
        return found

    async def finish(self, batch_id: str) -> Batch:
        """The batch, once a process has looked after it to its end."""
        jobs = self.jobs()
        async with serving(jobs):
            return await self.until(batch_id, DONE, jobs)


@asynccontextmanager
async def serving(*all_jobs: BatchJobs) -> AsyncIterator[None]:
    """They serve for the time of the block."""
    tasks = [asyncio.create_task(jobs.serve()) for jobs in all_jobs]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        for task in tasks:
            with suppress(asyncio.CancelledError):
                await task
