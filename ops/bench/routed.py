"""What the router costs: model calls through all of it and past it, in one process that does nothing else, block by block.

One job on the command line (JSON), one result on standard output (JSON).
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, aclosing
from decimal import Decimal
from pathlib import Path
from uuid import uuid4

import msgspec
import uvloop
from prometheus_client import CollectorRegistry

from app.cli.life import settle_memory
from app.domain.events import RunCreated
from app.domain.messages import Message
from app.domain.models import Attempt, Completed, ModelRequest, Provider, Recorder, Target
from app.domain.principals import ANONYMOUS
from app.domain.stores import Accepted, NewEvent, NewRun
from app.llm.prices import PriceBook
from app.llm.providers import open_provider
from app.llm.router import Router
from app.runs import record
from app.runs.attempts import Attempts
from app.settings import load
from app.storage.postgres.pool import open_pool
from app.storage.postgres.runs import PostgresRunStore
from app.storage.postgres.usage import PostgresUsageLedger
from app.telemetry.metrics import Metrics
from app.telemetry.setup import open_tracing
from app.telemetry.traced import TracedProvider
from app.wiring.breakers import breakers_of
from app.wiring.budgets import RouteQuotes, caps_of
from app.wiring.models import providers_of, routes_of

BLOCK = 250
DELIVERED = 1.5
"""Seconds in which the spans of a block are on their way (they leave every second, as in the other parts): its block pays for them."""
ENVIRONMENT = {"APP_ENV": "bench", "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf", "OTEL_BSP_SCHEDULE_DELAY": "1000"}
PRICES = '[{"model": "mock/plain", "input": 1.0, "output": 5.0, "cache_read": 0.1}]'


class Routed(msgspec.Struct, kw_only=True):
    """`calls` calls each way; the model and the collector are at `mock_port`, the migrated database at `dsn`. `workspace`: where the routes are."""

    mock_port: int
    dsn: str
    calls: int
    workspace: str


class RoutedResult(msgspec.Struct, kw_only=True):
    """Mean CPU milliseconds of the process, all its threads, for one call."""

    on: float
    off: float


class Book:
    """The journal of one run, to which every call adds its `usage.recorded`; a call through the router is settled by that write."""

    def __init__(self, *, store: PostgresRunStore, run: Accepted, run_id: str) -> None:
        self._store = store
        self._run_id = run_id
        self._seq = run.last_seq
        self.epoch = run.epoch

    async def write(self, attempt: Attempt, request: ModelRequest) -> None:
        self._seq += 1
        event = NewEvent(
            seq=self._seq,
            id=uuid4(),
            name="usage.recorded",
            payload=msgspec.json.encode(record.usage(attempt, request)),
            settles=record.settlement(attempt),
        )
        await self._store.append(self._run_id, self.epoch, [event])


async def routed(job: Routed) -> RoutedResult:
    """Blocks of calls on and off in turn; the first of each does not count. Raises AssertionError for a wrong answer."""
    url = f"http://127.0.0.1:{job.mock_port}"
    environ = ENVIRONMENT | {
        "OPENAI_BASE_URL": f"{url}/v1",
        "OPENAI_API_KEY": "bench",
        "OTEL_EXPORTER_OTLP_ENDPOINT": url,
        "STEADYHAND__PRICES": PRICES,
    }
    file = Path(job.workspace) / "steadyhand.toml"
    settings = load(environ, {str(file): file.read_text(encoding="utf-8")})
    caps = caps_of(settings)
    spent = {True: 0.0, False: 0.0}
    async with AsyncExitStack() as stack:
        database = await stack.enter_async_context(open_pool(job.dsn))
        store = PostgresRunStore(database=database, owner="bench", lease=3600.0, caps=caps)
        run_id = f"run_{uuid4().hex[:28]}"
        book = Book(store=store, run=await _begun(store, run_id), run_id=run_id)
        tracing = open_tracing(environ, "bench")
        stack.push_async_callback(tracing.aclose)
        metrics = Metrics(registry=CollectorRegistry(), version="bench")
        prices = PriceBook(own=settings.prices)
        providers = providers_of(settings, prices, None)
        bare = open_provider(name="mock", kind="openai", api="chat", api_key="bench", base_url=f"{url}/v1")
        for provider in (*providers.values(), bare):
            stack.push_async_callback(provider.aclose)
        router = Router(routes=routes_of(settings, providers, tracing), breakers=breakers_of(settings, None, metrics))
        opener = Attempts(
            ledger=PostgresUsageLedger(database=database, caps=caps),
            quotes=RouteQuotes(settings=settings, prices=prices),
            run_id=run_id,
            epoch=book.epoch,
        )
        ways: dict[bool, Callable[[int], Awaitable[Completed]]] = {
            True: _through(TracedProvider(provider=router, metrics=metrics), opener, book),
            False: _past(bare.target("plain"), book),
        }
        for number in range(2 * (job.calls // BLOCK + 1)):
            on = number % 2 == 0
            began = time.process_time()
            for n in range(BLOCK):
                completed = await ways[on](n)
                assert f"The sum is {n + 1}" in completed.content, completed
            await asyncio.sleep(DELIVERED)
            if number == 1:
                settle_memory()  # as the service does once it is ready
            if number > 1:
                spent[on] += time.process_time() - began
    calls = job.calls // BLOCK * BLOCK
    return RoutedResult(on=spent[True] * 1000 / calls, off=spent[False] * 1000 / calls)


async def _begun(store: PostgresRunStore, run_id: str) -> Accepted:
    """A run that is executed here."""
    fields = {"session_id": f"ses_{run_id}", "agent": "plain", "agent_version": "bench", "user_id": "ann"}
    created = RunCreated(run_id=run_id, message_id="msg_1", input="What is 1 + 1?", **fields)
    run = NewRun(id=run_id, tags={}, created=msgspec.json.encode(created), needs_usd=Decimal(0), **fields)
    accepted = await store.start(ANONYMOUS, run, slot=True)
    assert isinstance(accepted, Accepted), accepted
    return accepted


def _request(n: int) -> ModelRequest:
    said = Message(id="msg_1", role="user", content=f"What is {n} + 1?")
    return ModelRequest(route="plain", system="Add the numbers.", messages=(said,), affinity=f"session {n}")


def _through(provider: Provider, opener: Attempts, book: Book) -> Callable[[int], Awaitable[Completed]]:
    async def ask(n: int) -> Completed:
        request, recorder = _request(n), Recorder(opener)
        async with aclosing(provider.stream(request, recorder)) as chunks:
            completed = [chunk async for chunk in chunks if isinstance(chunk, Completed)][-1]
        await book.write(recorder.attempts[-1], request)
        return completed

    return ask


def _past(target: Target, book: Book) -> Callable[[int], Awaitable[Completed]]:
    async def ask(n: int) -> Completed:
        request = _request(n)
        attempt = Attempt(number=1, provider="mock", model="plain", started=time.monotonic())
        async with aclosing(target.stream(request, attempt)) as chunks:
            completed = [chunk async for chunk in chunks if isinstance(chunk, Completed)][-1]
        attempt.outcome = "ok"
        await book.write(attempt, request)
        return completed

    return ask


if __name__ == "__main__":
    result = uvloop.run(routed(msgspec.json.decode(sys.argv[1], type=Routed)))
    sys.stdout.buffer.write(msgspec.json.encode(result))
