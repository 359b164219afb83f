"""The cache between real processes: one provider call for everybody, two levels, and what becomes of it when something dies."""

from __future__ import annotations

import asyncio
import random
import sys
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.e2e.conftest import KEY, agent
from tests.e2e.provider import Call, StandIn, stand_in
from tests.e2e.service import serve
from tests.e2e.service import workspace as write
from tests.e2e.wires import Reply, says
from tests.faults.replicas import Replicas, replicas
from tests.faults.script import settings
from tests.redis_server import RedisServer
from tests.waiting import until

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="processes are killed by signals")

CACHED = agent("chat").replace(", wait_for, launch_rocket", "") + "cache: {ttl: 600}\n"


def answer_to(question: str) -> str:
    return f"This is said of {question!r}."


@asynccontextmanager
async def echo(gate: asyncio.Event | None = None) -> AsyncIterator[StandIn]:
    """A provider that says to each question what is said of it, once the gate is open."""

    def reply(call: Call) -> Reply:
        text = answer_to(call.question)
        return says(text) if gate is None else says(gate, text)

    async with stand_in(replies=reply) as provider:
        yield provider


async def asked(client: httpx2.AsyncClient, url: str, question: str) -> tuple[str, bool]:
    """The answer, and whether it was cached."""
    answer = await client.post(f"{url}/agents/chat", json={"input": question})
    assert answer.status_code == 200, answer.text
    body: dict[str, Any] = answer.json()
    assert body["metadata"]["iterations"] == (0 if body["metadata"]["cached"] else 1)
    return body["result"], body["metadata"]["cached"]


def clients() -> httpx2.AsyncClient:
    limits = httpx2.Limits(max_connections=2000)
    return httpx2.AsyncClient(trust_env=False, verify=False, timeout=120.0, limits=limits)


@pytest.mark.long
async def test_many_at_once_are_one_call_of_the_provider(tmp_path: Path) -> None:
    gate = asyncio.Event()
    async with echo(gate) as provider:
        write(tmp_path, {"agents/chat.yaml": CACHED, "steadyhand.toml": settings(provider.url)})
        async with serve(tmp_path, environ={"STAND_IN_KEY": KEY}) as service, clients() as client:
            asking = [asyncio.create_task(asked(client, service.url, "why?")) for _ in range(100)]
            await provider.wait("why?")

            async def waiting() -> bool:
                return await service.metric("agent_active_runs") == 64

            await until(waiting)
            gate.set()
            answers = await asyncio.gather(*asking)
            assert {text for text, _ in answers} == {answer_to("why?")}
            assert Counter(cached for _, cached in answers) == {True: 99, False: 1}
            assert len(provider.calls) == 1
            assert await service.metric("agent_cache_requests_total", cache="exact", result="hit") == 99
            assert await service.metric("agent_cache_requests_total", cache="exact", result="miss") == 1
            assert any(line.get("event", line.get("message")) == "cache_hit" for line in service.logs)
            response = await client.delete(f"{service.url}/v1/cache?agent=chat")
            assert (response.status_code, response.json()) == (200, {"dropped": 1})
            assert await asked(client, service.url, "why?") == (answer_to("why?"), False)


@asynccontextmanager
async def fleet(folder: Path, database: str, redis: str, provider: StandIn) -> AsyncIterator[Replicas]:
    """Two replicas that share a database and a Redis."""
    files = {"agents/chat.yaml": CACHED, "steadyhand.toml": settings(provider.url)}
    environ = {"DATABASE_URL": database, "REDIS_URL": redis, "STAND_IN_KEY": KEY, "STEADYHAND__WORKER__LEASE": "2"}
    async with replicas(folder, files, environ, "all", "all") as processes:
        yield processes


def urls(processes: Replicas) -> Sequence[str]:
    return [replica.service.url for replica in processes.all]


@pytest.mark.long
@pytest.mark.timeout(300)
async def test_a_thousand_at_once_over_two_replicas_are_one_call(tmp_path: Path, database: str, redis: str) -> None:
    gate = asyncio.Event()
    async with echo(gate) as provider, fleet(tmp_path, database, redis, provider) as processes, clients() as client:
        both = urls(processes)
        asking = [asyncio.create_task(asked(client, both[n % 2], "why?")) for n in range(1000)]
        await provider.wait("why?")
        gate.set()
        answers = await asyncio.gather(*asking)
        assert Counter(answers) == {(answer_to("why?"), True): 999, (answer_to("why?"), False): 1}
        assert len(provider.calls) == 1


@pytest.mark.long
@pytest.mark.timeout(600)
async def test_a_repetitive_load_from_cold(tmp_path: Path, database: str, redis: str) -> None:
    """5,000 requests, Zipf(1.0) over 500 questions, 32 at once over two replicas."""
    rng = random.Random(1729)
    ranks = range(1, 501)
    load = iter(rng.choices(ranks, weights=[1 / rank for rank in ranks], k=5_000))
    wrong = hits = 0
    async with echo() as provider, fleet(tmp_path, database, redis, provider) as processes, clients() as client:
        both = urls(processes)

        async def work() -> None:
            nonlocal wrong, hits
            for rank in load:
                question = f"question number {rank}"
                text, cached = await asked(client, rng.choice(both), question)
                wrong += text != answer_to(question)
                hits += cached

        await asyncio.gather(*(work() for _ in range(32)))
        assert wrong == 0
        assert len(provider.calls) == 5_000 - hits
        assert hits > 0.3 * 5_000
        assert max(Counter(call.question for call in provider.calls).values()) == 1


@pytest.mark.long
@pytest.mark.timeout(300)
async def test_a_replica_that_dies_with_the_lead_is_followed_by_the_other(
    tmp_path: Path, database: str, redis: str
) -> None:
    gate = asyncio.Event()
    async with echo(gate) as provider, fleet(tmp_path, database, redis, provider) as processes, clients() as client:
        one, two = processes.all
        lost = asyncio.create_task(asked(client, one.service.url, "why?"))
        await provider.wait("why?")
        waiting = [asyncio.create_task(asked(client, two.service.url, "why?")) for _ in range(5)]
        await until(lambda: _active(two.service, 5))
        assert len(provider.calls) == 1
        await one.service.kill()
        await asyncio.wait([lost])
        await provider.wait("why?", 2)
        gate.set()
        assert {text for text, _ in await asyncio.gather(*waiting)} == {answer_to("why?")}
        assert isinstance(lost.exception(), httpx2.TransportError)


async def _active(service: Any, count: int) -> bool:
    active: float = await service.metric("agent_active_runs")
    return active == count


@pytest.mark.long
@pytest.mark.timeout(300)
async def test_redis_dies_in_the_middle_and_nobody_notices(
    tmp_path: Path, database: str, own_redis: RedisServer
) -> None:
    async with (
        echo() as provider,
        fleet(tmp_path, database, own_redis.url, provider) as processes,
        clients() as client,
    ):
        both = urls(processes)
        load = iter([f"question number {n % 60}" for n in range(600)])
        done = 0

        async def work() -> None:
            nonlocal done
            for question in load:
                text, _ = await asked(client, both[done % 2], question)
                assert text == answer_to(question)
                done += 1

        working = [asyncio.create_task(work()) for _ in range(8)]
        await until(lambda: done > 150)
        own_redis.kill()
        await until(lambda: done > 400)
        own_redis.start()
        await asyncio.gather(*working)
        assert len(provider.calls) <= 2 * 60 + 16
        assert (await client.get(both[0] + "/readiness")).status_code == 200
