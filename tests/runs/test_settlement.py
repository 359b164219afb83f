"""However a run ends: no attempt stays open, nothing stays reserved, and the rows say what the journal says."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from decimal import Decimal
from typing import Any

import msgspec
import pytest

from app.domain import events as ev
from app.domain.errors import ProviderError, ProvidersUnavailable
from app.domain.models import ModelRequest, TextDelta
from app.domain.prices import Price, Rates
from app.domain.principals import ANONYMOUS
from app.domain.usage import Caps, UsageQuery
from app.runs.service import StartRun
from app.runs.stream import parse_cursor
from app.storage.postgres.usage import PostgresUsageLedger
from tests.runs.asking import time_is_up
from tests.runs.conftest import Harness
from tests.runs.test_durability import end_of, sound
from tests.scripted import Say, ScriptedProvider, says
from tests.waiting import until

PRICE = Price(rates=Rates(input=Decimal(10), output=Decimal(100)))
CAPS = Caps(tenant=Decimal(1000), levels=(Decimal(1),))


def hangs(_: ModelRequest) -> Say:
    """Half a word, and then nothing."""
    return [TextDelta("Half "), asyncio.Event()]


async def settled(p: Harness, run_id: str) -> list[tuple[str, str, int | None, float | None]]:
    """Every row of the run as (basis, outcome, input, dollars); they are what its journal says."""
    rows = await p.database.fetch("SELECT * FROM usage WHERE run_id = $1 ORDER BY started_at, id", run_id)
    found = [
        (r["basis"], r["outcome"], r["input_tokens"], None if r["cost_usd"] is None else float(r["cost_usd"]))
        for r in rows
    ]
    told = [e for stored in await p.events(run_id) if isinstance(e := ev.decode(stored), ev.UsageRecorded)]
    assert found == [(e.basis, e.outcome, e.usage.input_tokens if e.usage else None, e.cost_usd) for e in told]
    assert {row["reserved"] for row in await p.database.fetch("SELECT reserved FROM budgets")} == {0}
    spent = sum(row["spent"] for row in await p.database.fetch("SELECT spent FROM budgets"))
    assert float(spent) == pytest.approx(sum(cost or 0 for *_, cost in found))
    return found


async def cancels(p: Harness, run_id: str) -> None:
    await until(lambda: p.provider.requests)
    await p.service.cancel(ANONYMOUS, run_id, None)


async def is_late(p: Harness, run_id: str) -> None:
    await time_is_up(p, run_id)


async def nothing(p: Harness, run_id: str) -> None: ...


REFUSED = [ProvidersUnavailable("r", [ProviderError("auth", "no")])]
GOOD = ("provider", "ok", 10, 0.0006)


@pytest.mark.parametrize(
    ("answers", "does", "status", "want"),
    [
        ([says("Done.")], nothing, "succeeded", [GOOD]),
        ([says("", ("c1", "echo", "{}")), says("Done.")], nothing, "succeeded", [GOOD, GOOD]),
        ([REFUSED], nothing, "failed", [("estimated", "auth", None, None)]),
        ([says("", ("c1", "risky", "{}"))], nothing, "waiting", [GOOD]),
        ([hangs], cancels, "cancelled", [("estimated", "cancelled", None, None)]),
        ([hangs, says("In short.")], is_late, "succeeded", [("estimated", "cancelled", None, None), GOOD]),
    ],
)  # fmt: skip
async def test_however_it_ends(
    start_process: Any, answers: Any, does: Callable[[Harness, str], Awaitable[None]], status: str, want: Any
) -> None:
    async with start_process(ScriptedProvider(*answers, price=PRICE), caps=CAPS) as p:
        started = await p.service.start(ANONYMOUS, StartRun(input="go"))
        await does(p, started.run_id)
        await p.service.result(started)
        assert (await p.service.run(ANONYMOUS, started.run_id)).status == status
        assert await settled(p, started.run_id) == want


async def test_what_is_handed_on_is_settled_before(start_process: Any) -> None:
    provider = ScriptedProvider(hangs, says("Done."), price=PRICE)
    async with start_process(provider, caps=CAPS) as leaving:
        started = await leaving.service.start(ANONYMOUS, StartRun(input="go"))
        await until(lambda: provider.requests)
        leaving.worker.draining = True
        leaving.worker.hurry()
        await until(lambda: leaving.notes.handed_on)
        assert await settled(leaving, started.run_id) == [("estimated", "cancelled", None, None)]
        async with start_process(provider, caps=CAPS) as p:
            await end_of(p, started.run_id)
            sound(await p.events(started.run_id))
            assert await settled(p, started.run_id) == [("estimated", "cancelled", None, None), GOOD]


async def _killed(p: Harness) -> str:
    """A run whose process dies in a model call."""
    started = await p.service.start(ANONYMOUS, StartRun(input="go"))
    await until(lambda: p.provider.requests)
    # As a killed process would: not even its connections say goodbye to what it had begun.
    await p.database.execute("UPDATE runs SET lease_epoch = lease_epoch + 1, lease_owner = 'dead'")
    await p.die()
    (row,) = await p.database.fetch("SELECT * FROM usage")
    assert (row["settled_at"], row["reserved_usd"] > 0) == (None, True)
    assert await p.database.fetchval("SELECT reserved FROM budgets") == row["reserved_usd"]
    await p.store.orphan(["dead"])
    return started.run_id


async def test_who_takes_over_settles_what_the_dead_left(start_process: Any) -> None:
    """By its estimate of the input: what it wrote nobody has seen."""
    async with start_process(ScriptedProvider(hangs, price=PRICE), caps=CAPS) as dead:
        run_id = await _killed(dead)
        async with start_process(ScriptedProvider(says("Done."), price=PRICE), caps=CAPS) as p:
            await end_of(p, run_id)
            events = await p.events(run_id)
            sound(events)
            (lost, good) = await settled(p, run_id)
            run = await p.service.run(ANONYMOUS, run_id)
    assert good == GOOD
    basis, outcome, tokens, cost = lost
    assert (basis, outcome) == ("abandoned", "abandoned")
    assert tokens
    assert cost is not None
    assert cost == pytest.approx(tokens * 10 / 1_000_000)
    assert run.cost_usd == pytest.approx(cost + 0.0006)
    told = next(msgspec.json.decode(e.payload) for e in events if e.name == "usage.recorded")
    assert (told["usage"]["output_tokens"], told["cost_usd"]) == (None, cost)


async def test_a_run_that_is_given_up_leaves_nothing_open(start_process: Any) -> None:
    async with start_process(ScriptedProvider(hangs, price=PRICE), caps=CAPS) as dead:
        run_id = await _killed(dead)
        await dead.database.execute("UPDATE runs SET failures = 5")
        async with start_process(ScriptedProvider(price=PRICE), caps=CAPS) as p:
            await end_of(p, run_id)
            assert (await p.service.run(ANONYMOUS, run_id)).status == "failed"
            ((basis, *_),) = await settled(p, run_id)
            names = await p.names(run_id)
            cursor = f"{names.index('usage.recorded')}.5"  # of one who had read half a word
            read = [
                item.name
                async for batch in await p.service.events(ANONYMOUS, run_id, parse_cursor(cursor))
                for item in batch
            ]
    assert basis == "abandoned"
    assert read == ["usage.recorded", "message.reset", "run.finished"]


async def test_what_is_deleted_is_swept(start_process: Any) -> None:
    async with start_process(ScriptedProvider(hangs, price=PRICE), caps=CAPS) as p:
        started = await p.service.start(ANONYMOUS, StartRun(input="go", session_id="s"))
        await until(lambda: p.provider.requests)
        await p.database.execute("DELETE FROM sessions")
        p.worker.lost([started.run_id])
        await until(lambda: p.notes.refused_writes)
        await p.database.execute("UPDATE usage SET started_at = started_at - interval '2 minutes'")
        await p.housekeeping.settle()
        (row,) = await p.database.fetch("SELECT basis, cost_usd FROM usage")
        assert row["basis"] == "abandoned"
        assert tuple(await p.database.fetchrow("SELECT spent, reserved FROM budgets") or ()) == (row["cost_usd"], 0)


async def test_a_call_waits_for_a_database_that_is_away(start_process: Any) -> None:
    """It does not go out unrecorded."""
    provider = ScriptedProvider(says("Done."), price=PRICE)
    async with start_process(provider, caps=CAPS) as p:
        async with p.database.transaction() as held:
            await held.execute("LOCK TABLE usage IN ACCESS EXCLUSIVE MODE")
            started = await p.service.start(ANONYMOUS, StartRun(input="go"))
            blocked = (
                "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%open_attempt%'"
            )
            await until(lambda: _one(p.database.fetchval(blocked)))
            assert provider.requests == []
        await p.service.result(started)
        assert await settled(p, started.run_id) == [GOOD]


async def _one(count: Awaitable[int]) -> bool:
    return await count == 1


async def test_reports_and_records_are_the_same_ledger(start_process: Any) -> None:
    async with start_process(ScriptedProvider(says("Done."), price=PRICE), caps=CAPS) as p:
        started = await p.service.start(ANONYMOUS, StartRun(input="go", tags={"team": "x"}))
        await p.service.result(started)
        ledger = PostgresUsageLedger(database=p.database, caps=CAPS)
        (group,) = (await ledger.report(ANONYMOUS, UsageQuery(group_by="tag:team"))).data
        assert (group.key, group.requests, group.cost_usd) == ("x", 1, 0.0006)
