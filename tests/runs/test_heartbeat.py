"""Leases kept from another thread, in a real database: kept, lost to others, lost to a database that hangs, given up by a dead loop."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import asyncpg
import pytest

from app.domain.stores import Held
from app.runs.heartbeat import Heartbeat, LeaseStore
from app.storage.postgres.pool import Database, connect, open_single
from tests.waiting import until

LEASE = 1.0
_NAME = "steadyhand heartbeat"
_BACKEND = "SELECT pid FROM pg_stat_activity WHERE application_name = $1 AND datname = current_database()"
_EXTEND = """
UPDATE leases SET beats = beats + 1 FROM unnest($1::text[], $2::int[]) AS mine (id, epoch)
WHERE leases.run_id = mine.id AND leases.epoch = mine.epoch RETURNING run_id, inbox
"""
_WAITING = "SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted AND relation = 'leases'::regclass)"


class Table:
    """`LeaseStore` in a table of the test's own."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def extend(self, epochs: Sequence[tuple[str, int]]) -> list[Held]:
        rows = await self._database.fetch(_EXTEND, [run_id for run_id, _ in epochs], [epoch for _, epoch in epochs])
        return [Held(run_id=row["run_id"], inbox=row["inbox"]) for row in rows]


class Kept:
    """A heartbeat, what it said, and the database as somebody else sees it."""

    def __init__(self, dsn: str, admin: asyncpg.Connection) -> None:
        self.admin = admin
        self.lost: list[str] = []
        self.news: list[Held] = []
        self.opened = 0
        self._dsn = dsn
        self.heartbeat = Heartbeat(
            open_leases=self._open,
            lease=LEASE,
            grace=LEASE,
            lost=self.lost.extend,
            news=self.news.extend,
        )

    @asynccontextmanager
    async def _open(self) -> AsyncIterator[LeaseStore]:
        async with open_single(self._dsn, application_name=_NAME, timeout=LEASE / 3) as database:
            self.opened += 1
            yield Table(database)

    async def take(self, run_id: str, epoch: int = 1, *, deadline: float | None = None) -> None:
        """This process owns that run from now on."""
        until = time.monotonic() + LEASE
        await self.admin.execute(
            "INSERT INTO leases VALUES ($1, $2) ON CONFLICT (run_id) DO UPDATE SET epoch = $2", run_id, epoch
        )
        self.heartbeat.add(run_id, epoch, until, deadline)

    async def beats(self, run_id: str) -> int:
        count: int = await self.admin.fetchval("SELECT beats FROM leases WHERE run_id = $1", run_id)
        return count

    async def beaten(self, run_id: str, times: int) -> None:
        """Return once its lease was extended that often from now on."""
        wanted = await self.beats(run_id) + times
        async with asyncio.timeout(10):
            while await self.beats(run_id) < wanted:  # noqa: ASYNC110 - PostgreSQL sets no event of ours
                await asyncio.sleep(0.005)


@pytest.fixture
async def kept(database: str) -> AsyncIterator[Kept]:
    admin = await connect(database)
    await admin.execute(
        "CREATE TABLE leases (run_id text PRIMARY KEY, epoch integer, inbox integer DEFAULT 0, beats integer DEFAULT 0)"
    )
    kept = Kept(database, admin)
    kept.heartbeat.start()
    await until(lambda: kept.opened)
    yield kept
    await kept.heartbeat.aclose()
    await admin.close()


async def test_leases_are_extended_far_beyond_their_first_end(kept: Kept) -> None:
    await kept.take("run_1")
    await kept.take("run_2", 7)
    before = time.monotonic()
    await kept.beaten("run_1", 6)
    assert time.monotonic() - before > LEASE
    await kept.beaten("run_2", 1)
    assert (kept.lost, kept.opened) == ([], 1)


async def test_news_are_what_a_beat_found(kept: Kept) -> None:
    await kept.take("run_1")
    await kept.admin.execute("UPDATE leases SET inbox = 3")
    await until(lambda: Held(run_id="run_1", inbox=3) in kept.news)


async def test_a_lease_that_another_one_took_is_lost_once(kept: Kept) -> None:
    await kept.take("run_1")
    await kept.take("run_2")
    await kept.admin.execute("UPDATE leases SET epoch = 2 WHERE run_id = 'run_1'")
    await until(lambda: kept.lost)
    await kept.beaten("run_2", 2)
    assert kept.lost == ["run_1"]
    assert await kept.beats("run_1") <= 1
    await kept.take("run_1", 3)
    await kept.beaten("run_1", 4)
    assert kept.lost == ["run_1"]


async def test_what_was_removed_is_neither_extended_nor_reported(kept: Kept) -> None:
    await kept.take("run_1")
    await kept.take("run_2")
    await kept.beaten("run_1", 1)
    kept.heartbeat.remove("run_1")
    kept.heartbeat.remove("run_of_nobody")
    await kept.beaten("run_2", 1)
    before = await kept.beats("run_1")
    await kept.beaten("run_2", 4)
    assert (kept.lost, await kept.beats("run_1")) == ([], before)


async def test_leases_are_lost_in_time_when_the_database_locks(kept: Kept) -> None:
    await kept.take("run_1")
    await kept.beaten("run_1", 1)
    async with kept.admin.transaction():
        await kept.admin.execute("LOCK TABLE leases IN ACCESS EXCLUSIVE MODE")
        locked = time.monotonic()
        await until(lambda: kept.lost)
        # Confirmed just before the lock at the latest.
        assert time.monotonic() - locked < LEASE
    await kept.take("run_2")
    await kept.beaten("run_2", 2)
    assert kept.lost == ["run_1"]


