"""A worker that stood still for longer than its lease, and comes back when another one has gone on in its place."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Awaitable
from pathlib import Path

import pytest

from tests.faults.cuts import Cut, stop
from tests.faults.house import TOPOLOGIES, House, house
from tests.faults.replicas import Replica
from tests.faults.runs import Scripted
from tests.waiting import until

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(sys.platform != "linux", reason="the kit reads /proc"),
    pytest.mark.timeout(300),  # it starts many processes, which takes its time on a busy machine
]


async def test_a_worker_that_comes_back_writes_nothing(tmp_path: Path, database: str) -> None:
    async with house(tmp_path, database, *TOPOLOGIES["split"]) as opened:
        await _comes_back_in_the_middle(opened)
        await _comes_back_after_the_end(opened)


async def _comes_back_in_the_middle(opened: House) -> None:
    """It stopped while it paid; the other one, which cannot know how that ended, has begun the next step."""
    opened.knife.arm(Cut("effect", 3, "after"), stop)
    run = Scripted(house=opened, name="zombie in the middle")
    finished = asyncio.create_task(run.finished())
    await opened.knife.reached.wait()
    opened.world.gate.clear()
    try:
        await opened.world.wait(5)
        zombie = _stopped(opened)
        os.kill(zombie.pid, signal.SIGCONT)
        await until(lambda: _fenced(zombie))
    finally:
        opened.world.gate.set()
    await finished
    assert await run.problems() == []
    events = await run.journal()
    assert [e["data"]["attempt"] for e in events if e["event"] == "run.started"] == [1, 2]
    (paid,) = [e["data"] for e in events if e["event"] == "tool.finished" and e["data"]["call_id"] == "c3"]
    assert paid["status"] == "outcome_unknown"
    opened.world.effects.clear()


async def _comes_back_after_the_end(opened: House) -> None:
    """It stopped when its write was on the way, which arrives when the run is long over."""
    late = asyncio.Event()

    def delay(pid: int) -> Awaitable[bool]:
        stop(pid)

        async def arrives() -> bool:
            return await late.wait()

        return arrives()

    refused = {replica.pid: await _refused(replica) for replica in opened.executing()}
    opened.knife.arm(Cut("statement", 9, "before"), delay)
    run = await Scripted(house=opened, name="zombie after the end").finished()
    assert await run.problems() == []
    before = await run.journal()
    zombie = _stopped(opened)
    late.set()
    os.kill(zombie.pid, signal.SIGCONT)
    await until(lambda: _fenced(zombie, refused[zombie.pid]))
    assert await run.journal() == before


def _stopped(opened: House) -> Replica:
    return next(replica for replica in opened.replicas.all if replica.pid == opened.knife.pid)


async def _fenced(replica: Replica, before: float = 0.0) -> bool:
    return await _refused(replica) > before


async def _refused(replica: Replica) -> float:
    return await replica.service.metric("agent_fenced_writes_total")
