from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator

import asyncpg
import pytest

from app.storage.postgres.owner import LOCK, DatabaseOwned, owned_database
from app.storage.postgres.pool import connect

_WHO = (
    "SELECT pid FROM pg_stat_activity WHERE application_name LIKE 'steadyhand serve%' AND datname = current_database()"
)


@pytest.fixture
async def watching(database: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await connect(database)
    yield connection
    await connection.close()


def never(error: DatabaseOwned) -> None:
    raise AssertionError(error)


async def test_a_second_one_is_refused_by_the_name_of_the_first(database: str) -> None:
    async with owned_database(database, lost=never):
        with pytest.raises(DatabaseOwned, match=f"steadyhand serve, pid {os.getpid()} on .*since 20"):
            async with owned_database(database, lost=never, wait=0):
                pass
    async with owned_database(database, lost=never, wait=0):
        pass


async def test_a_second_one_waits_for_the_first_to_go_away(database: str) -> None:
    async with owned_database(database, lost=never):
        second = asyncio.create_task(_once(database))
        await asyncio.sleep(0)
    await second


async def _once(database: str) -> None:
    async with owned_database(database, lost=never, wait=10):
        pass


async def test_a_broken_connection_is_made_again(database: str, watching: asyncpg.Connection) -> None:
    async with owned_database(database, lost=never, retry=0.01):
        first = await watching.fetchval(_WHO)
        await watching.execute("SELECT pg_terminate_backend($1)", first)
        while await watching.fetchval(_WHO) in (None, first):  # noqa: ASYNC110 - PostgreSQL sets no event of ours
            await asyncio.sleep(0.01)
        with pytest.raises(DatabaseOwned):
            async with owned_database(database, lost=never, wait=0):
                pass


async def test_whoever_lost_it_is_told_by_whom(database: str, watching: asyncpg.Connection) -> None:
    told: asyncio.Queue[DatabaseOwned] = asyncio.Queue(1)
    successor = await connect(database, application_name="successor")
    try:
        async with owned_database(database, lost=told.put_nowait, wait=0.05, retry=0.01):
            waiting = asyncio.create_task(successor.execute("SELECT pg_advisory_lock($1)", LOCK))
            while not await watching.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted"):  # noqa: ASYNC110 - PostgreSQL's
                await asyncio.sleep(0.01)
            await watching.execute("SELECT pg_terminate_backend($1)", await watching.fetchval(_WHO))
            await waiting
            async with asyncio.timeout(20):
                assert "already served by successor (this machine, since 20" in str(await told.get())
    finally:
        await successor.close()
