"""The composition root: every object of a process, built in order from its workspace, closed in reverse. Starts no server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any

from prometheus_client import CollectorRegistry

from app.access.authentication import Keyless
from app.api.aside import Aside
from app.api.guards import Gate
from app.api.health import LoopWatch
from app.api.idempotency import Idempotent
from app.api.prompts import Prompts
from app.api.targets import Targets
from app.domain.principals import DEFAULT_TENANT
from app.llm.breaker import Breakers
from app.llm.prices import PriceBook
from app.llm.providers import ModelProvider
from app.llm.router import Router
from app.main import VERSION, create_app, create_worker_app
from app.prompts.render import render
from app.runs.agents import Agents
from app.runs.assembly import Runs, Stores, assemble
from app.runs.cache_service import CacheService
from app.runs.controls import ControlService
from app.runs.heartbeat import Heartbeat
from app.runs.switches import Switches
from app.runs.tool_calls import TOOL_GRACE
from app.safety.guard import Screener
from app.storage.migrate import Schema, read_migrations, status
from app.storage.postgres.approvals import PostgresApprovalStore
from app.storage.postgres.audit import PostgresAuditLog
from app.storage.postgres.controls import PostgresControls
from app.storage.postgres.hints import PostgresHints
from app.storage.postgres.keys import PostgresKeyStore
from app.storage.postgres.pool import Database, open_pool, open_single
from app.storage.postgres.runs import PostgresRunStore
from app.storage.postgres.sessions import PostgresSessionStore
from app.storage.postgres.tool_uses import PostgresToolUses
from app.storage.postgres.usage import PostgresUsageLedger
from app.storage.redis.live import open_live
from app.telemetry.http import AsgiApp
from app.telemetry.metrics import Metrics
from app.telemetry.runs import RunTelemetry
from app.telemetry.setup import open_tracing
from app.telemetry.traced import TracedProvider, TracedToolbox
from app.tools.guarded import GuardedToolbox
from app.tools.toolbox import PythonToolbox
from app.wiring.access import Entrance, entrance_of
from app.wiring.batches import batches_of
from app.wiring.breakers import breakers_of
from app.wiring.budgets import RouteQuotes, caps_of, check_budgets
from app.wiring.caches import answers_of
from app.wiring.callbacks import callbacks_of
from app.wiring.limits import admission_of, limits_of
from app.wiring.models import providers_of, routes_of
from app.wiring.owners import Role as Role
from app.wiring.owners import died_here, name_of
from app.wiring.prompts import prompt_views
from app.wiring.readiness import readings_of
from app.wiring.reload import reloading_of
from app.workspace.load import Workspace

if TYPE_CHECKING:
    import httpx2

Loop = Callable[[], Coroutine[Any, Any, None]]
"""What goes on by itself, until it is cancelled."""
DRAINING = "The service is shutting down. Send the request again in a moment."
PENDING = "The database lacks migrations: run `steadyhand migrate`."


class Services:
    """A process's objects. They are there, but nothing is done with them before `activate`."""

    def __init__(
        self,
        *,
        app: AsgiApp,
        runs: Runs,
        heartbeat: Heartbeat,
        hints: PostgresHints,
        store: PostgresRunStore,
        breakers: Breakers,
        database: Database,
        gate: Gate,
        providers: Mapping[str, ModelProvider],
        entrance: Entrance,
        loops: Sequence[Loop],
    ) -> None:
        self.app = app
        self.runs = runs
        self.providers = providers
        self.entrance = entrance
        self._heartbeat = heartbeat
        self._hints = hints
        self._store = store
        self._breakers = breakers
        self._database = database
        self._gate = gate
        self._loops = loops

    async def schema(self) -> Schema:
        """How far the database's migrations are."""
        return await status(self._database, read_migrations())

    async def activate(self) -> int:
        """Begin to serve: agents stored, other processes heard, their breakers known, the gate open. The migrations must be complete.

        What dead processes of this machine left running is taken over at once, without waiting for their leases: how
        many runs that are.
        """
        await self.entrance.keep_first_key()
        await self.runs.agents.save(DEFAULT_TENANT)
        orphans = await self._store.orphan([owner for owner in await self._store.owners() if died_here(owner)])
        await self._hints.start(self.runs.here, self._missed)
        await self._breakers.learn()
        await self.runs.switches.look()
        self._heartbeat.start()
        self._gate.closed = None
        return orphans

    def _missed(self) -> None:
        """Hints were lost: look at everything that they could have been about."""
        self.runs.answers.forget()
        self.runs.switches.changed()
        self.runs.worker.queued()
        for feed in self.runs.feeds.followed():
            self.runs.feeds.look(feed)

    async def work(self) -> None:
        """Everything that goes on by itself, until cancelled."""
        async with asyncio.TaskGroup() as group:
            for loop in self._loops:
                group.create_task(loop())

    async def drain(self, seconds: float) -> None:
        """Refuse what is new, send every stream elsewhere, let runs finish or hand them on; what has not after the time is cut off."""
        self._gate.closed = DRAINING
        self.runs.worker.draining = True
        self.runs.feeds.close()
        await self.runs.worker.drain(seconds)
        await self.runs.service.aclose()

    def hurry(self) -> None:
        """Cut off what a drain still waits for, and hand it on."""
        self.runs.worker.hurry()


