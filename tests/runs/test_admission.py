"""How much may wait and run at once: what is refused, what is only delayed, and who comes before whom."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from app.domain.errors import RequestError
from app.domain.principals import Principal
from app.domain.shares import has_room
from app.runs.admission import Admission
from app.runs.service import StartRun
from tests.runs.conftest import react
from tests.scripted import ScriptedProvider, says
from tests.waiting import until

BIG, SMALL = Principal(tenant="big"), Principal(tenant="small")


def refused(admission: Admission, tenant: str) -> bool:
    try:
        admission.check(tenant)
    except RequestError as error:
        return (error.code, error.retry_after) == ("queue_full", 1.0)
    return False


def test_a_full_place_still_takes_a_little_of_each_tenant() -> None:
    assert has_room(500, 499, 499)
    assert not has_room(500, 500, 500)
    assert has_room(500, 500, 4)
    assert not has_room(500, 500, 5)
    assert has_room(3, 3, 0)
    assert not has_room(3, 3, 1)


def test_the_queue_is_what_was_seen_and_what_joined_and_left_since() -> None:
    told: list[str] = []
    admission = Admission(queue_max=3, refused=told.append)
    for _ in range(3):
        assert not refused(admission, "big")
        admission.joined("big")
    assert refused(admission, "big")
    assert told == ["queue"]
    assert not refused(admission, "small")
    admission.left("big")
    assert not refused(admission, "big")
    admission.look()
    admission.joined("big")
    admission.learned({"big": 0, "other": 1})
    assert not refused(admission, "big")
    admission.joined("big")
    assert refused(admission, "big")
    admission.look()
    admission.learned({})
    assert not refused(admission, "big")


def test_what_is_being_stored_counts_as_stored() -> None:
    admission = Admission(queue_max=2)
    admission.asks("big")
    admission.asks("big")
    assert refused(admission, "big")
    admission.look()
    admission.learned({})
    assert refused(admission, "big")
    admission.asked("big")
    assert not refused(admission, "big")


async def test_a_full_queue_refuses_without_asking_the_database(start_process: Any) -> None:
    admission = Admission(queue_max=2)
    gate = asyncio.Event()
    provider = ScriptedProvider([gate, *says("ok")], *[says("ok")] * 9)
    async with start_process(provider, concurrency=1, admission=admission) as p:
        started = [await p.service.start(BIG, StartRun(input=str(n))) for n in range(3)]
        assert [one.status for one in started] == ["running", "queued", "queued"]
        with pytest.raises(RequestError) as error:
            await p.service.start(BIG, StartRun(input="one too many"))
        assert error.value.code == "queue_full"
        with pytest.raises(RequestError):
            await p.service.start(BIG, StartRun(input="later", delay=3600))
        with pytest.raises(RequestError) as error:
            await p.service.start(BIG, StartRun(input="x" * 10_001))
        assert error.value.code == "queue_full"  # nobody has looked at the input
        assert (await p.service.start(SMALL, StartRun(input="the first of its tenant"))).status == "queued"
        gate.set()
        for one in started:
            await p.service.result(one)
        await p.service.result(await p.service.start(BIG, StartRun(input="there is room again")))


async def test_delayed_runs_are_in_the_queue_too_and_every_process_sees_them(start_process: Any) -> None:
    admission = Admission(queue_max=2)
    async with start_process(ScriptedProvider()) as p, start_process(ScriptedProvider(), admission=admission) as other:
        for n in range(2):
            await p.service.start(BIG, StartRun(input=str(n), delay=3600))
        await other.housekeeping.round()
        assert refused(admission, "big")
        assert (await p.store.queue()) == (0, 0.0, {"big": 2})


async def test_a_tenant_runs_no_more_than_it_may_and_its_next_run_follows(start_process: Any) -> None:
    gates = [asyncio.Event() for _ in range(5)]
    provider = ScriptedProvider(*[[gate, *says("ok")] for gate in gates])
    async with start_process(provider, concurrency=8, per_tenant=2) as p:
        # One after another: of starts at the same moment each may be one too many.
        started = [await p.service.start(BIG, StartRun(input=str(n))) for n in range(4)]
        await until(lambda: len(provider.requests) == 2)
        assert sorted(one.status for one in started) == ["queued", "queued", "running", "running"]
        small = await p.service.start(SMALL, StartRun(input="small"))
        await until(lambda: len(provider.requests) == 3)
        assert len(p.worker._running) == 3
        gates[0].set()
        await until(lambda: len(provider.requests) == 4)
        assert len(p.worker._running) == 3
        for gate in gates:
            gate.set()
        for one in (*started, small):
            assert (await p.service.result(one)).status == "succeeded"


async def test_what_arrives_is_not_born_while_others_wait(start_process: Any) -> None:
    gate = asyncio.Event()
    provider = ScriptedProvider([gate, *says("ok")], *[says("ok")] * 3)
    async with start_process(provider, concurrency=1) as p:
        first = await p.service.start(BIG, StartRun(input="first"))
        waiting = await p.service.start(SMALL, StartRun(input="waits"))
        p.worker._concurrency = 2  # a slot comes free, and nobody has looked at the queue yet
        assert not p.worker.reserve("big", "helper")
        gate.set()
        for one in (first, waiting):
            await p.service.result(one)
        await until(lambda: not p.worker._waiting)
        assert (await p.service.start(BIG, StartRun(input="nobody waits"))).status == "running"


async def test_what_arrives_does_not_overtake_what_waits(start_process: Any) -> None:
    gate = asyncio.Event()
    order: list[str] = []

    def note(request: Any) -> Any:
        order.append(request.messages[-1].content)
        return says("ok")

    provider = ScriptedProvider([gate, *says("ok")], *[note] * 40)
    async with start_process(provider, concurrency=1) as p:
        first = await p.service.start(BIG, StartRun(input="first"))
        waiting = await p.service.start(SMALL, StartRun(input="waits"))
        gate.set()
        flood = [first]
        while "waits" not in order:  # somebody arrives at every moment
            flood.append(await p.service.start(BIG, StartRun(input="arrives")))
        await p.service.result(waiting)
        assert order.index("waits") <= 1, order
        for one in flood:
            await p.service.result(one)


async def test_an_agent_has_no_more_runs_than_it_may_on_two_processes_and_others_do_not_wait(
    start_process: Any,
) -> None:
    gates = [asyncio.Event() for _ in range(6)]
    left, right = (ScriptedProvider(*[[gate, *says("ok")] for gate in gates]) for _ in range(2))
    one_at_a_time, free = react(name="narrow", concurrency=2), react(name="free")

    def asked() -> int:
        return len(left.requests) + len(right.requests)

    async with (
        start_process(left, one_at_a_time, free, owner="left") as a,
        start_process(right, one_at_a_time, free, owner="right") as b,
    ):
        started = [
            (p, await p.service.start(BIG, StartRun(input=str(n), agent="narrow")))
            for n, p in enumerate((a, b, a, b, a))
        ]
        await until(lambda: asked() == 2)
        assert {one.status for _, one in started} == {"queued"}
        other = await b.service.start(SMALL, StartRun(input="free", agent="free"))
        await until(lambda: asked() == 3)
        assert len(a.worker._running) + len(b.worker._running) == 3
        for gate in gates:
            gate.set()
        for p, one in [*started, (b, other)]:
            assert (await p.service.result(one)).status == "succeeded"
        assert len(a.worker._running) + len(b.worker._running) == 0
        assert asked() == 6
