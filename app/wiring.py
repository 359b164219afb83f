"""The composition root: every object of a process, built in order from its workspace, closed in reverse. Starts no server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry

from app.api.guards import Gate
from app.api.health import LoopWatch, Readings
from app.api.schemas import CheckStatus
from app.api.targets import Targets
from app.domain.models import Target
from app.domain.principals import DEFAULT_TENANT
from app.llm.offline import OfflineTarget
from app.llm.providers import ModelProvider, open_provider
from app.llm.router import Route, Router
from app.main import VERSION, create_app
from app.prompts.render import render
from app.runs.agents import Agents
from app.runs.live import Feeds
from app.runs.recovery import Recovery
from app.runs.runner import Runner
from app.runs.service import RunService
from app.runs.worker import Worker
from app.settings import Settings
from app.storage.migrate import Schema, read_migrations, status
from app.storage.postgres.pool import Database, open_pool
from app.storage.postgres.runs import PostgresRunStore
from app.telemetry.http import AsgiApp
from app.telemetry.metrics import Metrics
from app.telemetry.runs import RunTelemetry
from app.telemetry.setup import Tracing, open_tracing
from app.telemetry.traced import TracedProvider, TracedTarget, TracedToolbox
from app.tools.toolbox import PythonToolbox
from app.workspace.load import Workspace

if TYPE_CHECKING:
    import httpx2

DRAINING = "The service is shutting down. Send the request again in a moment."
PENDING = "The database lacks migrations: run `steadyhand migrate`."


class Services:
    """A process's objects. They are there, but nothing is done with them before `activate`."""

    def __init__(
        self,
        *,
        app: AsgiApp,
        service: RunService,
        agents: Agents,
        worker: Worker,
        recovery: Recovery,
        feeds: Feeds,
        database: Database,
        gate: Gate,
        providers: Mapping[str, ModelProvider],
    ) -> None:
        self.app = app
        self.service = service
        self.providers = providers
        self._agents = agents
        self._worker = worker
        self._recovery = recovery
        self._feeds = feeds
        self._database = database
        self._gate = gate

    async def schema(self) -> Schema:
        """How far the database's migrations are."""
        return await status(self._database, read_migrations())

    async def activate(self) -> int:
        """Begin to serve: agents stored, what a dead process left behind ended (how many runs), the gate open.

        Only the owner of the database may, once its migrations are complete.
        """
        await self._agents.save(DEFAULT_TENANT)
        recovered = await self._recovery.recover([])
        self._gate.closed = None
        return recovered

    async def work(self) -> None:
        """Execute queued runs until cancelled."""
        await self._worker.serve()

    async def drain(self, seconds: float) -> None:
        """Refuse what is new, send every stream elsewhere, let runs finish; what has not after the time is interrupted."""
        self._gate.closed = DRAINING
        self._worker.draining = True
        self._feeds.close()
        await self._worker.drain(seconds)
        await self.service.aclose()

    def hurry(self) -> None:
        """Interrupt what a drain still waits for."""
        self._worker.interrupt()


