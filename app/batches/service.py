"""All that the outside may do with batches."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from datetime import datetime

import msgspec

from app.batches.planning import check_agent, plan
from app.batches.requests import Render
from app.domain.agents import Agent
from app.domain.batches import Batch, BatchItem, BatchProviders, BatchResult, BatchStore, NewBatch
from app.domain.errors import FieldError, RequestError
from app.domain.messages import JsonObject
from app.domain.principals import Principal
from app.domain.usage import Scope


class WantedBatch(msgspec.Struct, frozen=True, kw_only=True):
    """A wish for a batch. `window`: seconds until what has no answer gets none."""

    agent: str | None
    items: Sequence[BatchItem]
    window: float
    tags: JsonObject = {}
    user_id: str | None = None


class BatchService:
    """Accepts, shows and cancels batches. Safe for concurrent use.

    `agent` gives an agent by name; `wake` is told when a part is due; `no_budget` is what to say where a month's budget is used up;
    `check` raises where that tenant may not use that agent.
    """

    def __init__(
        self,
        *,
        store: BatchStore,
        agent: Callable[[str | None], Agent],
        providers: BatchProviders,
        render: Render,
        wake: Callable[[], None],
        no_budget: Callable[[Scope], RequestError],
        check: Callable[[str, str], None] = lambda tenant, agent: None,
    ) -> None:
        self._store = store
        self._agent = agent
        self._providers = providers
        self._render = render
        self._wake = wake
        self._no_budget = no_budget
        self._check = check

    async def create(self, principal: Principal, wanted: WantedBatch, batch_id: str) -> Batch:
        """Store it, once for that id; its parts are due.

        Raises `RequestError`: not_found, forbidden, validation_error, queue_full, budget_exhausted, and what `check` does.
        """
        principal = principal.acting_for(wanted.user_id)
        agent = self._agent(wanted.agent)
        self._check(principal.tenant, agent.name)
        check_agent(agent)
        provider = self._providers.of_route(agent.model)
        if provider is None:
            why = f"asks route {agent.model}, none of whose targets is at a provider with a Batch API"
            detail = f"Agent {agent.name} {why}. Add one to the route's chain."
            raise RequestError("validation_error", detail, [FieldError("agent", why)])
        # In a thread: every request is written once to see how large it is.
        parts = await asyncio.to_thread(plan, agent, self._render, provider, wanted.items)
        batch = NewBatch(
            id=batch_id,
            user_id=wanted.user_id or principal.user,
            agent=agent.name,
            agent_version=agent.version,
            route=agent.model,
            provider=provider.provider,
            model=provider.model,
            tags=wanted.tags,
            window=wanted.window,
            items=wanted.items,
            parts=parts,
            metered=await provider.metered(),
        )
        stored = await self._store.create(principal, batch)
        if not isinstance(stored, Batch):
            raise self._no_budget(stored)
        self._wake()
        return stored

    async def batch(self, principal: Principal, batch_id: str) -> Batch:
        """A batch. Raises `RequestError` not_found."""
        found = await self._store.batch(principal, batch_id)
        if found is None:
            raise RequestError("not_found", f"There is no batch {batch_id!r}.")
        return found

    async def batches(self, principal: Principal, before: tuple[datetime, str] | None, limit: int) -> list[Batch]:
        """A page of batches, newest first."""
        return await self._store.batches(principal, before, limit)

    async def results(self, principal: Principal, batch_id: str, after: int, limit: int) -> list[BatchResult]:
        """Items after that place (-1: from the first on), in order. Raises `RequestError` not_found."""
        await self.batch(principal, batch_id)
        return await self._store.results(principal, batch_id, after, limit)

    async def cancel(self, principal: Principal, batch_id: str) -> tuple[Batch, bool]:
        """Send nothing more of it, and have the provider stop; what was answered by then stays. Whether it was live.

        Raises `RequestError` not_found.
        """
        before = await self.batch(principal, batch_id)
        if before.finished_at is not None:
            return before, False
        await self._store.cancel(principal, batch_id)
        self._wake()
        return await self.batch(principal, batch_id), True
