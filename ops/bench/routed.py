"""What the router costs: model calls through all of it and past it, in one process that does nothing else, block by block.

One job on the command line (JSON), one result on standard output (JSON).
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, aclosing
from pathlib import Path

import msgspec
import uvloop
from prometheus_client import CollectorRegistry

from app.domain.messages import Message
from app.domain.models import Attempt, Completed, ModelRequest, Provider, Recorder, Target
from app.llm.providers import open_provider
from app.llm.router import Router
from app.settings import load
from app.telemetry.metrics import Metrics
from app.telemetry.setup import open_tracing
from app.telemetry.traced import TracedProvider
from app.wiring.breakers import breakers_of
from app.wiring.models import providers_of, routes_of

BLOCK = 50
DELIVERED = (
    0.3  # seconds in which the spans of a block are on their way (they leave every 0.1 s): its block pays for them
)
ENVIRONMENT = {"APP_ENV": "bench", "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf", "OTEL_BSP_SCHEDULE_DELAY": "100"}
PRICES = '[{"model": "mock/plain", "input": 1.0, "output": 5.0, "cache_read": 0.1}]'


class Routed(msgspec.Struct, kw_only=True):
    """`calls` calls each way; the model and the collector are at `mock_port`. `workspace`: where the routes are."""

    mock_port: int
    calls: int
    workspace: str


class RoutedResult(msgspec.Struct, kw_only=True):
    """Mean CPU milliseconds of the process, all its threads, for one call."""

    on: float
    off: float


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
    spent = {True: 0.0, False: 0.0}
    async with AsyncExitStack() as stack:
        tracing = open_tracing(environ, "bench")
        stack.push_async_callback(tracing.aclose)
        metrics = Metrics(registry=CollectorRegistry(), version="bench")
        providers = providers_of(settings, None)
        bare = open_provider(name="mock", kind="openai", api="chat", api_key="bench", base_url=f"{url}/v1")
        for provider in (*providers.values(), bare):
            stack.push_async_callback(provider.aclose)
        breakers = breakers_of(settings, None, metrics)
        router = Router(routes=routes_of(settings, providers, tracing), breakers=breakers)
        ways: dict[bool, Callable[[int], Awaitable[Completed]]] = {
            True: _through(TracedProvider(provider=router, metrics=metrics)),
            False: _past(bare.target("plain")),
        }
        for number in range(2 * (job.calls // BLOCK + 1)):
            on = number % 2 == 0
            began = time.process_time()
            for n in range(BLOCK):
                completed = await ways[on](n)
                assert f"The sum is {n + 1}" in completed.content, completed
            await asyncio.sleep(DELIVERED)
            if number > 1:
                spent[on] += time.process_time() - began
    calls = job.calls // BLOCK * BLOCK
    return RoutedResult(on=spent[True] * 1000 / calls, off=spent[False] * 1000 / calls)


def _request(n: int) -> ModelRequest:
    said = Message(id="msg_1", role="user", content=f"What is {n} + 1?")
    return ModelRequest(route="plain", system="Add the numbers.", messages=(said,), affinity=f"session {n}")


def _through(provider: Provider) -> Callable[[int], Awaitable[Completed]]:
    async def ask(n: int) -> Completed:
        async with aclosing(provider.stream(_request(n), Recorder())) as chunks:
            return [chunk async for chunk in chunks if isinstance(chunk, Completed)][-1]

    return ask


def _past(target: Target) -> Callable[[int], Awaitable[Completed]]:
    async def ask(n: int) -> Completed:
        attempt = Attempt(number=1, provider="mock", model="plain", started=time.monotonic())
        async with aclosing(target.stream(_request(n), attempt)) as chunks:
            return [chunk async for chunk in chunks if isinstance(chunk, Completed)][-1]

    return ask


if __name__ == "__main__":
    result = uvloop.run(routed(msgspec.json.decode(sys.argv[1], type=Routed)))
    sys.stdout.buffer.write(msgspec.json.encode(result))