@asynccontextmanager
async def open_services(
    workspace: Workspace,
    dsn: str,
    *,
    direct: str,
    role: Role = "all",
    concurrency: int | None = None,
    keyless: Keyless = "never",
    environ: Mapping[str, str],
    http_client: httpx2.AsyncClient | None = None,
) -> AsyncIterator[Services]:
    """Every object over that database, connected; closed at the end, the database last.

    `direct` leads to the database past any pooler. `role`: `all` answers requests and executes runs, `api` only answers,
    `worker` only executes, `concurrency` runs at once (default: the setting's). `keyless`:
    whether requests need no key. `http_client` replaces the SDKs' own for every provider. Raises ConfigError where a limit in dollars bounds nothing.
    """
    settings = workspace.settings
    await check_budgets(workspace)
    async with AsyncExitStack() as stack:
        tracing = open_tracing(environ, VERSION)
        stack.push_async_callback(tracing.aclose)
        metrics = Metrics(registry=CollectorRegistry(), version=VERSION)
        database = await stack.enter_async_context(
            open_pool(
                dsn,
                pool_min=settings.database.pool_min,
                pool_max=settings.database.pool_max,
                statement_cache=settings.database.statement_cache,
            )
        )
        caps = caps_of(settings)
        store = PostgresRunStore(
            database=database,
            owner=name_of(role),
            lease=settings.worker.lease,
            caps=caps,
            per_tenant=settings.admission.per_tenant,
        )
        controls = PostgresControls(database=database)
        keys = PostgresKeyStore(database=database)
        channel = await stack.enter_async_context(open_live(settings.redis.url)) if settings.redis.url else None
        breakers = breakers_of(settings, channel, metrics)
        prices = PriceBook(own=settings.prices)
        quotes = RouteQuotes(settings=settings, prices=prices)
        providers = providers_of(settings, prices, http_client)
        for provider in providers.values():
            stack.push_async_callback(provider.aclose)
        router = Router(routes=routes_of(settings, providers, tracing), breakers=breakers)
        python_tools = PythonToolbox(tools=workspace.tools)
        stack.push_async_callback(python_tools.aclose)
        entrance = await stack.enter_async_context(
            entrance_of(settings.auth, database, keyless=keyless, origins=settings.server.cors_origins)
        )
        hints = PostgresHints(dsn=direct, command=role)
        stack.push_async_callback(hints.aclose)
        answers = answers_of(settings, channel, providers, tracing, metrics)
        stack.push_async_callback(answers.aclose)
        heartbeat = Heartbeat(
            open_leases=lambda: _lease_store(direct, role, settings.worker.lease),
            lease=settings.worker.lease,
            grace=2 * TOOL_GRACE,
            lost=lambda run_ids: runs.worker.lost(run_ids),
            news=lambda held: runs.worker.news(held),
        )
        stack.push_async_callback(heartbeat.aclose)
        screen = Screener()
        runs = assemble(
            stores=Stores(
                runs=store,
                sessions=PostgresSessionStore(database=database),
                approvals=PostgresApprovalStore(database=database),
                audit=PostgresAuditLog(database=database),
                keys=keys,
                usage=PostgresUsageLedger(database=database, caps=caps),
            ),
            agents=Agents(
                current=workspace.agents, default=settings.default_agent, store=store, experiments=workspace.experiments
            ),
            render=render,
            provider=TracedProvider(provider=router, metrics=metrics),
            quotes=quotes,
            tiers=settings.tiers,
            toolbox=TracedToolbox(
                toolbox=GuardedToolbox(toolbox=python_tools, uses=PostgresToolUses(database=database)),
                tracing=tracing,
                metrics=metrics,
            ),
            observer=RunTelemetry(tracing=tracing, metrics=metrics),
            screen=screen,
            hints=hints,
            channel=channel,
            leases=heartbeat,
            answers=answers,
            admission=admission_of(settings, metrics),
            switches=Switches(store=controls),
            concurrency=0 if role == "api" else concurrency or settings.worker.concurrency,
            lease=settings.worker.lease,
            max_attempts=settings.worker.max_attempts,
            approval_ttl=settings.safety.approval_ttl,
            four_eyes=settings.safety.four_eyes,
        )
        deliveries, callbacks = callbacks_of(settings, database, store)
        jobs, batches = batches_of(settings, providers, database, runs, caps, screen)
        gate = Gate(PENDING)
        targets = Targets(
            routes={
                name: tuple((target.provider, target.model) for target in route.chain)
                for name, route in settings.routes.items()
            },
            breakers=breakers,
            tiers=settings.tiers,
            refused=lambda provider, model: providers[provider].refused(model) if provider in providers else [],
        )
        prompt_list = Prompts(prompt_views(workspace))
        loop_watch = LoopWatch()
        watching = asyncio.create_task(loop_watch.run())
        stack.push_async_callback(_stopped, watching)
        asked = None if role == "worker" else entrance.authentication
        readings = readings_of(database, gate, loop_watch, targets, channel, asked)
        stack.push_async_callback(readings.aclose)
        if role == "worker":
            app = create_worker_app(
                readings=readings, metrics=metrics, tracing=tracing, gate=gate, access=entrance.access
            )
        else:
            aside = Aside()
            stack.callback(aside.close)
            app = create_app(
                service=runs.service,
                sessions=runs.sessions,
                approvals=runs.approvals,
                audit_log=runs.audit,
                usage=runs.usage,
                callbacks=callbacks,
                batches=batches,
                caches=CacheService(answers=answers, hints=hints),
                controls=ControlService(store=controls, switches=runs.switches, agents=runs.agents),
                idempotent=Idempotent(store=keys),
                readings=readings,
                targets=targets,
                prompt_list=prompt_list,
                metrics=metrics,
                tracing=tracing,
                gate=gate,
                limits=limits_of(settings, channel, metrics),
                aside=aside,
                max_body=settings.server.max_body,
                max_streams=settings.server.max_streams,
                max_stream_age=settings.server.max_stream_age,
                access=entrance.access,
                cors_origins=settings.server.cors_origins,
                trusted_proxies=settings.server.trusted_proxies,
                root_path=settings.server.root_path,
                read_timeout=settings.server.read_timeout,
            )
        reloading = reloading_of(workspace, runs.agents, prompt_list)
        yield Services(
            app=app,
            runs=runs,
            heartbeat=heartbeat,
            hints=hints,
            store=store,
            breakers=breakers,
            database=database,
            gate=gate,
            providers=providers,
            entrance=entrance,
            loops=(
                runs.worker.serve,
                runs.follower.run,
                runs.housekeeping.serve,
                runs.switches.serve,
                deliveries.serve,
                breakers.share,
                *entrance.loops,
                *(() if role == "api" else (jobs.serve,)),
                *(() if reloading is None else (reloading.serve,)),
            ),
        )


@asynccontextmanager
async def _lease_store(dsn: str, role: Role, lease: float) -> AsyncIterator[PostgresRunStore]:
    """A store on one connection of its own: the heartbeat beats in a loop of its own, and waits for nobody."""
    async with open_single(dsn, application_name=f"steadyhand {role} lease", timeout=lease / 3) as database:
        yield PostgresRunStore(database=database, owner=name_of(role), lease=lease)


async def _stopped(task: asyncio.Task[None]) -> None:
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
