from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from app.domain.errors import ConfigError, DatabaseUnavailable
from app.storage.postgres.pool import Database, availability, connect, open_pool, queries


async def test_json_columns_keep_their_bytes(database: str) -> None:
    odd = b'{"b": 1,\n "b" :2.0, "\\u0000": null}'
    async with open_pool(database) as db:
        await db.execute("CREATE TABLE kept (one json, many json[])")
        assert await db.execute("INSERT INTO kept VALUES ($1, $2)", odd, [odd, None]) == "INSERT 0 1"
        row = await db.fetchrow("SELECT one, many FROM kept")
    assert row is not None
    assert tuple(row) == (odd, [odd, None])


async def test_a_transaction_is_undone_by_an_exception(database: str) -> None:
    async with open_pool(database) as db:
        await db.execute("CREATE TABLE kept (value integer)")
        async with db.transaction() as connection:
            await connection.execute("INSERT INTO kept VALUES (1)")
        with pytest.raises(LookupError):
            await _insert_and_fail(db)
        assert [row["value"] for row in await db.fetch("SELECT value FROM kept")] == [1]


async def _insert_and_fail(db: Database) -> None:
    async with db.transaction() as connection:
        await connection.execute("INSERT INTO kept VALUES (2)")
        raise LookupError


async def test_what_postgresql_says_about_a_statement_stays_its_own(database: str) -> None:
    async with open_pool(database) as db:
        with pytest.raises(asyncpg.UndefinedTableError):
            await db.fetch("SELECT * FROM missing")
        assert await db.fetchval("SELECT 1") == 1


async def test_a_release_costs_no_round_trip(database: str) -> None:
    said: list[str] = []
    async with open_pool(database, pool_min=1, pool_max=1) as db:
        async with db.connection() as connection:
            connection.add_query_logger(lambda query: said.append(query.query))
        await db.fetchval("SELECT 1")
        await db.fetchval("SELECT 2")
    assert said == ["SELECT 1", "SELECT 2"]


async def test_connections_say_who_they_are(database: str) -> None:
    async with open_pool(database, application_name="steadyhand " + "x" * 80) as db:
        assert str(await db.fetchval("SHOW application_name")) == ("steadyhand " + "x" * 80)[:63]


async def test_a_connection_that_postgresql_cut_is_unavailable_once(database: str) -> None:
    async with open_pool(database, pool_min=1, pool_max=1) as db:
        with pytest.raises(DatabaseUnavailable):
            await db.fetchval("SELECT pg_terminate_backend(pg_backend_pid())")
        assert await db.fetchval("SELECT 1") == 1


async def _cut_and_go_on(db: Database) -> None:
    async with db.transaction() as connection:
        await db.execute("SELECT pg_terminate_backend($1)", connection.get_server_pid())
        await connection.fetchval("SELECT 1")


def test_asyncpgs_word_for_an_idle_connection_that_was_cut_is_unavailable() -> None:
    """Raised where the server's last message came and the end of the connection did not yet: a matter of microseconds."""
    with pytest.raises(DatabaseUnavailable), availability():
        raise asyncpg.InternalClientError("cannot switch to state 11; another operation (2) is in progress")
    with pytest.raises(asyncpg.InternalClientError), availability():
        raise asyncpg.InternalClientError("a fault of its own")


async def test_a_transaction_whose_connection_was_cut_is_unavailable(database: str) -> None:
    async with open_pool(database, pool_max=2) as db:
        with pytest.raises(DatabaseUnavailable):
            await _cut_and_go_on(db)


async def test_a_statement_that_takes_too_long_is_unavailable(database: str) -> None:
    async with open_pool(database, pool_min=1, command_timeout=0.05) as db:
        with pytest.raises(DatabaseUnavailable, match="no answer in time"):
            await db.fetchval("SELECT pg_sleep(5)")


async def test_a_full_pool_is_unavailable_after_its_time(database: str) -> None:
    async with open_pool(database, pool_min=1, pool_max=1, acquire_timeout=0.05) as db:
        async with db.connection():
            with pytest.raises(DatabaseUnavailable):
                await db.fetchval("SELECT 1")
        assert await db.fetchval("SELECT 1") == 1


