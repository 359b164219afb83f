"""Brings a database's schema forward: plain SQL files, applied once, in order, never undone.

A file is `NNNN_name.sql`. It runs in one transaction with its own row of `schema_migrations`; one whose first line is
`-- no-transaction` runs outside any (CREATE INDEX CONCURRENTLY), holds one statement, and must bear being run again:
it is recorded after it has run. Migrators take turns under an advisory lock that they poll: waiting in a blocking one holds a
snapshot, which CREATE INDEX CONCURRENTLY waits for, which is a deadlock.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
import time
from collections.abc import Sequence
from pathlib import Path

import asyncpg
import msgspec

import app
from app.domain.errors import SteadyhandError
from app.storage.postgres.pool import availability, connect

_FILE = re.compile(r"(\d{4})_(\w+)\.sql")
_LOCK = 0x5EADBA5E01
_TABLE = """
CREATE TABLE IF NOT EXISTS schema_migrations (
    version integer PRIMARY KEY,
    name text NOT NULL,
    checksum text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT clock_timestamp()
)
"""
_APPLIED = "SELECT version, name, checksum FROM schema_migrations ORDER BY version"
_BROKEN = (
    "SELECT c.relname AS name FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid "
    "WHERE NOT i.indisvalid AND pg_table_is_visible(c.oid)"
)
_RECORD = "INSERT INTO schema_migrations (version, name, checksum) VALUES ($1, $2, $3)"


class MigrationError(SteadyhandError):
    """The files and the database do not fit together, or a file failed; the message says which and what to do."""


class Migration(msgspec.Struct, frozen=True, kw_only=True):
    """One file. `checksum` is the SHA-256 of its bytes."""

    version: int
    name: str
    sql: str
    checksum: str
    transactional: bool


class Schema(msgspec.Struct, frozen=True, kw_only=True):
    """How far a database is, by file names: `newer` are those that this code does not have because a later release applied them."""

    applied: tuple[str, ...]
    pending: tuple[str, ...]
    newer: tuple[str, ...]


def migrations_folder() -> Path:
    """`migrations/` stands beside the package, in a checkout as in an installation."""
    return Path(app.__file__).resolve().parent.parent / "migrations"


def read_migrations(folder: Path | None = None) -> tuple[Migration, ...]:
    """The files in order. Raises MigrationError for a name that does not fit and for a number that is there twice."""
    folder = folder or migrations_folder()
    if not folder.is_dir():
        raise MigrationError(f"there is no folder {folder}")
    found: dict[int, Migration] = {}
    for path in sorted(folder.glob("*.sql")):
        named = _FILE.fullmatch(path.name)
        if named is None:
            raise MigrationError(f"{path}: not a name like 0001_what_it_does.sql")
        data = path.read_bytes()
        migration = Migration(
            version=int(named[1]),
            name=path.stem,
            sql=data.decode(),
            checksum=hashlib.sha256(data).hexdigest(),
            transactional=not data.startswith(b"-- no-transaction\n"),
        )
        other = found.setdefault(migration.version, migration)
        if other is not migration:
            raise MigrationError(f"{path}: {other.name} has the same number")
    return tuple(found.values())


async def status(connection: asyncpg.Connection, migrations: Sequence[Migration]) -> Schema:
    """How far the database is. Raises MigrationError where an applied file was changed, is missing, or was passed over.

    `connection` may also be anything with asyncpg's `fetch`, such as a `Database`.
    """
    try:
        with availability():
            rows = await connection.fetch(_APPLIED)
    except asyncpg.UndefinedTableError:
        rows = []
    applied = {row["version"]: row for row in rows}
    files = {migration.version: migration for migration in migrations}
    last_file, last_applied = max(files, default=0), max(applied, default=0)
    for version, row in applied.items():
        if version > last_file:
            continue
        if version not in files:
            raise MigrationError(f"{row['name']} was applied to this database, and its file is missing: put it back")
        if files[version].checksum != row["checksum"]:
            raise MigrationError(
                f"{files[version].name} was changed after it had been applied: restore it and write a new file"
            )
    pending = [migration for version, migration in files.items() if version not in applied]
    if pending and pending[0].version < last_applied:
        raise MigrationError(
            f"{pending[0].name} was never applied, and {applied[last_applied]['name']} already was: "
            "give it a number after the last one"
        )
    return Schema(
        applied=tuple(row["name"] for version, row in applied.items() if version <= last_file),
        pending=tuple(migration.name for migration in pending),
        newer=tuple(row["name"] for version, row in applied.items() if version > last_file),
    )


async def migrate(
    dsn: str, migrations: Sequence[Migration], *, wait: float = 300.0, lock_timeout: float = 5.0
) -> tuple[str, ...]:
    """Apply what is pending; the names of what this call applied.

    `dsn` must not lead through a transaction pooler. Waits `wait` seconds for another migrator, and every statement
    `lock_timeout` seconds for a table that others use. Files before one that fails stay applied.
    """
    connection = await connect(dsn, application_name="steadyhand migrate")
    try:
        with availability():
            await _take_lock(connection, wait)
            await connection.execute(f"SET lock_timeout = {int(lock_timeout * 1000)}")
            await _make_table(connection)
            schema = await status(connection, migrations)
            if schema.newer:
                raise MigrationError(
                    f"the database is ahead of this release: it has {', '.join(schema.newer)}; run the newer release"
                )
            for migration in migrations:
                if migration.name in schema.pending:
                    await _apply(connection, migration)
            return schema.pending
    finally:
        await connection.close(timeout=5.0)


async def _take_lock(connection: asyncpg.Connection, wait: float) -> None:
    deadline = time.monotonic() + wait
    while not await connection.fetchval("SELECT pg_try_advisory_lock($1)", _LOCK):
        if time.monotonic() >= deadline:
            raise MigrationError(f"another process has been migrating this database for {wait:g} s")
        await asyncio.sleep(0.1)


async def _make_table(connection: asyncpg.Connection) -> None:
    try:
        await connection.execute(_TABLE)
    except asyncpg.PostgresError as error:
        raise MigrationError(f"schema_migrations cannot be made: {error}") from error


async def _clear(connection: asyncpg.Connection, migration: Migration) -> None:
    """An index of that file whose building broke off is gone: it would be taken for a whole one."""
    for row in await connection.fetch(_BROKEN):
        if re.search(rf"\b{re.escape(row['name'])}\b", migration.sql):
            await connection.execute(f'DROP INDEX CONCURRENTLY "{row["name"]}"')


async def _apply(connection: asyncpg.Connection, migration: Migration) -> None:
    record = (_RECORD, migration.version, migration.name, migration.checksum)
    try:
        if migration.transactional:
            async with connection.transaction():
                await connection.execute(migration.sql)
                await connection.execute(*record)
        else:
            await _clear(connection, migration)
            await connection.execute(migration.sql)
            await connection.execute(*record)
    except asyncpg.LockNotAvailableError as error:
        raise MigrationError(
            f"{migration.name}: a table it changes is in use; nothing of it is done: {error}"
        ) from error
    except asyncpg.PostgresError as error:
        raise MigrationError(f"{migration.name}: {error}") from error
