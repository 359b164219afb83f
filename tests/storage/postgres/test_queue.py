"""The queue costs what is in it, not what waits beside it: plans and pages read, with ten and with ten thousand parked runs."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import uuid4

import asyncpg
import pytest

from app.domain.principals import ANONYMOUS
from app.domain.stores import Accepted, NewRun
from app.storage.postgres.pool import open_pool, queries
from app.storage.postgres.runs import PostgresRunStore

SQL = queries("runs.sql")
FEW, MANY = 10, 10_000
PARK = """
WITH s AS (
    INSERT INTO sessions (tenant, id, turns) SELECT 'default', 's' || n, 1 + $2 FROM generate_series(1, $1) AS n
)
INSERT INTO runs (id, tenant, session_id, session_epoch, turn, agent, agent_version, status, tags, last_seq, queued_at)
SELECT 'run_' || n || '_' || t, 'default', 's' || n, 1, t, 'a', 'v', CASE t WHEN 1 THEN 'waiting' ELSE 'queued' END, '{}', 1,
    clock_timestamp()
FROM generate_series(1, $1) AS n, generate_series(1, 1 + $2) AS t
"""
STATEMENTS: dict[str, tuple[object, ...]] = {
    "claim": ("me", 30.0, uuid4(), 64, ["a"], [9]),
    "recover": ("me", 30.0, 3, uuid4(), []),
    "due": (),
    "heads": (["run_1_1", "run_2_1"],),
    "extend": (["run_1_1"], [1], 30.0),
}


@asynccontextmanager
async def filled(dsn: str, parked: int, followers: int) -> AsyncIterator[tuple[PostgresRunStore, asyncpg.Connection]]:
    async with open_pool(dsn) as database, database.connection() as connection:
        await connection.execute(PARK, parked, followers)
        await connection.execute("ANALYZE")
        yield PostgresRunStore(database=database, owner="me", lease=30.0), connection


async def pages(connection: asyncpg.Connection, name: str, *arguments: object) -> tuple[int, str]:
    """How many pages a statement touches, its functions planned before, and its plan; it is undone."""
    for _ in range(2):
        transaction = connection.transaction()
        await transaction.start()
        try:
            plan = await connection.fetchval(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {SQL[name]}", *arguments)
        finally:
            await transaction.rollback()
    root: dict[str, Any] = json.loads(plan)[0]["Plan"]
    return root["Shared Hit Blocks"] + root["Shared Read Blocks"], plan


def run(number: int) -> NewRun:
    return NewRun(
        id=f"run_new{number}",
        session_id=f"new{number}",
        user_id=None,
        agent="a",
        agent_version="v",
        tags={},
        created=b"{}",
    )


@pytest.mark.parametrize("followers", [0, 1], ids=["parked", "parked-with-turns-behind"])
async def test_claiming_does_not_see_parked_runs(database: str, followers: int) -> None:
    async with filled(database, MANY, followers) as (store, connection):
        for number in range(3):
            accepted = await store.start(ANONYMOUS, run(number), slot=False)
            assert isinstance(accepted, Accepted)
            assert accepted.status == "queued"
        for name, arguments in STATEMENTS.items():
            touched, plan = await pages(connection, name, *arguments)
            assert touched <= 150, (name, touched, plan)
        claimed = [await store.claim({}) for _ in range(4)]
        assert [found[0].run_id if isinstance(found, tuple) else found for found in claimed] == [
            "run_new0",
            "run_new1",
            "run_new2",
            None,
        ]
        assert (await store.queue())[0] == MANY * followers


async def test_a_claim_touches_no_more_pages_with_ten_thousand_parked_runs_than_with_ten(database: str) -> None:
    counts = []
    for parked in (FEW, MANY):
        async with filled(database, parked, 0) as (store, connection):
            await store.start(ANONYMOUS, run(parked), slot=False)
            touched, _ = await pages(connection, "claim", "me", 30.0, uuid4(), 64, [], [])
            counts.append(touched)
            assert await store.claim({}) is not None
            await connection.execute("DELETE FROM sessions")
    assert counts[1] <= counts[0] + 20, counts
