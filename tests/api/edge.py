"""The HTTP edge over a real database and a scripted model, in this process: without sockets, or behind the real server."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx2
import msgspec
from prometheus_client import CollectorRegistry

from app.access.authentication import Authentication, Keyless
from app.access.known import KnownKeys
from app.access.tokens import Tokens
from app.api.aside import Aside
from app.api.authentication import Access
from app.api.guards import Gate
from app.api.health import Readings
from app.api.here import OnlyHere
from app.api.idempotency import Idempotent
from app.api.limits import LimitRules, Limits
from app.api.prompts import Prompts
from app.api.schemas import PromptView
from app.api.targets import Chain, Targets
from app.batches.jobs import BatchJobs
from app.batches.parts import PartWork
from app.batches.service import BatchService
from app.callbacks.service import CallbackService
from app.cli.listening import BACKLOG, HeldServer
from app.cli.port import listen
from app.domain.agents import Agent
from app.domain.cache import SharedAnswers
from app.domain.errors import RequestError
from app.domain.experiments import Experiment
from app.domain.limits import Limiter
from app.domain.models import Provider
from app.domain.principals import DEFAULT_TENANT, Principal
from app.domain.tiers import TierRoute
from app.domain.tools import Risk
from app.domain.usage import Caps
from app.egress.addresses import is_public
from app.llm.breaker import Breakers
from app.main import create_app
from app.prompts.render import render
from app.runs.admission import UNBOUNDED, Admission
from app.runs.agents import Agents
from app.runs.answers import Answers
from app.runs.assembly import Runs, assemble
from app.runs.cache_service import CacheService
from app.runs.controls import ControlService
from app.runs.switches import Switches
from app.safety.guard import Screener
from app.storage.local.answers import LocalAnswers
from app.storage.local.limiter import LocalLimiter
from app.storage.postgres.api_keys import PostgresApiKeyStore
from app.storage.postgres.batches import PostgresBatchStore
from app.storage.postgres.callbacks import PostgresCallbackStore
from app.storage.postgres.controls import PostgresControls
from app.storage.postgres.hints import PostgresHints
from app.storage.postgres.pool import open_pool
from app.storage.postgres.runs import NO_CAPS, PostgresRunStore
from app.telemetry.http import AsgiApp
from app.telemetry.metrics import Metrics
from app.telemetry.setup import open_tracing
from tests.batches.answering import Offline
from tests.runs.conftest import OwnLeases, react, stores_of
from tests.scripted import Counts, NoHints, Notes, Quoted, ScriptedToolbox

LEASE = 30.0
NO_RULES = LimitRules()
FORBIDDEN = "inside.example"
"""The only host that a callback may not go to."""
Frame = tuple[str | None, str, Any]
"""The id, the name and the data of one event."""


class Always:
    """Everybody is that principal."""

    def __init__(self, principal: Principal) -> None:
        self._principal = principal

    async def principal(self, credential: str | None) -> Principal:
        return self._principal

    async def refused(self, credentials: Collection[str | None]) -> list[str | None]:
        return []


@dataclass
class Edge:
    """One process: its application, a client of it, and what is behind it."""

    app: AsgiApp
    client: httpx2.AsyncClient
    runs: Runs
    provider: Any
    toolbox: ScriptedToolbox
    gate: Gate
    breakers: Breakers
    notes: Notes

    async def ask(self, message: str = "hello", **more: Any) -> dict[str, Any]:
        """The answer of a turn that succeeds."""
        response = await self.client.post("/chat", json={"message": message} | more)
        assert response.status_code == 200, response.text
        answer: dict[str, Any] = response.json()
        return answer

    async def run(self, run_id: str) -> dict[str, Any]:
        """A run as it is now."""
        run: dict[str, Any] = (await self.client.get(f"/v1/runs/{run_id}")).json()
        return run

    async def became(self, run_id: str, *statuses: str) -> dict[str, Any]:
        """The run, once it has one of those statuses."""
        while (run := await self.run(run_id))["status"] not in statuses:
            pass
        return run

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
    max_stream_age: float = 3600.0,
    routes: Mapping[str, Chain] | None = None,
    clock: Callable[[], float] = time.monotonic,
    through: Callable[[Any], Any] = lambda store: store,
    toolbox: ScriptedToolbox | None = None,
    hinted: bool = False,
    far: SharedAnswers | None = None,
    principal: Principal | None = None,
    caps: Caps = NO_CAPS,
    four_eyes: Risk | None = None,
    tiers: Mapping[str, TierRoute] | None = None,
    experiments: Sequence[Experiment] = (),
    prompts: Sequence[PromptView] = (),
    tokens: Tokens | None = None,
    keyless: Keyless = "until_keys",
    open_metrics: bool = True,
    rules: LimitRules = NO_RULES,
    limiter: Limiter | None = None,
    front: Mapping[str, Any] | None = None,
    admission: Admission | None = None,
    per_tenant: int = UNBOUNDED,
) -> AsyncIterator[Edge]:
    """A process on that database that serves those agents, the first one by default. `through` may wrap its stores; `clock` is that of
    its breakers; `front` what the settings say of the edge; `hinted`: it tells and hears others. Callbacks are kept and not sent.
    """
    notes, gate = Notes(), Gate(None)
    aside = Aside()
    routes, breakers = routes or {"default": (("scripted", "m"),)}, Breakers(open_seconds=30, clock=clock)
    toolbox = toolbox or ScriptedToolbox()
    tracing = open_tracing({}, "test")
    metrics = Metrics(registry=CollectorRegistry(), version="test")
    async with open_pool(dsn) as database:
        store = through(
            PostgresRunStore(
                database=database, owner=f"test {id(notes)}", lease=LEASE, caps=caps, per_tenant=per_tenant
            )
        )
        stores = stores_of(database, store, through, caps=caps)
        controls = PostgresControls(database=database)
        hints = PostgresHints(dsn=dsn) if hinted else NoHints()
        current = {agent.name: agent for agent in agents or (react(),)}
        registry = Agents(current=current, default=next(iter(current)), store=store, experiments=experiments)
        await registry.save(DEFAULT_TENANT)
        runs = assemble(
            stores=stores,
            agents=registry,
            render=render,
            provider=provider,
            quotes=Quoted(getattr(provider, "price", None)),
            tiers=tiers,
            toolbox=toolbox,
            observer=notes,
            screen=Screener(),
            hints=hints,
            switches=Switches(store=controls),
            admission=admission or Admission(),
            leases=OwnLeases(),
            answers=Answers(near=LocalAnswers(), far=far, count=Counts().count),
            concurrency=concurrency,
            lease=LEASE,
            max_attempts=3,
            approval_ttl=3600.0,
            four_eyes=four_eyes,
            keep_alive=keep_alive,
        )
        callbacks = CallbackService(
            store=PostgresCallbackStore(database=database),
            resolver=_addresses,
            allow=is_public,
            wake=lambda: None,
        )
        batch_store, offline = PostgresBatchStore(database=database, caps=caps), Offline()
        work = PartWork(
            store=batch_store,
            definition=registry.version,
            providers=offline,
            render=render,
            screen=Screener(),
            off=runs.switches.run,
        )
        jobs = BatchJobs(store=batch_store, work=work)
        batches = BatchService(
            store=batch_store,
            agent=registry.get,
            providers=offline,
            render=render,
            wake=jobs.wake,
            no_budget=lambda scope: RequestError("budget_exhausted", scope),
            check=runs.switches.check,
        )
        known = KnownKeys(store=PostgresApiKeyStore(database=database))
        authentication = Authentication(keys=known, tokens=tokens, keyless=keyless)
        access = Access(
            authentication=authentication if principal is None else Always(principal),
            open_metrics=open_metrics,
            only_here=OnlyHere(origins=(front or {}).get("cors_origins", ())) if keyless == "here" else None,
        )
        app = create_app(
            service=runs.service,
            sessions=runs.sessions,
            approvals=runs.approvals,
            audit_log=runs.audit,
            usage=runs.usage,
            callbacks=callbacks,
            batches=batches,
            caches=CacheService(answers=runs.answers, hints=hints),
            controls=ControlService(store=controls, switches=runs.switches, agents=registry),
            idempotent=Idempotent(store=stores.keys),
            readings=Readings(version="test", vital={}, others={}),
            targets=Targets(routes=routes, breakers=breakers, tiers=tiers),
            prompt_list=Prompts(prompts),
            metrics=metrics,
            tracing=tracing,
            gate=gate,
            limits=Limits(
                limiter=LocalLimiter() if limiter is None else limiter,
                repeats=LocalLimiter(),
                rules=rules,
                refused=metrics.refused,
            ),
            aside=aside,
            max_body=max_body,
            max_streams=max_streams,
            max_stream_age=max_stream_age,
            access=access,
            **(front or {}),
        )
        if isinstance(hints, PostgresHints):
            await hints.start(runs.here, runs.worker.queued)
        serving = [
            asyncio.create_task(loop)
            for loop in (
                runs.worker.serve(),
                runs.follower.run(),
                jobs.serve(),
                access.revocations.serve(),
                runs.switches.serve(),
                *([runs.housekeeping.serve()] if admission else []),
            )
        ]
        client = httpx2.AsyncClient(
            transport=httpx2.ASGITransport(app=app, raise_app_exceptions=True),
            base_url="http://steadyhand",
            timeout=30,
        )
        try:
            async with client:
                yield Edge(app, client, runs, provider, toolbox, gate, breakers, notes)
        finally:
            toolbox.gate.set()
            gate.closed = "closing"
            runs.feeds.close()
            await runs.worker.drain(1.0)
            await runs.service.aclose()
            await runs.answers.aclose()
            await known.aclose()
            for task in serving:
                task.cancel()
            await asyncio.wait(serving)
            if isinstance(hints, PostgresHints):
                await hints.aclose()
            aside.close()
            await tracing.aclose()


async def _addresses(host: str, _: int) -> list[str]:
    return ["10.0.0.1" if host == FORBIDDEN else "93.184.216.34"]


@asynccontextmanager
async def listening(app: AsgiApp, *, read_timeout: float = 30.0) -> AsyncIterator[int]:
    """The application behind the real server, started as `serve` does it; gives the port."""
    held = listen("127.0.0.1", 0, BACKLOG)
    port: int = held.getsockname()[1]
    server = HeldServer(app, held, backpressure=1024, read_timeout=read_timeout)
    task = asyncio.create_task(server.serve())
    try:
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
