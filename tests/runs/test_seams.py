"""Where money, cache, summaries and crashes meet: a run says the same of itself in its row, its end, and the ledger."""

from __future__ import annotations

import asyncio
from decimal import Decimal
from typing import Any

import msgspec
import pytest

from app.domain.agents import Budget, Caching, Limits
from app.domain.errors import BudgetExhausted
from app.domain.events import RunFinished
from app.domain.messages import Usage
from app.domain.models import Completed, ModelRequest, TextDelta
from app.domain.prices import Price, Rates
from app.domain.principals import ANONYMOUS
from app.runs.service import StartRun
from app.storage.local.answers import LocalAnswers
from tests.runs.conftest import Harness, react
from tests.runs.test_compaction import Talk, turns
from tests.runs.test_durability import end_of
from tests.scripted import ScriptedProvider, says
from tests.waiting import until

PRICE = Price(rates=Rates(input=Decimal(4), output=Decimal(20)))


async def spent(p: Harness, run_id: str) -> tuple[float, float, float]:
    """What the ledger's rows, the run and its end say that it cost."""
    rows = await p.database.fetchval("SELECT sum(cost_usd) FROM usage WHERE run_id = $1", run_id)
    run = await p.service.run(ANONYMOUS, run_id)
    end = msgspec.json.decode((await p.events(run_id))[-1].payload, type=RunFinished)
    return float(rows or 0), run.cost_usd or 0.0, end.cost_usd or 0.0


async def test_who_goes_on_after_a_kill_is_not_answered_from_the_cache(start_process: Any) -> None:
    """What the dead attempt cost is the run's: a cached one costs nothing."""
    agent = react(name="chat", kind="chat", tools=(), cache=Caching(ttl=60.0))
    stuck, near = ScriptedProvider([asyncio.Event()], price=PRICE), LocalAnswers()
    async with start_process(stuck, agent, lease=1.0) as p:
        dead = await p.service.start(ANONYMOUS, StartRun(input="why?"))
        await until(lambda: len(stuck.requests) == 1)
        await p.die()
        other = ScriptedProvider(says("Because."), says("Because."), price=PRICE)
        async with start_process(other, agent, owner="other", near=near) as q:
            await q.service.result(await q.service.start(ANONYMOUS, StartRun(input="why?")))
            await end_of(q, dead.run_id)
            assert not (await q.service.run(ANONYMOUS, dead.run_id)).cached
            costs = await spent(q, dead.run_id)
            assert costs == pytest.approx([costs[0]] * 3)
            assert costs[0] > 0


async def test_what_a_dead_owner_left_open_is_its_successors_to_settle(start_process: Any) -> None:
    stuck = ScriptedProvider([asyncio.Event()], price=PRICE)
    async with start_process(stuck, lease=1.0) as p:
        dead = await p.service.start(ANONYMOUS, StartRun(input="why?"))
        await until(lambda: len(stuck.requests) == 1)
        await p.die()
        await p.database.execute("UPDATE usage SET started_at = started_at - interval '2 minutes'")
        await p.database.execute("UPDATE runs SET lease_epoch = lease_epoch + 1")  # taken over, and not yet looked at
        await p.housekeeping.settle()
        assert await p.database.fetchval("SELECT count(*) FROM usage WHERE settled_at IS NULL") == 1
        async with start_process(ScriptedProvider(says("Because."), price=PRICE), owner="other") as q:
            await end_of(q, dead.run_id)
            costs = await spent(q, dead.run_id)
            assert costs == pytest.approx([costs[0]] * 3)
            assert (await q.names(dead.run_id)).count("usage.recorded") == 2


async def test_a_run_that_is_cancelled_in_the_queue_keeps_what_it_used(start_process: Any) -> None:
    provider = ScriptedProvider(says("", ("c1", "slow", "{}")), price=PRICE)
    async with start_process(provider) as p:
        started = await p.service.start(ANONYMOUS, StartRun(input="why?"))
        await p.toolbox.started.wait()
        p.worker.draining = True
        p.worker.hurry()

        async def queued() -> bool:
            return bool((await p.service.run(ANONYMOUS, started.run_id)).status == "queued")

        await until(queued)
        await p.service.cancel(ANONYMOUS, started.run_id, None)
        run = await p.service.run(ANONYMOUS, started.run_id)
        assert (run.status, run.iterations) == ("cancelled", 1)
        assert run.usage == Usage(input_tokens=10, output_tokens=5)
        assert await spent(p, started.run_id) == pytest.approx([0.00014] * 3)


async def test_a_summary_leaves_what_the_answer_needs(start_process: Any) -> None:
    class Dear(Talk):
        def stream(self, request: ModelRequest, recorder: Any) -> Any:
            chunks = super().stream(request, recorder)
            usage = Usage(input_tokens=900, output_tokens=100)
            if request.purpose is msgspec.UNSET:
                text = f"answer {len(self.requests) - len(self.asked)}"
                self.answers[-1] = [TextDelta(text), Completed(content=text, stop="stop", usage=usage)]
            else:
                self.answers[-1] = [Completed(content="They count.", stop="stop", usage=usage)]
            return chunks

    for tokens, asked in ((2_500, 0), (5_000, 1)):
        talk = Dear(says("They count."))
        agent = react(context=Budget(tokens=2_000, summary="cheap"), limits=Limits(tokens=tokens))
        async with start_process(talk, agent) as p:
            (*_, last) = await turns(p, *range(4))
            end = msgspec.json.decode((await p.events(last))[-1].payload, type=RunFinished)
            assert (end.stop_reason, end.output) == ("completed", "answer 3")
            assert len(talk.asked) == asked
            await p.sessions.reset(ANONYMOUS, "s")


async def test_without_money_for_a_summary_there_is_none(start_process: Any) -> None:
    talk = Talk([BudgetExhausted("tenant")])
    async with start_process(talk, react(context=Budget(tokens=2_000, summary="cheap"))) as p:
        await turns(p, 0, 1, 2, 3)
        assert "messages before this one were left out" in talk.last.messages[0].content
