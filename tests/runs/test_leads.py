"""Those who ask the same at once: one takes the lead and the others wait, for as long as that is of use."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from app.domain.cache import Selection
from app.domain.models import ModelRequest
from app.domain.principals import ANONYMOUS
from app.runs.service import StartRun
from tests.runs.conftest import Harness
from tests.runs.test_cache import DOWN, HIT, MISS, WRITE, Echo, Tools, ask, chatting, many, tooled
from tests.runs.test_durability import end_of
from tests.scripted import ScriptedProvider, says
from tests.waiting import until


async def test_many_at_once_are_one_call(start_process: Any) -> None:
    """More of them than there are slots: those who wait hold theirs, and nothing stands still."""
    gate = asyncio.Event()
    echo = Echo(gate)
    async with start_process(echo, chatting(), concurrency=8) as p:
        asked = asyncio.create_task(many(p, 60))
        await until(lambda: echo.asked and len(p.worker._running) >= 8)
        gate.set()
        ends = await asked
        assert echo.asked == {"why?": 1}
        assert {end.output for end in ends} == {"answer to why?"}
        assert Counter(end.cached for end in ends) == {True: 59, False: 1}
        assert p.counts == {MISS: 1, HIT: 59}


async def waiting(p: Harness, count: int, provider: Any, question: str = "why?") -> list[asyncio.Task[Any]]:
    """That many questions: one is asked, the others wait for its answer."""
    first = asyncio.create_task(ask(p, question))
    await until(lambda: provider.requests)
    others = [asyncio.create_task(ask(p, question)) for _ in range(count - 1)]
    await until(lambda: len(p.worker._running) == count and _following(p) == count - 1)
    return [first, *others]


def _following(p: Harness) -> int:
    return sum(len(lead.ended._waiters) for lead in p.answers._leads.values())


@pytest.mark.parametrize("more", [{}, {"fallback_reply": "Later."}], ids=["failed", "degraded"])
async def test_after_a_failed_lead_one_takes_over_and_after_two_each_asks_for_itself(
    start_process: Any, more: dict[str, str]
) -> None:
    gates = [asyncio.Event(), asyncio.Event()]
    provider = ScriptedProvider([gates[0], DOWN], [gates[1], DOWN], *[says("ok")] * 4)
    async with start_process(provider, chatting(**more)) as p:
        runs = await waiting(p, 6, provider)
        gates[0].set()
        assert (await runs[0]).stop_reason == "providers_unavailable"
        await until(lambda: _following(p) == 4 and len(provider.requests) == 2)
        gates[1].set()
        ends = await asyncio.gather(*runs)
        assert Counter(end.stop_reason for end in ends) == {"providers_unavailable": 2, "completed": 4}
        assert len(provider.requests) == 6


@pytest.mark.parametrize("when", ["it writes", "it was no whole answer"])
async def test_those_who_wait_for_what_is_anothers_own_ask_at_once(start_process: Any, when: str) -> None:
    gate = asyncio.Event()
    turn = says("", WRITE) if when == "it writes" else says("half", stop="length")
    later: Callable[[ModelRequest], Any] = lambda request: (  # noqa: E731
        says("done") if request.messages[-1].role == "tool" else turn
    )
    provider = ScriptedProvider([gate, *turn], *[later] * 20)
    async with start_process(provider, tooled(), toolbox=Tools()) as p:
        runs = await waiting(p, 5, provider)
        gate.set()
        ends = await asyncio.gather(*runs)
        assert {end.output for end in ends} == {"done" if when == "it writes" else "half"}
        assert p.counts == {MISS: 5}
        assert len(provider.requests) == (10 if when == "it writes" else 5)


async def test_who_waits_can_be_stopped_and_a_stopped_lead_is_anothers(start_process: Any) -> None:
    gate = asyncio.Event()
    provider = ScriptedProvider([asyncio.Event()], [gate, *says("ok")])
    async with start_process(provider, chatting()) as p:
        lead = await p.service.start(ANONYMOUS, StartRun(input="why?"))
        await until(lambda: provider.requests)
        stopped, last = [await p.service.start(ANONYMOUS, StartRun(input="why?")) for _ in range(2)]
        await until(lambda: _following(p) == 2)
        await p.service.cancel(ANONYMOUS, stopped.run_id, None)
        assert (await p.service.result(stopped)).status == "cancelled"
        await p.service.cancel(ANONYMOUS, lead.run_id, None)
        await until(lambda: len(provider.requests) == 2)
        gate.set()
        assert (await p.service.result(last)).output == "ok"
        assert (await ask(p)).cached


async def test_who_waits_in_a_process_that_ends_is_answered_elsewhere(start_process: Any) -> None:
    provider = ScriptedProvider([asyncio.Event()], says("ok"), says("ok"))
    async with start_process(provider, chatting()) as old:
        runs = [await old.service.start(ANONYMOUS, StartRun(input="why?")) for _ in range(2)]
        await until(lambda: provider.requests and _following(old) == 1)
        async with start_process(provider, chatting(), concurrency=1) as new:
            old.worker.draining = True
            old.worker.hurry()
            for run in runs:
                names = await end_of(new, run.run_id)
                assert names.count("run.started") == 2
            ends = [await new.service.run(ANONYMOUS, run.run_id) for run in runs]
            assert {end.output for end in ends} == {"ok"}
            assert Counter(end.cached for end in ends)[True] <= 1


async def test_an_answer_under_way_is_not_kept_after_a_drop_nor_waited_for(start_process: Any) -> None:
    gate = asyncio.Event()
    provider = ScriptedProvider([gate, *says("old")], says("new"))
    async with start_process(provider, chatting()) as p:
        first, second = await waiting(p, 2, provider)
        assert await p.answers.drop(Selection(tag="none").labels("default")) == (0, True)
        assert p.answers._leads
        await p.answers.drop(Selection(agent="chat").labels("default"))
        assert (await ask(p)).output == "new"
        gate.set()
        assert [(await run).output for run in (first, second)] == ["old", "old"]
        assert (await ask(p)).output == "new"
