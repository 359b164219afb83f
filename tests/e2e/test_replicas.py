"""Several replicas and workers on one database: what clients see through a load balancer, and what a rollout does to runs."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx2
import pytest

from tests.e2e.conftest import KEY, agent
from tests.e2e.provider import StandIn, stand_in
from tests.e2e.wires import hangs, says
from tests.faults.balancer import Balancer, balancer
from tests.faults.follower import Follower
from tests.faults.replicas import Kind, Replicas, replicas
from tests.faults.script import settings
from tests.redis_server import RedisServer
from tests.waiting import until

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(sys.platform == "win32", reason="the replicas are told apart by signals"),
    pytest.mark.timeout(300),  # it starts many processes, which takes its time on a busy machine
]

PIECES = [f"{n}: naïve 🚀 café – “{n}” " for n in range(12)]
TEXT = "".join(PIECES)
FLEET: tuple[Kind, ...] = ("api", "api", "worker", "worker")
READERS = int(os.environ.get("READERS", "200"))
RUNS = int(os.environ.get("RUNS", "20"))
CUT_AFTER = float(os.environ.get("CUT_AFTER", "0.2"))


class Fleet:
    """Two API replicas and two workers, the provider they ask, and a balancer before the replicas. `live`: they have Redis."""

    def __init__(self, *, processes: Replicas, provider: StandIn, front: Balancer, live: bool) -> None:
        self.processes = processes
        self.provider = provider
        self.front = front
        self.live = live

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.front.port}"

    async def post(self, path: str, body: Any, **headers: str) -> httpx2.Response:
        async with httpx2.AsyncClient(trust_env=False, verify=False, timeout=60.0) as client:
            return await client.post(self.url + path, json=body, headers=headers)

    async def begin(self, question: str, **more: Any) -> str:
        """The id of a run that was begun in the background."""
        answer = await self.post("/v1/runs", {"agent": "chat", "input": question, "background": True, **more})
        assert answer.status_code == 202, answer.text
        found: str = answer.json()["id"]
        return found

    def follower(self, run_id: str, *, port: int | None = None, drop_after: int | None = None) -> Follower:
        return Follower(port=port or self.front.port, path=f"/v1/runs/{run_id}/events", drop_after=drop_after)


@pytest.fixture(params=["redis", "no redis"])
def speed(request: pytest.FixtureRequest) -> dict[str, str]:
    """With and without the server that carries live text."""
    return {"REDIS_URL": request.getfixturevalue("redis")} if request.param == "redis" else {}


@asynccontextmanager
async def open_fleet(folder: Path, database: str, speed: dict[str, str], *kinds: Kind) -> AsyncIterator[Fleet]:
    """Those processes, with a lease of 2 s and 2 s to drain."""
    async with stand_in() as provider:
        written = agent("chat").replace(", wait_for, launch_rocket", "")
        files = {"agents/chat.yaml": written, "steadyhand.toml": settings(provider.url)}
        environ = {
            "DATABASE_URL": database,
            "STAND_IN_KEY": KEY,
            "STEADYHAND__WORKER__LEASE": "2",
            "STEADYHAND__WORKER__DRAIN": "2",
        }
        async with (
            replicas(folder, files, environ | speed, *kinds) as processes,
            balancer(*(replica.port for replica in processes.of("api"))) as front,
        ):
            yield Fleet(processes=processes, provider=provider, front=front, live=bool(speed))
        assert not provider.unscripted


@pytest.fixture
async def fleet(tmp_path: Path, database: str, speed: dict[str, str]) -> AsyncIterator[Fleet]:
    """A fleet of the test's own."""
    async with open_fleet(tmp_path, database, speed, *FLEET) as opened:
        yield opened


async def test_clients_behind_a_balancer(fleet: Fleet) -> None:
    await _clients_that_drop(fleet)
    await _connections_that_are_cut(fleet)
    await _one_key(fleet)
    await _a_cancel_from_elsewhere(fleet)
    await _many_readers(fleet)


