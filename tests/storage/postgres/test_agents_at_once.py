"""No more runs of an agent at a time than it may have: who waits for it waits aside, and comes in its turn."""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import uuid4

import msgspec
import pytest

from app.domain.principals import Principal
from app.domain.stores import Accepted, Owned
from app.storage.postgres.pool import Database, open_pool, queries
from app.storage.postgres.runs import PostgresRunStore
from tests.storage.postgres.test_claims import END
from tests.storage.postgres.test_fairness import _end, flood, store_of
from tests.storage.postgres.test_queue import run

TWO = {"a": 2}


async def queued(store: PostgresRunStore, name: str, agent: str, **more: Any) -> None:
    """A run of that name, in a session of that name; its tenant is what stands before the dash."""
    new = msgspec.structs.replace(run(0), **{"id": name, "session_id": name, "agent": agent, **more})
    accepted = await store.start(Principal(tenant=name.partition("-")[0]), new, slot=False)
    assert isinstance(accepted, Accepted)


async def claimed(store: PostgresRunStore, at_once: dict[str, int]) -> list[str]:
    """What is claimed, until there is nothing, or `full`."""
    found = []
    while isinstance(one := await store.claim(at_once), tuple):
        found.append(one[0].run_id)
    return [*found, one or "."]


async def ended(store: PostgresRunStore, database: Database, run_id: str) -> None:
    row = await database.fetchrow("SELECT lease_epoch, last_seq FROM runs WHERE id = $1", run_id)
    assert row is not None
    end = [msgspec.structs.replace(_end(), seq=row["last_seq"] + 1)]
    await store.finish(run_id, row["lease_epoch"], end, END, None)


async def aside(database: Database) -> list[str]:
    rows = await database.fetch("SELECT id FROM sessions WHERE held_for IS NOT NULL ORDER BY held_rank")
    return [row["id"] for row in rows]


async def test_a_run_waits_for_its_agent_and_keeps_nobody_back(database: str) -> None:
    async with open_pool(database) as db:
        store = store_of(db)
        for n in range(5):
            await queued(store, f"t-{n}", "a")
        await queued(store, "t-other", "b")
        assert await claimed(store, TWO) == ["t-0", "t-1", "t-other", "full"]
        assert await aside(db) == ["t-2", "t-3", "t-4"]
        await queued(store, "t-later", "b")
        assert await claimed(store, TWO) == ["t-later", "full"]
        for before, after in (("t-1", "t-2"), ("t-0", "t-3"), ("t-2", "t-4")):
            await ended(store, db, before)
            assert (await claimed(store, TWO))[0] == after
        await ended(store, db, "t-3")
        assert await claimed(store, TWO) == ["."]
        assert await aside(db) == []


async def test_those_who_claim_at_the_same_moment_do_not_take_one_too_many(database: str) -> None:
    async with open_pool(database, pool_max=8) as db:
        store = store_of(db)
        limits = {"a": 3, "b": 2, "c": 1}
        for n in range(24):
            await queued(store, f"t{n % 4}-{n}", "abc"[n % 3])
        left = 24
        while left:
            found = await asyncio.gather(*[store.claim(limits) for _ in range(8)])
            running = await db.fetch("SELECT id, agent FROM runs WHERE status = 'running'")
            agents = [row["agent"] for row in running]
            assert {name: agents.count(name) <= most for name, most in limits.items()} == dict.fromkeys(limits, True)
            assert running, found
            for row in running:
                await ended(store, db, row["id"])
            left -= len(running)


async def test_the_first_of_many_who_claim_at_once_is_the_only_one(database: str) -> None:
    """Nothing waits in the agent's line yet: the claims meet in the queue."""
    async with open_pool(database, pool_min=6, pool_max=6) as db:
        store = store_of(db)
        for turn in range(12):
            for n in range(6):
                await queued(store, f"t{n}-{turn}", "a")
            found = await asyncio.gather(*[store.claim({"a": 1}) for _ in range(6)])
            assert len([one for one in found if isinstance(one, tuple)]) == 1
            while (row := await db.fetchrow("SELECT id FROM runs WHERE status = 'running'")) is not None:
                await ended(store, db, row["id"])
                await store.claim({"a": 1})


