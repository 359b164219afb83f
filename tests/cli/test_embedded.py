"""Who owns the embedded server of a data folder, and what an owner leaves behind."""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.cli.embedded.cluster import embedded_postgres
from app.cli.embedded.ownership import DataFolderInUse, Record, only_serve, read_record, write_record
from app.cli.embedded.server import EmbeddedPostgresError, choose_programs, find_programs, start, stop
from app.cli.embedded.sockets import socket_folder
from tests.cli.data_folder import exists, free, gone, holder, mode, owner, owners, postmaster, query
from tests.cli.holder import FAST
from tests.waiting import until

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the embedded PostgreSQL needs Unix sockets")


DEBIAN = Path("/usr/lib/postgresql/15/bin")


async def test_a_new_folder_is_private_and_a_restart_keeps_its_rows(tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "data"
    async with embedded_postgres(folder, exclusive=True, settings=FAST) as dsn:
        await query(dsn, "CREATE TABLE kept AS SELECT 42 AS value")
        assert mode(folder) == 0o700
        assert mode(folder / "postgres") == 0o700
        assert await query(dsn, "SHOW listen_addresses") == ""
        assert await query(dsn, "SHOW server_encoding") == "UTF8"
        pid, record = postmaster(folder), read_record(folder)
    assert record is not None
    assert record.sockets is not None
    assert record.pid == os.getpid()
    assert gone(pid)
    assert not exists(record.sockets)
    assert read_record(folder) is None
    async with embedded_postgres(folder, exclusive=True, settings=FAST) as dsn:
        assert await query(dsn, "SELECT value FROM kept") == 42


async def test_others_join_the_running_server_and_leave_it_running(folder: Path) -> None:
    async with holder(folder) as (_, dsn):
        async with embedded_postgres(folder, exclusive=False, wait=0) as joined:
            assert joined == dsn
            assert await query(joined, "SELECT 1") == 1
        assert await query(dsn, "SELECT 2") == 2


async def test_whoever_needs_it_first_starts_it(folder: Path) -> None:
    async with embedded_postgres(folder, exclusive=False, settings=FAST) as dsn, holder(folder, "join") as (_, joined):
        assert joined == dsn
    assert free(folder / "server.lock")


async def test_a_second_owner_is_refused_by_the_name_of_the_first(folder: Path) -> None:
    async with holder(folder) as (process, _):
        with pytest.raises(DataFolderInUse) as refused:
            async with embedded_postgres(folder, exclusive=True, wait=0.1):
                pass
    assert f"process {process.pid} (holder.py {folder} exclusive)" in str(refused.value)


async def test_a_second_owner_waits_for_the_first_to_end(folder: Path) -> None:
    async with holder(folder) as (process, _):
        assert process.stdin is not None

        async def own() -> object:
            async with embedded_postgres(folder, exclusive=True, settings=FAST) as dsn:
                return await query(dsn, "SELECT 3")

        second = asyncio.create_task(own())
        await asyncio.sleep(0)
        process.stdin.close()
        assert await second == 3


async def test_those_that_stay_keep_the_server_running_for_one_another(folder: Path) -> None:
    """The next server listens where the last one did."""
    async with holder(folder, "lasting") as (first, dsn):
        await query(dsn, "CREATE TABLE kept AS SELECT 42 AS value")
        pid = postmaster(folder)
        async with embedded_postgres(folder, exclusive=False, lasting=True, settings=FAST) as joined:
            assert joined == dsn
            first.kill()
            await first.wait()
            await until(lambda: gone(pid))
            await until(lambda: (record := read_record(folder)) is not None and record.pid == os.getpid())
            await until(lambda: (record := read_record(folder)) is not None and record.dsn == dsn)
            assert await query(dsn, "SELECT value FROM kept") == 42
        assert free(folder / "server.lock")
        assert read_record(folder) is None


async def test_one_that_stays_does_not_rely_on_one_that_does_not(folder: Path) -> None:
    async with holder(folder, "join") as (process, dsn):
        with pytest.raises(DataFolderInUse, match=f"process {process.pid} "):
            async with embedded_postgres(folder, exclusive=False, lasting=True, wait=0.1):
                pass
        async with embedded_postgres(folder, exclusive=False) as joined:
            assert joined == dsn


async def test_there_is_one_serve_of_a_folder(tmp_path: Path) -> None:
    async with only_serve(tmp_path):
        with pytest.raises(DataFolderInUse, match=rf"the data folder {tmp_path} is in use by process {os.getpid()} \("):
            async with only_serve(tmp_path, wait=0.1):
                pass
        waiting = asyncio.create_task(_serves(tmp_path))
        await asyncio.sleep(0)
        assert not waiting.done()
    await waiting


async def _serves(folder: Path) -> None:
    async with only_serve(folder):
        pass


async def test_a_socket_folder_that_somebody_else_made_is_not_used(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(folder.parent))
    first, second = socket_folder(folder), socket_folder(folder)
    assert first != second
    assert mode(first) == mode(second) == 0o700


async def test_a_killed_owner_leaves_nothing_and_the_next_starts_at_once(folder: Path) -> None:
    async with holder(folder) as (process, dsn):
        await query(dsn, "CREATE TABLE kept AS SELECT 42 AS value")
        pid, record = postmaster(folder), read_record(folder)
        assert record is not None
        assert record.sockets is not None
        process.kill()
        await process.wait()
        async with embedded_postgres(folder, exclusive=True, settings=FAST) as again:
            assert gone(pid)
            assert again == dsn, "who was connected finds the next server"
            assert await query(again, "SELECT value FROM kept") == 42
        assert not exists(record.sockets)


async def test_a_killed_owner_takes_its_server_with_it(folder: Path, tmp_path: Path) -> None:
    async with holder(folder, TMPDIR=str(tmp_path)) as (process, _):
        pid = postmaster(folder)
        process.kill()
        await until(lambda: gone(pid))
        await until(lambda: free(folder / "server.lock"))
    assert "database system is shut down" in (folder / "postgres.log").read_text()


async def test_left_overs_that_name_living_strangers_do_not_matter(folder: Path) -> None:
    (folder / "postgres" / "postmaster.pid").write_text(f"{os.getppid()}\n{folder / 'postgres'}\n")
    write_record(folder, Record(pid=os.getppid(), command="stranger", dsn="postgresql://postgres@/x?host=/nowhere"))
    async with embedded_postgres(folder, exclusive=False, wait=0, settings=FAST) as dsn:
        assert await query(dsn, "SELECT 1") == 1


async def test_a_server_that_somebody_else_started_on_the_folder_is_left_alone(folder: Path) -> None:
    programs = await choose_programs(find_programs(None), os.geteuid())
    with tempfile.TemporaryDirectory() as sockets, (folder / "foreign.log").open("wb") as log:
        foreign = start(
            [programs.folder / "postgres", "-D", folder / "postgres", "-k", sockets, "-c", "listen_addresses="],
            identity=programs.identity,
            output=log,
        )
        await until((folder / "postgres" / "postmaster.pid").exists)
        with pytest.raises(DataFolderInUse, match=rf"pid {foreign.pid}.*somebody else"):
            async with embedded_postgres(folder, exclusive=True, wait=0):
                pass
        assert not foreign.ended()
        await stop(foreign)


@pytest.fixture
def nobodys() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="steadyhand-nobody-"))
    os.chown(folder, 65534, 65534)
    yield folder
    shutil.rmtree(folder)


@pytest.mark.skipif(sys.platform == "win32" or os.geteuid() != 0, reason="needs root")
async def test_root_runs_the_server_of_another_users_folder_as_that_user(nobodys: Path) -> None:
    async with embedded_postgres(nobodys, exclusive=True, settings=FAST) as dsn:
        assert await query(dsn, "SELECT 1") == 1
        assert owner(nobodys / "postgres" / "postmaster.pid") == 65534
    assert owners(nobodys) == {65534}


@pytest.mark.skipif(not DEBIAN.is_dir(), reason="no PostgreSQL 15 on this machine")
async def test_the_oldest_postgresql_will_do(tmp_path: Path) -> None:
    async with embedded_postgres(tmp_path / "data", exclusive=True, bin_dir=DEBIAN, settings=FAST) as dsn:
        assert str(await query(dsn, "SHOW server_version")).startswith("15.")
    with pytest.raises(EmbeddedPostgresError, match="written by PostgreSQL 15"):
        async with embedded_postgres(tmp_path / "data", exclusive=True):
            pass
