"""Connections to PostgreSQL, and the named statements that run on them.

Every query goes through `Database` or inside `availability()`, so that whatever breaks between us and PostgreSQL
(asyncpg's own errors, a raw OSError, a timeout) is a `DatabaseUnavailable`; what PostgreSQL says about a statement
stays an `asyncpg.PostgresError`. No session state is ever set on a pooled connection, so none is reset on release.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from importlib.resources import files
from types import MappingProxyType
from typing import Any
from urllib.parse import unquote

import asyncpg

from app.domain.errors import ConfigError, ConfigProblem, DatabaseUnavailable

_GONE = (
    OSError,
    TimeoutError,
    asyncpg.PostgresConnectionError,
    asyncpg.CannotConnectNowError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.InsufficientResourcesError,  # class 53: disk or memory full, too many connections
    asyncpg.OperatorInterventionError,  # class 57: cancelled, shutting down
    asyncpg.TransactionRollbackError,  # class 40: deadlock; nothing of it was stored
    asyncpg.LockNotAvailableError,
    asyncpg.ReadOnlySQLTransactionError,  # a failover left us on a standby
)
_REFUSED = (
    asyncpg.InvalidAuthorizationSpecificationError,
    asyncpg.InvalidCatalogNameError,
    asyncpg.InsufficientPrivilegeError,
)
_MISTAKEN = (
    ValueError,
    asyncpg.ClientConfigurationError,
    asyncpg.UndefinedObjectError,  # the DSN sets a parameter that the server does not know
    asyncpg.DataError,  # or gives it a value that it cannot have
    asyncpg.CantChangeRuntimeParamError,
)
_CLOSED = re.compile(r"connection is closed|released back to the pool|pool is clos|cannot switch to state")
"""The last: the server ended an idle connection a moment ago; asyncpg finds out with the next statement, before it sends it."""
_PARTS, _WORD = re.compile(r"[/:@?&=,]+"), re.compile(r"\w+")
_NAME = re.compile(r"-- name: *(\w*) *")


@contextmanager
def availability() -> Iterator[None]:
    """What happens inside raises `DatabaseUnavailable` wherever the connection, not the statement, failed."""
    try:
        yield
    except _GONE as error:
        raise DatabaseUnavailable(f"PostgreSQL cannot be reached: {_said(error)}") from error
    except (asyncpg.InterfaceError, asyncpg.InternalClientError) as error:
        if not _CLOSED.search(str(error)):
            raise
        raise DatabaseUnavailable(f"PostgreSQL went away: {error}") from error


@contextmanager
def _connecting(dsn: str) -> Iterator[None]:
    """As `availability`; and what is wrong with the DSN itself is a `ConfigError` without a word of it."""
    try:
        with availability():
            yield
    except _REFUSED as error:
        raise DatabaseUnavailable(f"PostgreSQL refuses the connection: {error}") from error
    except _MISTAKEN as error:
        raise ConfigError([ConfigProblem("database.url", "cannot be used", _without(dsn, str(error)))]) from None


def _said(error: BaseException) -> str:
    return str(error) or ("no answer in time" if isinstance(error, TimeoutError) else type(error).__name__)


def _without(dsn: str, text: str) -> str:
    """The text without any word of the DSN: a password may stand anywhere in one that is wrong."""
    words = {
        word for form in (dsn, unquote(dsn)) for word in (*_PARTS.split(form), *_WORD.findall(form)) if len(word) > 2
    }
    return re.sub("|".join(map(re.escape, sorted(words, key=len, reverse=True))), "***", text)


def _same(data: bytes) -> bytes:
    return data


async def _json_as_bytes(connection: asyncpg.Connection) -> None:
    # `json` columns keep the very bytes that were written (jsonb would not); nobody decodes them here.
    await connection.set_type_codec("json", schema="pg_catalog", encoder=_same, decoder=_same, format="binary")


async def _nothing_to_reset(connection: asyncpg.Connection) -> None:
    """Saves the round trip of asyncpg's reset query; an open transaction is rolled back all the same."""


async def connect(dsn: str, *, application_name: str = "steadyhand", timeout: float = 5.0) -> asyncpg.Connection:
    """One connection of the caller's own, which the caller closes. `timeout` in seconds; commands have none."""
    with _connecting(dsn):
        connection = await asyncpg.connect(
            dsn, timeout=timeout, server_settings={"application_name": application_name[:63]}
        )
        try:
            async with asyncio.timeout(timeout):
                await _json_as_bytes(connection)
        except BaseException:
            connection.terminate()
            raise
    return connection