async def test_leases_are_lost_in_time_when_the_server_answers_nothing(kept: Kept) -> None:
    await kept.take("run_1")
    await kept.beaten("run_1", 1)
    stopped = await kept.admin.fetchval(_BACKEND, _NAME)
    os.kill(stopped, signal.SIGSTOP)
    before = time.monotonic()
    try:
        await until(lambda: kept.lost)
        assert time.monotonic() - before < LEASE
        await kept.take("run_2")
        await kept.beaten("run_2", 2)
    finally:
        os.kill(stopped, signal.SIGCONT)
    assert kept.lost == ["run_1"]


async def test_a_connection_that_is_cut_costs_no_lease(kept: Kept, caplog: pytest.LogCaptureFixture) -> None:
    await kept.take("run_1")
    await kept.beaten("run_1", 1)
    await kept.admin.execute(f"SELECT pg_terminate_backend(pid) FROM ({_BACKEND}) b", _NAME)
    await kept.beaten("run_1", 4)
    assert kept.lost == []
    assert len([record for record in caplog.records if record.message == "heartbeat_failed"]) <= 1


async def test_a_main_loop_that_stands_still_keeps_nothing(kept: Kept, caplog: pytest.LogCaptureFixture) -> None:
    await kept.take("run_1")
    await kept.beaten("run_1", 1)
    time.sleep(4 * LEASE)  # noqa: ASYNC251 - the very fault
    beats = await kept.beats("run_1")
    assert beats <= 1 + 3 * 2 + 2
    assert "event_loop_stands_still" in {record.message for record in caplog.records}
    await until(lambda: kept.lost == ["run_1"])
    await kept.take("run_1", 2)
    await kept.beaten("run_1", 2)


async def test_a_short_standstill_costs_no_lease(kept: Kept) -> None:
    await kept.take("run_1")
    await kept.beaten("run_1", 1)
    before = await kept.beats("run_1")
    time.sleep(1.5 * LEASE)  # noqa: ASYNC251 - the very fault
    assert await kept.beats("run_1") >= before + 3
    assert kept.lost == []


async def test_a_run_beyond_its_time_is_let_go(kept: Kept) -> None:
    await kept.take("run_1", deadline=time.monotonic() - LEASE)
    await kept.take("run_2", deadline=time.monotonic() + 60)
    await until(lambda: kept.lost)
    await kept.beaten("run_2", 2)
    assert (kept.lost, await kept.beats("run_1")) == (["run_1"], 0)


async def test_a_lease_extended_by_others_lasts_longer(database: str) -> None:
    lost: list[str] = []
    nowhere = "postgresql://u@127.0.0.1:1/x"
    heartbeat = Heartbeat(
        open_leases=lambda: _pool_of(nowhere), lease=LEASE, grace=0, lost=lost.extend, news=lambda _: None
    )
    heartbeat.start()
    begin = time.monotonic()
    heartbeat.add("run_1", 1, begin + LEASE, None)
    heartbeat.add("run_1", 1, begin + 2 * LEASE, None)
    heartbeat.add("run_1", 1, begin + LEASE, None)
    await until(lambda: lost)
    assert 2 * LEASE * 0.9 < time.monotonic() - begin < 2 * LEASE
    await heartbeat.aclose()


@asynccontextmanager
async def _pool_of(dsn: str) -> AsyncIterator[LeaseStore]:
    async with open_single(dsn, application_name=_NAME, timeout=LEASE / 3) as database:
        yield Table(database)


async def test_closes_at_once_while_the_database_hangs(kept: Kept) -> None:
    await kept.take("run_1")
    await kept.beaten("run_1", 1)
    async with kept.admin.transaction():
        await kept.admin.execute("LOCK TABLE leases IN ACCESS EXCLUSIVE MODE")
        # Until it waits for the lock.
        async with asyncio.timeout(5):
            while not await kept.admin.fetchval(_WAITING):  # noqa: ASYNC110 - PostgreSQL sets no event of ours
                await asyncio.sleep(0.005)
        before = time.monotonic()
        await kept.heartbeat.aclose()
        assert time.monotonic() - before < 2


async def test_one_that_never_began_closes(database: str) -> None:
    heartbeat = Heartbeat(
        open_leases=lambda: _pool_of(database), lease=LEASE, grace=0, lost=lambda _: None, news=lambda _: None
    )
    await heartbeat.aclose()


async def test_a_storage_that_never_lets_go_is_left_behind(caplog: pytest.LogCaptureFixture) -> None:
    let_go, entered = asyncio.Event(), threading.Event()

    @asynccontextmanager
    async def stuck() -> AsyncIterator[LeaseStore]:
        entered.set()
        try:
            yield Table(None)  # type: ignore[arg-type]
        finally:
            await let_go.wait()

    heartbeat = Heartbeat(open_leases=stuck, lease=LEASE, grace=0, lost=lambda _: None, news=lambda _: None)
    heartbeat.start()
    await until(entered.is_set)
    own = heartbeat._own
    assert own is not None
    await heartbeat.aclose(patience=0.1)
    assert [record.message for record in caplog.records] == ["heartbeat_left_behind"]
    own.call_soon_threadsafe(let_go.set)
    await heartbeat.aclose()