async def _clients_that_drop(fleet: Fleet) -> None:
    """After every k-th event, while the text grows and when it is long over."""
    gates = [asyncio.Event() for _ in range(4)]
    pieces: list[str | asyncio.Event] = []
    for n, piece in enumerate(PIECES):
        pieces += [gates[n // 3], piece] if n % 3 == 0 else [piece]
    call = says("First ", "the sum.", calls=[("c", "calculator", '{"expression": "6*7"}')])
    fleet.provider.script("drop", call, says(*pieces))
    run_id = await fleet.begin("drop")
    followers = [fleet.follower(run_id, drop_after=k) for k in (1, 2, 3, 7)]
    reading = [asyncio.create_task(follower.run()) for follower in followers]
    await fleet.provider.wait("drop", 2)
    for n, gate in enumerate(gates, 1):
        gate.set()
        if fleet.live:
            await until(partial(_read, followers, "".join(PIECES[: 3 * n])))
    await asyncio.gather(*reading)
    late = [fleet.follower(run_id, drop_after=k) for k in (1, 2, 3, 7)]
    await asyncio.gather(*(follower.run() for follower in late))
    for follower in followers + late:
        assert follower.problems == []
        assert follower.spelt == TEXT
        assert follower.finished is not None
        assert follower.finished["output"] == TEXT


def _read(followers: Sequence[Follower], text: str) -> bool:
    """Whether each of them has read that of a message that is still being written."""
    return all(any(spelt.startswith(text) for spelt in follower.texts.values()) for follower in followers)


async def _connections_that_are_cut(fleet: Fleet) -> None:
    gate = asyncio.Event()
    fleet.provider.script("cut", says(*PIECES[:5], gate, *PIECES[5:]))
    async with balancer(*fleet.front.ports, cut_after=CUT_AFTER) as hasty:
        run_id = await fleet.begin("cut")
        followers = [fleet.follower(run_id, port=hasty.port) for _ in range(3)]
        reading = [asyncio.create_task(follower.run()) for follower in followers]
        await until(lambda: hasty.cuts >= 9)
        gate.set()
        await asyncio.gather(*reading)
    for follower in followers:
        assert (follower.problems, follower.spelt) == ([], TEXT)


async def _one_key(fleet: Fleet) -> None:
    """Fifty callers, one key: one run, and its answer for everybody."""
    fleet.provider.script("once", says(*PIECES))
    key, session = uuid4().hex, f"s-{uuid4().hex}"
    body = {"message": "once", "session_id": session}
    answers = await asyncio.gather(*(fleet.post("/chat", body, **{"Idempotency-Key": key}) for _ in range(50)))
    assert Counter(answer.status_code for answer in answers) == {200: 50}
    assert {answer.json()["response"] for answer in answers} == {TEXT}
    assert len({answer.json()["run_id"] for answer in answers}) == 1
    assert len({answer.content for answer in answers}) == 1
    again = await fleet.post("/chat", body, **{"Idempotency-Key": key})
    assert (again.json(), again.headers["idempotency-replayed"]) == (answers[0].json(), "true")
    assert len(fleet.provider.asked("once")) == 1


async def _a_cancel_from_elsewhere(fleet: Fleet) -> None:
    """From either replica; whoever executes the run leaves its provider."""
    for replica in fleet.processes.of("api"):
        question = f"cancel {replica.port}"
        fleet.provider.script(question, hangs("Half an"))
        run_id = await fleet.begin(question)
        (call,) = await fleet.provider.wait(question)
        answer = await replica.service.post(f"/v1/runs/{run_id}/cancel", {"reason": "enough"})
        assert answer.status_code == 202
        async with asyncio.timeout(5):
            await call.left.wait()
        follower = await fleet.follower(run_id).run()
        assert follower.problems == []
        assert follower.finished is not None
        assert (follower.finished["status"], follower.finished["cancellation"]["reason"]) == ("cancelled", "enough")


async def _many_readers(fleet: Fleet) -> None:
    gate, half = asyncio.Event(), asyncio.Event()
    fleet.provider.script("many", says(*PIECES[:5], gate, *PIECES[5:8], half, *PIECES[8:]))
    run_id = await fleet.begin("many")
    ports = fleet.front.ports
    followers = [fleet.follower(run_id, port=ports[n % len(ports)]) for n in range(READERS)]
    reading = [asyncio.create_task(follower.run(60.0)) for follower in followers]
    await until(lambda: all("run.started" in follower.names for follower in followers), within=40)
    gate.set()
    half.set()
    await asyncio.gather(*reading)
    for follower in followers:
        assert (follower.problems, follower.spelt) == ([], TEXT)


async def test_redis_dies_in_the_middle_of_a_run(tmp_path: Path, database: str, own_redis: RedisServer) -> None:
    """Text comes whole then, and live again when Redis is back."""
    async with open_fleet(tmp_path, database, {"REDIS_URL": own_redis.url}, "api", "api", "worker") as fleet:
        assert await _live_until(fleet, "dies", own_redis.kill)
        assert not await _live_until(fleet, "is away", lambda: None, within=0.3)
        own_redis.start()
        deadline = time.monotonic() + 20.0
        while not await _live_until(fleet, f"is back? {time.monotonic()}", lambda: None, within=1.0):
            assert time.monotonic() < deadline, "text is not live again"


async def _live_until(fleet: Fleet, question: str, then: Callable[[], None], *, within: float = 10.0) -> bool:
    """Whether readers at both replicas had the first half of a text before its second one was written. All end with all of it."""
    gate = asyncio.Event()
    fleet.provider.script(question, says(*PIECES[:6], gate, *PIECES[6:]))
    run_id = await fleet.begin(question)
    followers = [fleet.follower(run_id, port=port) for port in fleet.front.ports]
    reading = asyncio.gather(*(follower.run() for follower in followers))
    await fleet.provider.wait(question)
    try:
        await until(partial(_read, followers, "".join(PIECES[:6])), within=within)
        live = True
    except AssertionError:
        live = False
    then()
    gate.set()
    await reading
    assert [(follower.problems, follower.spelt) for follower in followers] == [([], TEXT)] * 2
    return live


@pytest.mark.parametrize("speed", ["no redis"], indirect=True)
async def test_a_rolling_restart_of_all_workers_under_load(fleet: Fleet) -> None:
    """No run is lost, and no model call that was finished is paid for again. Half of the calls outlast the grace time."""
    call = [("c", "calculator", '{"expression": "6*7"}')]
    gates = {}
    for n in range(RUNS):
        gates[n] = asyncio.Event()
        fleet.provider.script(f"load {n}", says("One. ", calls=call), says(gates[n], "Two."), says("Two."))
    ids = [await fleet.begin(f"load {n}") for n in range(RUNS)]
    for gate in list(gates.values())[: RUNS // 2]:
        gate.set()
    for worker in fleet.processes.of("worker"):
        worker.service.signal(signal.SIGTERM)
        assert await worker.service.exit(within=30) == 0, worker.service.stderr[-3000:]
        await worker.restart()
    for gate in gates.values():
        gate.set()
    followers = await asyncio.gather(*(fleet.follower(run_id).run(60.0) for run_id in ids))
    for n, follower in enumerate(followers):
        assert follower.problems == []
        assert follower.finished is not None
        assert (follower.finished["status"], follower.finished["output"]) == ("succeeded", "Two."), n
        first = [call for call in fleet.provider.asked(f"load {n}") if not call.results]
        assert len(first) == 1, f"the first call of run {n} was finished and paid for again"
        whole = [call for call in fleet.provider.asked(f"load {n}") if call.results and call.said]
        assert len(whole) == 1, f"the second call of run {n} was finished and paid for again"