class Database:
    """A pool of connections as the stores see it. Safe for concurrent use within one event loop.

    Waits at most `acquire_timeout` seconds for a free connection.
    """

    def __init__(self, *, pool: asyncpg.Pool, acquire_timeout: float) -> None:
        self._pool = pool
        self._acquire_timeout = acquire_timeout

    async def execute(self, sql: str, *arguments: object) -> str:
        """Run one statement; its command tag, such as `INSERT 0 1`."""
        async with self.connection() as connection:
            tag: str = await connection.execute(sql, *arguments)
        return tag

    async def fetch(self, sql: str, *arguments: object) -> list[asyncpg.Record]:
        """All rows of one statement."""
        async with self.connection() as connection:
            rows: list[asyncpg.Record] = await connection.fetch(sql, *arguments)
        return rows

    async def fetchrow(self, sql: str, *arguments: object) -> asyncpg.Record | None:
        """The first row of one statement, or None."""
        async with self.connection() as connection:
            return await connection.fetchrow(sql, *arguments)

    async def fetchval(self, sql: str, *arguments: object) -> Any:
        """The first column of the first row of one statement, or None."""
        async with self.connection() as connection:
            return await connection.fetchval(sql, *arguments)

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[asyncpg.Connection]:
        """A connection for several statements; every error inside is mapped as `availability` says."""
        with availability():
            async with self._pool.acquire(timeout=self._acquire_timeout) as connection:
                yield connection

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[asyncpg.Connection]:
        """A connection in a transaction: committed at the end, rolled back by an exception."""
        async with self.connection() as connection, connection.transaction():
            yield connection


@asynccontextmanager
async def open_pool(
    dsn: str,
    *,
    pool_min: int = 2,
    pool_max: int = 20,
    statement_cache: int = 100,
    application_name: str = "steadyhand",
    connect_timeout: float = 5.0,
    acquire_timeout: float = 10.0,
    command_timeout: float = 30.0,
    close_timeout: float = 5.0,
) -> AsyncIterator[Database]:
    """A pool that has reached PostgreSQL once, closed at the end. Times in seconds.

    `statement_cache` 0 is for a transaction pooler. At the end, connections still in use after `close_timeout` are cut.
    """
    with _connecting(dsn):
        pool = await asyncpg.create_pool(
            dsn,
            min_size=min(pool_min, pool_max),
            max_size=pool_max,
            timeout=connect_timeout,
            command_timeout=command_timeout,
            statement_cache_size=statement_cache,
            server_settings={"application_name": application_name[:63]},
            init=_json_as_bytes,
            reset=_nothing_to_reset,
        )
    try:
        yield Database(pool=pool, acquire_timeout=acquire_timeout)
    finally:
        try:
            async with asyncio.timeout(close_timeout):
                await pool.close()
        except (TimeoutError, OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
            pool.terminate()


def open_single(dsn: str, *, application_name: str, timeout: float) -> AbstractAsyncContextManager[Database]:
    """A `Database` of one connection, made again when it broke. No wait is longer than `timeout` seconds, the closing's included."""
    return open_pool(
        dsn,
        pool_min=1,
        pool_max=1,
        application_name=application_name,
        connect_timeout=timeout,
        acquire_timeout=timeout,
        command_timeout=timeout,
        close_timeout=timeout,
    )


def queries(file: str, *, package: str = "app.storage.postgres") -> Mapping[str, str]:
    """The statements of a .sql file by name.

    Each begins with a line `-- name: NAME` and at least one comment line that describes it. Raises ValueError for text before
    the first name, a name that is missing, doubled or not described, and a statement that is empty.
    """
    statements: dict[str, str] = {}
    head, *blocks = re.split(r"(?m)^(?=-- name:)", (files(package) / file).read_text(encoding="utf-8"))
    if any(line.strip() and not line.startswith("--") for line in head.splitlines()):
        raise ValueError(f"{file}: a statement before the first `-- name:`")
    for block in blocks:
        first, *lines = block.splitlines()
        named = _NAME.fullmatch(first)
        name = named[1] if named else ""
        body = next((at for at, line in enumerate(lines) if not line.startswith("--")), len(lines))
        sql = "\n".join(lines[body:]).strip().removesuffix(";")
        if not name:
            raise ValueError(f"{file}: not a name: {first!r}")
        if name in statements:
            raise ValueError(f"{file}: {name} stands there twice")
        if body == 0 or not sql:
            raise ValueError(f"{file}: {name} has no {'description' if body == 0 else 'statement'}")
        statements[name] = sql
    return MappingProxyType(statements)
