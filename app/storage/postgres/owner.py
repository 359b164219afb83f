"""One `serve` a database: whoever executes its runs holds an advisory lock, on a connection of its own.

The connection's `application_name` says who that is, so that a second one is refused by name.
"""

from __future__ import annotations

import asyncio
import logging
import os
import random
import socket
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import asyncpg

from app.domain.errors import DatabaseUnavailable, SteadyhandError
from app.storage.postgres.pool import availability, connect

_log = logging.getLogger(__name__)
LOCK = 0x5EADBA5E02
_HOLDER = """
SELECT a.application_name, a.client_addr::text AS address, a.backend_start
FROM pg_locks l JOIN pg_stat_activity a ON a.pid = l.pid
WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 1
    AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
    AND (l.classid::bigint << 32 | l.objid::bigint) = $1
"""


class DatabaseOwned(SteadyhandError):
    """Another service executes the runs of this database."""


@asynccontextmanager
async def owned_database(
    dsn: str,
    *,
    lost: Callable[[DatabaseOwned], None],
    wait: float = 10.0,
    check: float = 5.0,
    retry: float = 1.0,
    command: str = "serve",
) -> AsyncIterator[None]:
    """Hold the database's lock for the block, or raise DatabaseOwned after `wait` seconds (a predecessor may be going away).

    `dsn` must not lead through a transaction pooler. When the connection breaks (noticed at once, or by a query every
    `check` seconds) it is made again, every `retry` seconds until PostgreSQL is back; `lost` is called once if somebody
    else took the lock meanwhile, and then nothing more is tried. `command` is what others are told that we are.
    """
    me = f"steadyhand {command}, pid {os.getpid()} on {socket.gethostname()}"
    holding = _Holding(dsn=dsn, me=me, lost=lost, wait=wait, check=check, retry=retry)
    holding.connection = await _take(dsn, me, wait)
    watcher = asyncio.create_task(holding.keep())
    try:
        yield
    finally:
        watcher.cancel()
        try:
            await asyncio.wait([watcher])
        finally:
            holding.connection.terminate()
        if not watcher.cancelled() and (error := watcher.exception()):
            raise error


async def _take(dsn: str, me: str, wait: float) -> asyncpg.Connection:
    """A connection that holds the lock."""
    connection = await connect(dsn, application_name=me)
    deadline = time.monotonic() + wait
    try:
        with availability():
            while not await connection.fetchval("SELECT pg_try_advisory_lock($1)", LOCK, timeout=5.0):
                if time.monotonic() >= deadline:
                    raise DatabaseOwned(f"this database is already served by {await _holder(connection)}")
                await asyncio.sleep(0.1)
    except BaseException:
        connection.terminate()
        raise
    return connection


async def _holder(connection: asyncpg.Connection) -> str:
    row = await connection.fetchrow(_HOLDER, LOCK, timeout=5.0)
    if row is None:
        return "a process that just ended: try again"
    name = row["application_name"] or "a process of another database role"
    return f"{name} ({row['address'] or 'this machine'}, since {row['backend_start']:%Y-%m-%d %H:%M:%S} UTC)"


class _Holding:
    """The connection that holds the lock, whichever it is at the moment."""

    connection: asyncpg.Connection

    def __init__(
        self,
        *,
        dsn: str,
        me: str,
        lost: Callable[[DatabaseOwned], None],
        wait: float,
        check: float,
        retry: float,
    ) -> None:
        self._dsn = dsn
        self._me = me
        self._lost = lost
        self._wait = wait
        self._check = check
        self._retry = retry

    async def keep(self) -> None:
        """Hold on until cancelled, or until somebody else has the lock."""
        while True:
            await _until_broken(self.connection, self._check)
            self.connection.terminate()
            _log.warning("database_lock_connection_lost")
            try:
                await self._again()
            except DatabaseOwned as error:
                self._lost(error)
                return
            _log.warning("database_lock_taken_again")

    async def _again(self) -> None:
        while True:
            try:
                self.connection = await _take(self._dsn, self._me, self._wait)
            except (DatabaseUnavailable, asyncpg.PostgresError):
                await asyncio.sleep(self._retry * random.uniform(0.5, 1.5))
            else:
                return


async def _until_broken(connection: asyncpg.Connection, check: float) -> None:
    """Return when the connection is gone: closed by the other side, or no longer answering."""
    broken = asyncio.Event()
    connection.add_termination_listener(lambda _: broken.set())
    while not broken.is_set():
        try:
            async with asyncio.timeout(check):
                await broken.wait()
        except TimeoutError:
            try:
                with availability():
                    await connection.execute("SELECT 1", timeout=check)
            except (DatabaseUnavailable, asyncpg.PostgresError):
                return