async def test_closing_cuts_what_is_still_in_use(database: str) -> None:
    begun, closed = asyncio.Event(), asyncio.Event()

    async def late(db: Database) -> None:
        async with db.connection() as connection:
            begun.set()
            await closed.wait()
            await connection.fetchval("SELECT 1")

    async with open_pool(database, close_timeout=0.05) as db:
        task = asyncio.create_task(late(db))
        await begun.wait()
    closed.set()
    with pytest.raises(DatabaseUnavailable):
        await task


@pytest.mark.skipif(sys.platform == "win32", reason="Unix sockets")
async def test_nobody_there_is_unavailable(tmp_path: Path) -> None:
    with pytest.raises(DatabaseUnavailable, match="cannot be reached"):
        await connect(f"postgresql://postgres@/postgres?host={tmp_path}&port=5432")


@asynccontextmanager
async def server(
    answer: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Coroutine[Any, Any, None]],
) -> AsyncIterator[str]:
    """Something that takes connections and is not PostgreSQL."""
    listening = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with listening:
        port = listening.sockets[0].getsockname()[1]
        yield f"postgresql://postgres:secret@127.0.0.1:{port}/postgres?sslmode=disable"


async def test_a_server_that_says_nothing_is_unavailable_soon() -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    async with server(silent) as dsn:
        with pytest.raises(DatabaseUnavailable, match="no answer in time"):
            await connect(dsn, timeout=0.05)


async def test_a_server_that_hangs_up_is_unavailable_and_no_secret_is_told() -> None:
    async def rude(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    async with server(rude) as dsn:
        with pytest.raises(DatabaseUnavailable) as refused:
            async with open_pool(dsn):
                pass
    assert "secret" not in str(refused.value)


async def test_a_database_that_is_not_there_is_unavailable(database: str) -> None:
    with pytest.raises(DatabaseUnavailable, match="does not exist"):
        await connect(database.replace("?", "_missing?"))


async def test_a_dsn_that_is_none_is_the_operators_to_change() -> None:
    with pytest.raises(ConfigError, match=r"database\.url"):
        await connect("mysql://somewhere")


STATEMENTS = """-- What this is about.

-- name: one
-- The first.
SELECT 1 -- not a description
;

-- name: two
-- The second,
-- in two lines.
SELECT '-- name: x';
"""


@pytest.fixture
def package(tmp_path: Path) -> Callable[[str], str]:
    def write(text: str) -> str:
        (tmp_path / "x.sql").write_text(text)
        return str(tmp_path / "x.sql")

    return write


def test_statements_are_read_by_name(package: Callable[[str], str]) -> None:
    assert queries(package(STATEMENTS)) == {
        "one": "SELECT 1 -- not a description\n",
        "two": "SELECT '-- name: x'",
    }


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("SELECT 1;", "before the first"),
        ("-- name: a\n-- d\nSELECT 1;\n-- name: a\n-- d\nSELECT 2;", "twice"),
        ("-- name:\n-- d\nSELECT 1;", "not a name"),
        ("-- name: a b\n-- d\nSELECT 1;", "not a name"),
        ("-- name: a\nSELECT 1;", "no description"),
        ("-- name: a\n-- d\n;", "no statement"),
    ],
)
def test_a_file_that_is_not_right_is_refused(package: Callable[[str], str], text: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        queries(package(text))


def test_every_file_of_the_product_is_right() -> None:
    folder = Path(queries.__code__.co_filename).parent
    for file in folder.glob("*.sql"):
        assert queries(file.name)


@pytest.mark.parametrize(
    "mistake",
    [
        "s3cretPassw0rd", "s3cretPassw0rd=x", "work_mem=s3cretPassw0rd", "sslmode=s3cretPassw0rd", "block_size=s3cretPassw0rd",
        "sslmode=require&ssl_min_protocol_version=s3cretPassw0rd", "gsslib=s3cretPassw0rd", "port=1,2&host=s3cretPassw0rd",
        "work_mem=%733cretPassw0rd",
    ],
)  # fmt: skip
async def test_what_is_wrong_with_a_dsn_is_said_without_a_word_of_it(database: str, mistake: str) -> None:
    for opening in (connect, _opened):
        with pytest.raises(ConfigError) as caught:
            await opening(f"{database}&{mistake}")
        assert "database.url" in str(caught.value)
        assert "s3cret" not in str(caught.value)
        assert caught.value.__cause__ is None


async def _opened(dsn: str) -> None:
    async with open_pool(dsn):
        pass