async def test_tenants_take_turns_with_an_agent_and_one_that_is_full_keeps_nobody_from_it(database: str) -> None:
    async with open_pool(database) as db:
        store = store_of(db, most=2)
        for n in range(4):
            await queued(store, f"big-{n}", "a")
        await queued(store, "small-0", "a")
        await queued(store, "small-1", "a")
        order, limits = [], {"a": 1}
        while isinstance(one := await store.claim(limits), tuple):
            order.append(one[0].run_id)
            assert not isinstance(await store.claim(limits), tuple)
            await ended(store, db, one[0].run_id)
        assert len(order) == 6
        assert (order.index("small-0") <= 3, order.index("small-1") <= 5) == (True, True)
        for name in ("big-x", "big-y"):
            await queued(store, name, "b")
        assert await claimed(store, limits) == ["big-x", "big-y", "."]  # it has as many as it may
        for n in range(4, 7):
            await queued(store, f"big-{n}", "a")
        await queued(store, "small-2", "a")
        assert await claimed(store, limits) == ["small-2", "full"]
        await ended(store, db, "small-2")
        await queued(store, "small-3", "a")
        assert await claimed(store, limits) == ["small-3", "full"]


async def test_a_tenant_that_keeps_asking_starves_nobody_and_is_served_in_its_order(database: str) -> None:
    async with open_pool(database) as db:
        store = store_of(db)
        for n in range(12):
            await queued(store, f"a-{n}", "x")
        await queued(store, "z-0", "x")
        order: list[str] = []
        for n in range(12, 24):
            one = await store.claim({"x": 1})
            assert isinstance(one, tuple)
            order.append(one[0].run_id)
            await queued(store, f"a-{n}", "x")
            assert await store.claim({"x": 1}) == "full"
            await ended(store, db, order[-1])
        assert order.index("z-0") <= 3
        order.remove("z-0")
        assert order == [f"a-{n}" for n in range(11)]


async def test_a_session_that_is_told_more_keeps_its_place(database: str) -> None:
    async with open_pool(database) as db:
        store = store_of(db)
        for n in range(4):
            await queued(store, f"t-{n}", "x")
        assert await claimed(store, {"x": 1}) == ["t-0", "full"]
        await queued(store, "t-1b", "x", session_id="t-1")
        assert await claimed(store, {"x": 1}) == ["full"]
        await ended(store, db, "t-0")
        assert (await claimed(store, {"x": 1}))[0] == "t-1"


async def test_many_are_set_aside_by_several_statements(database: str) -> None:
    """None of them holds the sessions of a long line."""
    async with open_pool(database) as db:
        store = store_of(db)
        await flood(db, "big", 120)
        await queued(store, "small-1", "b")
        assert (await claimed(store, {"a": 1}))[1:] == ["small-1", "full"]
        assert len(await aside(db)) == 119
        row = await db.fetchrow(queries("runs.sql")["claim"], "me", 30.0, uuid4(), 1_000, ["a"], [1])
        assert row is not None
        await db.execute("UPDATE sessions SET ready_rank = held_rank, held_for = NULL WHERE held_for IS NOT NULL")
        row = await db.fetchrow(queries("runs.sql")["claim"], "me", 30.0, uuid4(), 1_000, ["a"], [1])
        assert row is not None
        assert (row["run_id"], row["created"]) == (None, b"{}")
        assert len(await aside(db)) == 50


async def test_of_a_tenants_own_the_more_urgent_one_goes_first(database: str) -> None:
    async with open_pool(database) as db:
        store = store_of(db)
        for n, priority in enumerate((0, 0, 5, 3)):
            await queued(store, f"t-{n}", "a", priority=priority)
        order = []
        while isinstance(one := await store.claim({"a": 1}), tuple):
            order.append(one[0].run_id)
            assert not isinstance(await store.claim({"a": 1}), tuple)
            await ended(store, db, one[0].run_id)
        assert order == ["t-2", "t-3", "t-0", "t-1"]


