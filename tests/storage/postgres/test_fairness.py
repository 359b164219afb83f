"""Whose run is next: each tenant in its turn, none with more than its share, however long the others' lines are."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import msgspec
import pytest

from app.domain.principals import Principal
from app.domain.stores import Accepted, NewEvent
from app.runs.shadows import LOWEST
from app.storage.postgres.pool import Database, open_pool, queries
from app.storage.postgres.runs import PostgresRunStore
from tests.storage.postgres.test_claims import END
from tests.storage.postgres.test_queue import run

MOST = 3
FLOOD = """
WITH s AS (
    INSERT INTO sessions (tenant, id, turns, ready_rank) SELECT $1, 'f' || n, 1, n FROM generate_series(1, $2) AS n
)
INSERT INTO runs (id, tenant, session_id, session_epoch, turn, agent, agent_version, status, tags, last_seq, queued_at)
SELECT $1 || n, $1, 'f' || n, 1, 1, 'a', 'v', 'queued', '{}', 1, clock_timestamp() FROM generate_series(1, $2) AS n
"""
CREATED = """
INSERT INTO events (run_id, seq, tenant, id, name, payload)
SELECT id, 1, tenant, gen_random_uuid(), 'run.created', '{}' FROM runs WHERE tenant = $1
"""


def store_of(database: Database, most: int = 1_000) -> PostgresRunStore:
    return PostgresRunStore(database=database, owner="me", lease=30.0, per_tenant=most)


async def queued(store: PostgresRunStore, tenant: str, number: int, **more: Any) -> None:
    new = msgspec.structs.replace(run(number), id=f"{tenant}-{number}", session_id=f"{tenant}-{number}", **more)
    accepted = await store.start(Principal(tenant=tenant), new, slot=False)
    assert isinstance(accepted, Accepted)
    assert accepted.status == "queued"


async def flood(database: Database, tenant: str, count: int) -> None:
    await database.execute(FLOOD, tenant, count)
    await database.execute(CREATED, tenant)


async def claimed(store: PostgresRunStore, count: int) -> list[str]:
    """The tenants of the next runs; `full`, where nobody may have one; a dot, where there is none."""
    found = []
    for _ in range(count):
        one = await store.claim({})
        found.append(one[0].tenant if isinstance(one, tuple) else one or ".")
    return found


async def test_a_tenant_with_a_thousand_queued_runs_does_not_delay_anothers_one(database: str) -> None:
    async with open_pool(database) as db:
        store = store_of(db)
        await flood(db, "big", 1_000)
        await claimed(store, 100)
        await queued(store, "small", 1)
        await queued(store, "small", 2)
        order = await claimed(store, 5)
        assert order.index("small") <= 2
        assert order.count("small") == 2


async def test_tenants_with_long_lines_take_turns(database: str) -> None:
    async with open_pool(database) as db:
        store = store_of(db)
        for tenant, count in (("a", 30), ("b", 10), ("c", 10)):
            for n in range(count):
                await queued(store, tenant, n)
        order = await claimed(store, 30)
        for end in range(3, 31, 3):
            assert all(order[:end].count(tenant) >= end // 3 - 1 for tenant in "abc"), order
        rest = await claimed(store, 21)
        assert rest[2:] == ["a"] * 18 + ["."]


async def test_no_tenant_has_more_runs_than_it_may_and_its_line_keeps_nobody_back(database: str) -> None:
    async with open_pool(database) as db:
        store = store_of(db, MOST)
        await flood(db, "big", 1_000)
        assert await claimed(store, 5) == ["big"] * MOST + ["full"] * 2
        for n in range(2):
            await queued(store, "small", n)
            await queued(store, "tiny", n)
        assert sorted(await claimed(store, 4)) == ["small", "small", "tiny", "tiny"]
        assert await claimed(store, 1) == ["full"]
        first = await db.fetchrow(
            "SELECT id, lease_epoch, last_seq FROM runs WHERE tenant = 'big' AND status = 'running'"
        )
        assert first is not None
        end = [msgspec.structs.replace(_end(), seq=first["last_seq"] + 1)]
        await store.finish(first["id"], first["lease_epoch"], end, END, None)
        assert await claimed(store, 2) == ["big", "full"]


def _end() -> NewEvent:
    return NewEvent(seq=0, id=uuid4(), name="run.finished", payload=b"{}")


async def test_a_run_is_not_born_running_beyond_what_its_tenant_may_have(database: str) -> None:
    async with open_pool(database) as db:
        store = store_of(db, MOST)
        born = [await store.start(Principal(tenant="big"), run(n), slot=True) for n in range(5)]
        assert [one.status for one in born if isinstance(one, Accepted)] == ["running"] * 3 + ["queued"] * 2
        other = msgspec.structs.replace(run(9), session_id="other")
        accepted = await store.start(Principal(tenant="small"), other, slot=True)
        assert isinstance(accepted, Accepted)
        assert accepted.status == "running"
        assert await claimed(store, 1) == ["full"]


async def test_priorities_order_a_tenants_own_runs_only(database: str) -> None:
    async with open_pool(database) as db:
        store = store_of(db)
        await queued(store, "calm", 1)
        await queued(store, "calm", 2)
        await queued(store, "loud", 1)
        for n in range(2, 5):
            await queued(store, "loud", n, priority=10)
        order = []
        while isinstance(one := await store.claim({}), tuple):
            order.append(one[0].run_id)
        assert order[0] == "calm-1"
        assert [name for name in order if name.startswith("loud")] == ["loud-2", "loud-3", "loud-4", "loud-1"]


async def test_shadows_go_when_nothing_else_waits(database: str) -> None:
    async with open_pool(database) as db:
        store = store_of(db)
        await queued(store, "a", 1, priority=LOWEST)
        for n in range(3):
            await queued(store, "b", n, priority=-10)
        assert await claimed(store, 5) == ["b", "b", "b", "a", "."]


@pytest.mark.parametrize("count", [10, 5_000])
async def test_a_claim_costs_the_same_behind_a_long_line_that_may_not_move(database: str, count: int) -> None:
    """Plans are made while the queue is empty, and kept."""
    async with open_pool(database, pool_min=1, pool_max=1) as db:
        store = store_of(db, MOST)
        for _ in range(10):
            assert await store.claim({}) is None
        await flood(db, "big", count)
        await claimed(store, MOST)
        await queued(store, "small", 1)
        plan = await db.fetchval(
            f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {queries('runs.sql')['claim']}",
            "me",
            30.0,
            _end().id,
            MOST,
            [],
            [],
        )
        root = msgspec.json.decode(plan)[0]["Plan"]
        assert root["Shared Hit Blocks"] + root["Shared Read Blocks"] <= 200, plan
        assert await claimed(store, 1) == ["full"]
