"""What a part needs next, and who can do it here."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from app.batches.requests import Render
from app.batches.visit import Limits, Pauses, Visit
from app.domain.agents import Agent
from app.domain.batches import BatchProviders, BatchStore, ItemError, Part
from app.domain.screening import Screen

Definition = Callable[[str, str, str], Awaitable[Agent | None]]
"""An agent of a tenant by name and version."""


class PartWork:
    """Works on parts. Safe for concurrent use on different parts."""

    def __init__(
        self,
        *,
        store: BatchStore,
        definition: Definition,
        providers: BatchProviders,
        render: Render,
        screen: Screen,
        off: Callable[[str, str], object | None] = lambda tenant, agent: None,
        pauses: Pauses | None = None,
        limits: Limits | None = None,
    ) -> None:
        """`off` says why that tenant may not use that agent, None where it may: nothing of it is sent meanwhile."""
        self._store = store
        self._off = off
        self._definition = definition
        self._providers = providers
        self._render = render
        self._screen = screen
        self._pauses = pauses or Pauses()
        self._limits = limits or Limits()

    async def work(self, part: Part) -> None:
        """As much as can be done now; afterwards it is let go of, or another's. Raises `DatabaseUnavailable`."""
        if part.overdue:
            late = ItemError("expired", "the batch expired, and its provider never ended it")
            await self._store.end(part, "expired", late, again=None)
            return
        if part.status == "due" and (why := self._off(part.tenant, part.agent)) is not None:
            held = ItemError("disabled", str(why))
            await self._store.pause(part, self._pauses.after(part.tries), part.status, held, part.tries + 1)
            return
        provider = self._providers.of_target(part.provider, part.model)
        agent = await self._definition(part.tenant, part.agent, part.agent_version)
        if provider is None or agent is None:
            missing = (
                f"{part.provider}/{part.model}" if provider is None else f"agent {part.agent} {part.agent_version}"
            )
            unknown = ItemError("not_configured", f"{missing} is not known to the process that looks after this batch")
            await self._store.pause(part, self._pauses.after(part.tries), part.status, unknown, part.tries + 1)
            return
        visit = Visit(
            store=self._store,
            part=part,
            provider=provider,
            agent=agent,
            render=self._render,
            pauses=self._pauses,
            limits=self._limits,
            screen=self._screen,
        )
        await visit.run()