async def test_another_turn_of_a_session_that_waits_aside_changes_nothing(database: str) -> None:
    async with open_pool(database) as db:
        store = store_of(db)
        for name in ("t-0", "t-1"):
            await queued(store, name, "a")
        assert await claimed(store, {"a": 1}) == ["t-0", "full"]
        await queued(store, "t-1b", "b", session_id="t-1")
        assert await claimed(store, {"a": 1}) == ["full"]
        await ended(store, db, "t-0")
        assert await claimed(store, {"a": 1}) == ["t-1", "."]
        await ended(store, db, "t-1")
        assert await claimed(store, {"a": 1}) == ["t-1b", "."]
        assert await aside(db) == []


async def test_a_run_of_another_agent_is_not_born_before_the_one_that_waits_aside(database: str) -> None:
    async with open_pool(database) as db:
        store = store_of(db)
        for name in ("t-0", "t-1"):
            await queued(store, name, "a")
        await claimed(store, {"a": 1})
        new = msgspec.structs.replace(run(1), id="t-1b", session_id="t-1", agent="b")
        accepted = await store.start(Principal(tenant="t"), new, slot=True)
        assert isinstance(accepted, Accepted)
        assert accepted.status == "queued"


async def test_when_the_limit_is_gone_the_rounds_bring_back_who_waited_for_it(database: str) -> None:
    async with open_pool(database) as db:
        store = store_of(db)
        for n in range(3):
            await queued(store, f"t-{n}", "a")
        assert await claimed(store, {"a": 1}) == ["t-0", "full"]
        await db.execute("UPDATE runs SET queued_at = queued_at - interval '1 minute' WHERE status = 'queued'")
        assert await store.revive({"a"}) == 0
        assert await claimed(store, {}) == ["."]
        assert await store.revive(()) == 2
        assert await claimed(store, {}) == ["t-1", "t-2", "."]
        assert await aside(db) == []


async def test_a_recovered_run_counts_once(database: str) -> None:
    async with open_pool(database) as db:
        store = store_of(db)
        for n in range(2):
            await queued(store, f"t-{n}", "a")
        assert await claimed(store, {"a": 1}) == ["t-0", "full"]
        await store.orphan(["me"])
        recovered = await store.recover(3, [])
        assert recovered is not None
        assert isinstance(recovered[0], Owned)
        assert await claimed(store, {"a": 1}) == ["full"]


@pytest.mark.parametrize("count", [10, 3_000])
async def test_a_claim_costs_the_same_beside_many_that_wait_for_their_agent(database: str, count: int) -> None:
    async with open_pool(database, pool_min=1, pool_max=1) as db:
        store = store_of(db)
        for _ in range(10):
            assert await store.claim(TWO) is None
        await flood(db, "big", count)
        assert len(await claimed(store, TWO)) == 3
        await queued(store, "small-1", "b")
        assert await _pages(db) <= 200
        await ended(store, db, "small-1")
        first = await db.fetchval("SELECT id FROM runs WHERE status = 'running' ORDER BY id LIMIT 1")
        await ended(store, db, first)
        assert await _pages(db) <= 200
        assert await claimed(store, TWO) == ["full"]


async def _pages(database: Database) -> int:
    """How many pages the next claim touches."""
    plan = await database.fetchval(
        f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {queries('runs.sql')['claim']}",
        "me", 30.0, uuid4(), 1_000, ["a"], [2],
    )  # fmt: skip
    root = msgspec.json.decode(plan)[0]["Plan"]
    found: int = root["Shared Hit Blocks"] + root["Shared Read Blocks"]
    return found


async def test_what_the_release_before_claims_is_not_lost(database: str) -> None:
    """Its claim knows nothing of agents: it may take one too many, and leaves the session marked."""
    async with open_pool(database) as db:
        store = store_of(db)
        for n in range(2):
            await queued(store, f"t-{n}", "a")
        await claimed(store, {"a": 1})
        await db.execute("UPDATE sessions SET ready_rank = 1 WHERE id = 't-1'")
        assert await db.fetchval("SELECT (claimed).id FROM claim_fair('old', 30, gen_random_uuid(), 64)") == "t-1"
        await queued(store, "t-2", "a")
        assert await claimed(store, {"a": 1}) == ["full"]
        await ended(store, db, "t-0")
        assert await claimed(store, {"a": 1}) == ["full"]
        await ended(store, db, "t-1")
        assert (await claimed(store, {"a": 1}))[0] == "t-2"
        await ended(store, db, "t-2")
        assert (await claimed(store, {"a": 1}), await aside(db)) == (["."], [])
