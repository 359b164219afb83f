from __future__ import annotations

import asyncio
from pathlib import Path
from uuid import uuid4

import pytest

from app.storage.migrate import MigrationError, Schema, migrate, read_migrations, status
from app.storage.postgres.pool import connect

TABLE = "CREATE TABLE things (id integer PRIMARY KEY, name text);\nINSERT INTO things SELECT n, n FROM generate_series(1, 9) n;\n"
INDEX = "-- no-transaction\nCREATE INDEX CONCURRENTLY IF NOT EXISTS things_by_name ON things (name);\n"


@pytest.fixture
async def bare(database: str) -> str:
    """A database that no file was ever applied to."""
    connection = await connect(database)
    await connection.execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
    await connection.close()
    return database


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "0001_things.sql").write_text(TABLE)
    (tmp_path / "0002_things_by_name.sql").write_text(INDEX)
    return tmp_path


async def state(dsn: str, folder: Path) -> Schema:
    connection = await connect(dsn)
    try:
        return await status(connection, read_migrations(folder))
    finally:
        await connection.close()


async def tables(dsn: str) -> set[str]:
    connection = await connect(dsn)
    try:
        return {r[0] for r in await connection.fetch("SELECT relname FROM pg_class WHERE relname LIKE 'things%'")}
    finally:
        await connection.close()


async def test_what_is_pending_is_applied_once(bare: str, folder: Path) -> None:
    names = ("0001_things", "0002_things_by_name")
    assert await state(bare, folder) == Schema(applied=(), pending=names, newer=())
    assert await migrate(bare, read_migrations(folder)) == names
    assert await state(bare, folder) == Schema(applied=names, pending=(), newer=())
    assert await migrate(bare, read_migrations(folder)) == ()
    assert await tables(bare) == {"things", "things_pkey", "things_by_name"}


async def test_four_migrators_at_once_and_an_index_built_concurrently(bare: str, folder: Path) -> None:
    done = await asyncio.gather(*(migrate(bare, read_migrations(folder)) for _ in range(4)))
    assert sorted(len(names) for names in done) == [0, 0, 0, 2]


async def test_an_index_whose_building_broke_off_is_built_again(bare: str, folder: Path) -> None:
    (folder / "0002_things_by_name.sql").write_text(INDEX.replace("CREATE", "CREATE UNIQUE"))
    (folder / "0001_things.sql").write_text(TABLE.replace("SELECT n, n", "SELECT n, 1"))
    with pytest.raises(MigrationError, match="0002_things_by_name"):
        await migrate(bare, read_migrations(folder))
    connection = await connect(bare)
    try:
        valid = "SELECT indisvalid FROM pg_index WHERE indexrelid = 'things_by_name'::regclass"
        assert await connection.fetchval(valid) is False
        await connection.execute("UPDATE things SET name = id")
        assert await migrate(bare, read_migrations(folder)) == ("0002_things_by_name",)
        assert await connection.fetchval(valid) is True
    finally:
        await connection.close()


async def test_a_file_that_fails_leaves_nothing_and_the_ones_before_it_stay(bare: str, folder: Path) -> None:
    (folder / "0003_wrong.sql").write_text("CREATE TABLE things_more (id integer); SELECT 1 / 0;")
    with pytest.raises(MigrationError, match="0003_wrong: division by zero"):
        await migrate(bare, read_migrations(folder))
    assert "things_more" not in await tables(bare)
    assert (await state(bare, folder)).pending == ("0003_wrong",)


async def test_an_applied_file_that_was_changed_is_refused(bare: str, folder: Path) -> None:
    await migrate(bare, read_migrations(folder))
    (folder / "0001_things.sql").write_text(TABLE + "-- more")
    with pytest.raises(MigrationError, match="0001_things was changed"):
        await migrate(bare, read_migrations(folder))


