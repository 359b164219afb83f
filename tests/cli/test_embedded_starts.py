"""Starts of the embedded server that cannot go well, and who ends it."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from app.cli import launcher
from app.cli.embedded.cluster import embedded_postgres
from app.cli.embedded.server import EmbeddedPostgresError, start
from tests.cli.data_folder import gone, holder, postmaster, query
from tests.cli.holder import FAST
from tests.waiting import until


async def test_a_folder_of_another_major_is_refused_with_the_way_to_move_it(folder: Path) -> None:
    (folder / "postgres" / "PG_VERSION").write_text("14\n")
    with pytest.raises(EmbeddedPostgresError, match=r"written by PostgreSQL 14(?s:.*)pg_upgrade .*-b OLD"):
        async with embedded_postgres(folder, exclusive=True):
            pass


async def test_an_interrupted_initdb_is_begun_again(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    (folder / "postgres.new" / "base").mkdir(parents=True)
    (folder / "postgres.new" / "PG_VERSION").write_text("18\n")
    async with embedded_postgres(folder, exclusive=True, settings=FAST) as dsn:
        assert await query(dsn, "SELECT 1") == 1
    assert not (folder / "postgres.new").exists()


async def test_what_is_no_folder_of_postgresql_is_refused(tmp_path: Path) -> None:
    (tmp_path / "postgres").mkdir()
    with pytest.raises(EmbeddedPostgresError, match="is not a folder of PostgreSQL"):
        async with embedded_postgres(tmp_path, exclusive=True):
            pass


async def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(EmbeddedPostgresError, match=r"the data folder .*file/data cannot be used"):
        async with embedded_postgres(tmp_path / "file" / "data", exclusive=True):
            pass


async def test_a_failed_start_shows_what_the_server_said(folder: Path) -> None:
    with pytest.raises(EmbeddedPostgresError, match=r"did not start(?s:.*)no_such_parameter"):
        async with embedded_postgres(folder, exclusive=True, settings={"no_such_parameter": "1"}):
            pass
    async with embedded_postgres(folder, exclusive=True, wait=0, settings=FAST) as dsn:
        assert await query(dsn, "SELECT 1") == 1
    assert "no_such_parameter" in (folder / "postgres.log.1").read_text()


async def test_the_socket_stays_short_in_deep_folders(folder: Path, tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 100)
    deep.mkdir()
    async with holder(folder, TMPDIR=str(deep)) as (_, dsn):
        assert await query(dsn, "SELECT 1") == 1


async def test_an_interrupt_from_the_terminal_does_not_reach_the_server(folder: Path) -> None:
    async with holder(folder) as (process, dsn):
        assert process.stdout is not None
        os.killpg(process.pid, signal.SIGINT)
        assert await process.stdout.readline() == b"interrupted\n"
        assert os.getsid(postmaster(folder)) == postmaster(folder)
        assert await query(dsn, "SELECT 1") == 1


async def test_a_server_is_only_started_from_the_main_thread(folder: Path) -> None:
    def elsewhere() -> None:
        with (folder / "log").open("wb") as log:
            start(["/bin/true"], identity="self", output=log)

    with pytest.raises(RuntimeError, match="main thread"):
        await asyncio.to_thread(elsewhere)


_WATCHED = """
import sys, time
from app.cli.embedded.server import start
print(start([sys.executable, "-c", "import time; time.sleep(600)"], identity="self", output=sys.stderr.buffer, watch=True).pid, flush=True)
time.sleep(600)
"""


async def test_without_a_parent_death_signal_a_watcher_ends_the_program() -> None:
    parent = await asyncio.create_subprocess_exec(
        sys.executable, "-c", _WATCHED, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    assert parent.stdout is not None
    pid = int(await parent.stdout.readline())
    assert not gone(pid)
    parent.kill()
    await parent.wait()
    await until(lambda: gone(pid))


async def test_a_watched_program_that_ends_dismisses_its_watcher(tmp_path: Path) -> None:
    with (tmp_path / "log").open("wb") as log:
        process = start(["/bin/sh", "-c", "exit 7"], identity="self", output=log, watch=True)
        assert await process.wait() == 7
        assert process.ended()


def test_a_launcher_whose_parent_is_gone_starts_nothing() -> None:
    command = [sys.executable, "-I", "-S", launcher.__file__, "1", "2", "self", "-", "/bin/echo", "started"]
    done = subprocess.run(command, capture_output=True, timeout=20, check=False)
    assert (done.returncode, done.stdout) == (launcher.FAILED, b"")
