"""Who looks after batches, and who answers for them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime

from app.batches.jobs import BatchJobs
from app.batches.parts import PartWork
from app.batches.service import BatchService
from app.domain.batches import BatchProvider
from app.domain.screening import Screen
from app.domain.usage import Caps
from app.llm.offline_batch import OfflineBatches
from app.llm.providers import ModelProvider
from app.prompts.render import render
from app.runs.acceptance import no_budget
from app.runs.assembly import Runs
from app.settings import Settings
from app.storage.postgres.batches import PostgresBatchStore
from app.storage.postgres.pool import Database


class SettingsProviders:
    """The targets of the settings' routes that answer batches; implements `app.domain.batches.BatchProviders`."""

    def __init__(self, *, settings: Settings, providers: Mapping[str, ModelProvider]) -> None:
        self._settings = settings
        self._providers = providers

    def of_route(self, route: str) -> BatchProvider | None:
        tiers = self._settings.tiers.get(route)
        known = self._settings.routes.get(route if tiers is None else tiers.routes[tiers.default])
        chain = () if known is None else known.chain
        return next((found for t in chain if (found := self.of_target(t.provider, t.model)) is not None), None)

    def of_target(self, provider: str, model: str) -> BatchProvider | None:
        known = self._settings.providers.get(provider)
        if known is not None and known.kind == "offline":
            return OfflineBatches(provider=provider, model=model)
        client = self._providers.get(provider)
        return None if client is None else client.batches(model)


def batches_of(
    settings: Settings,
    providers: Mapping[str, ModelProvider],
    database: Database,
    runs: Runs,
    caps: Caps,
    screen: Screen,
) -> tuple[BatchJobs, BatchService]:
    """Who looks after batches, and who answers for them."""
    store = PostgresBatchStore(database=database, caps=caps)
    asked = SettingsProviders(settings=settings, providers=providers)
    work = PartWork(
        store=store,
        definition=runs.agents.version,
        providers=asked,
        render=render,
        screen=screen,
        off=runs.switches.run,
    )
    jobs = BatchJobs(store=store, work=work)
    return jobs, BatchService(
        store=store,
        agent=runs.agents.get,
        providers=asked,
        render=render,
        wake=jobs.wake,
        no_budget=lambda scope: no_budget(scope, datetime.now(UTC)),
        check=runs.switches.check,
    )