async def test_an_applied_file_that_is_missing_is_refused(bare: str, folder: Path) -> None:
    await migrate(bare, read_migrations(folder))
    (folder / "0001_things.sql").unlink()
    with pytest.raises(MigrationError, match=r"0001_things was applied.*missing"):
        await state(bare, folder)


async def test_a_file_that_was_passed_over_is_refused(bare: str, folder: Path) -> None:
    (folder / "0002_things_by_name.sql").rename(folder / "0003_things_by_name.sql")
    await migrate(bare, read_migrations(folder))
    (folder / "0002_late.sql").write_text("SELECT 1;")
    with pytest.raises(MigrationError, match="0002_late was never applied"):
        await migrate(bare, read_migrations(folder))


async def test_a_database_of_a_later_release_is_shown_and_not_migrated(bare: str, folder: Path) -> None:
    await migrate(bare, read_migrations(folder))
    (folder / "0002_things_by_name.sql").unlink()
    assert await state(bare, folder) == Schema(applied=("0001_things",), pending=(), newer=("0002_things_by_name",))
    with pytest.raises(MigrationError, match=r"ahead of this release.*0002_things_by_name"):
        await migrate(bare, read_migrations(folder))


async def test_a_table_in_use_stops_a_file_and_not_the_service(bare: str, folder: Path) -> None:
    await migrate(bare, read_migrations(folder))
    (folder / "0003_wider.sql").write_text("ALTER TABLE things ADD COLUMN more text;")
    user = await connect(bare)
    try:
        async with user.transaction():
            await user.execute("LOCK TABLE things IN ACCESS SHARE MODE")
            with pytest.raises(MigrationError, match="0003_wider: a table it changes is in use"):
                await migrate(bare, read_migrations(folder), lock_timeout=0.05)
        assert await migrate(bare, read_migrations(folder)) == ("0003_wider",)
    finally:
        await user.close()


async def test_a_migrator_that_never_ends_is_not_waited_for_without_end(bare: str, folder: Path) -> None:
    (folder / "0003_slow.sql").write_text("SELECT pg_sleep(60);")
    first = asyncio.create_task(migrate(bare, read_migrations(folder)))
    watching = await connect(bare)
    try:
        while not await watching.fetchval(  # noqa: ASYNC110 - PostgreSQL sets no event of ours
            "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%pg_sleep(60)%' AND pid <> pg_backend_pid()"
        ):
            await asyncio.sleep(0.01)
        with pytest.raises(MigrationError, match="another process has been migrating"):
            await migrate(bare, read_migrations(folder), wait=0)
    finally:
        first.cancel()
        await asyncio.wait([first])
        await watching.close()


@pytest.mark.parametrize("name", ["1_short.sql", "0003-dash.sql", "notes.sql"])
def test_a_name_that_does_not_fit_is_refused(folder: Path, name: str) -> None:
    (folder / name).write_text("SELECT 1;")
    with pytest.raises(MigrationError, match="not a name like"):
        read_migrations(folder)


def test_a_number_that_is_there_twice_is_refused(folder: Path) -> None:
    (folder / "0002_other.sql").write_text("SELECT 1;")
    with pytest.raises(MigrationError, match=r"0002_things_by_name.*0002_other has the same number"):
        read_migrations(folder)


async def test_the_files_of_the_product_give_the_schema_of_the_tests(database: str) -> None:
    connection = await connect(database)
    try:
        schema = await status(connection, read_migrations())
    finally:
        await connection.close()
    assert schema.pending == schema.newer == ()
    assert schema.applied


async def test_who_may_not_create_tables_is_told(postgres: str, bare: str, folder: Path) -> None:
    admin = await connect(postgres)
    role = f"weak_{uuid4().hex}"
    await admin.execute(f"CREATE ROLE {role} LOGIN")
    try:
        with pytest.raises(MigrationError, match="schema_migrations cannot be made"):
            await migrate(bare.replace("postgres@", f"{role}@"), read_migrations(folder))
    finally:
        await admin.execute(f"DROP ROLE {role}")
        await admin.close()