@asynccontextmanager
async def open_services(
    workspace: Workspace,
    dsn: str,
    *,
    environ: Mapping[str, str],
    http_client: httpx2.AsyncClient | None = None,
) -> AsyncIterator[Services]:
    """Every object over that database, connected; closed at the end, the database last.

    `http_client` replaces the SDKs' own for every provider.
    """
    settings = workspace.settings
    async with AsyncExitStack() as stack:
        tracing = open_tracing(environ, VERSION)
        stack.push_async_callback(tracing.aclose)
        metrics = Metrics(registry=CollectorRegistry(), version=VERSION)
        observer = RunTelemetry(tracing=tracing, metrics=metrics)
        database = await stack.enter_async_context(
            open_pool(
                dsn,
                pool_min=settings.database.pool_min,
                pool_max=settings.database.pool_max,
                statement_cache=settings.database.statement_cache,
            )
        )
        store = PostgresRunStore(database=database)
        providers = _providers(settings, http_client)
        for provider in providers.values():
            stack.push_async_callback(provider.aclose)
        router = Router(routes=_routes(settings, providers, tracing))
        python_tools = PythonToolbox(tools=workspace.tools)
        stack.push_async_callback(python_tools.aclose)
        agents = Agents(current=workspace.agents, default=settings.default_agent, store=store)
        feeds = Feeds()
        runner = Runner(
            store=store,
            provider=TracedProvider(provider=router, metrics=metrics),
            toolbox=TracedToolbox(toolbox=python_tools, tracing=tracing, metrics=metrics),
            observer=observer,
            feeds=feeds,
        )
        recovery = Recovery(store=store, feeds=feeds, agents=agents, observer=observer)
        worker = Worker(
            store=store,
            runner=runner,
            recovery=recovery,
            feeds=feeds,
            agents=agents,
            render=render,
            observer=observer,
            concurrency=settings.worker.concurrency,
        )
        service = RunService(store=store, agents=agents, worker=worker, feeds=feeds, render=render, observer=observer)
        gate = Gate(PENDING)
        targets = Targets(
            routes={name: tuple(target.provider for target in route.chain) for name, route in settings.routes.items()}
        )
        loop_watch = LoopWatch()
        watching = asyncio.create_task(loop_watch.run())
        stack.push_async_callback(_stopped, watching)
        readings = _readings(database, gate, loop_watch, targets)
        stack.push_async_callback(readings.aclose)
        app = create_app(
            service=service,
            readings=readings,
            targets=targets,
            metrics=metrics,
            tracing=tracing,
            gate=gate,
            max_body=settings.server.max_body,
            max_streams=settings.server.max_streams,
        )
        yield Services(
            app=app,
            service=service,
            agents=agents,
            worker=worker,
            recovery=recovery,
            feeds=feeds,
            database=database,
            gate=gate,
            providers=providers,
        )


async def _stopped(task: asyncio.Task[None]) -> None:
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


def _providers(settings: Settings, http_client: httpx2.AsyncClient | None) -> dict[str, ModelProvider]:
    """A client for each provider that a route uses."""
    used = {target.provider for route in settings.routes.values() for target in route.chain}
    return {
        name: open_provider(
            name=name,
            kind=provider.kind,
            api=provider.api,
            api_key=provider.api_key,
            base_url=provider.base_url,
            own_host=provider.own_host,
            http_client=http_client,
        )
        for name, provider in settings.providers.items()
        if name in used and provider.kind != "offline"
    }


def _routes(settings: Settings, providers: Mapping[str, ModelProvider], tracing: Tracing) -> dict[str, Route]:
    def target(provider: str, model: str) -> Target:
        client = providers.get(provider)
        asked: Target = OfflineTarget(provider=provider, model=model) if client is None else client.target(model)
        return TracedTarget(target=asked, tracing=tracing)

    return {
        name: Route(
            targets=tuple(target(t.provider, t.model) for t in route.chain),
            timeout=route.timeout,
            first_token_timeout=route.first_token_timeout,
            idle_timeout=route.idle_timeout,
        )
        for name, route in settings.routes.items()
    }


def _readings(database: Database, gate: Gate, loop_watch: LoopWatch, targets: Targets) -> Readings:
    migrations = read_migrations()

    async def answers() -> tuple[CheckStatus, str | None]:
        await database.fetchval("SELECT 1")
        return "ok", None

    async def migrated() -> tuple[CheckStatus, str | None]:
        pending = (await status(database, migrations)).pending
        return ("failed", f"pending: {', '.join(pending)}; run `steadyhand migrate`") if pending else ("ok", None)

    async def serving() -> tuple[CheckStatus, str | None]:
        return ("ok", None) if gate.closed is None else ("failed", gate.closed)

    async def configured() -> tuple[CheckStatus, str | None]:
        return "ok", "configured"

    return Readings(
        version=VERSION,
        vital={"database": answers, "migrations": migrated, "serving": serving, "event_loop": loop_watch.check},
        others={f"provider:{name}": configured for name in targets.providers},
    )
