"""The data folder and the server on it.

    owner.*, serve.*, server.lock          see `ownership`
    postgres/                              PostgreSQL's own folder
    postgres.log, postgres.log.1           what this start's and the last start's server said

Nobody comes in but the user of the folder: no TCP, a socket in a folder of mode 0700, and behind it `trust`; a host
connection would need a password, and no role has one.
"""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import sys
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, nullcontext
from pathlib import Path
from urllib.parse import quote

import msgspec

from app.cli.embedded.ownership import (
    DataFolderInUse,
    clear_record,
    in_use,
    read_record,
    this_process,
    try_lock,
    write_record,
)
from app.cli.embedded.running import LOOK, PORT, OwnServer, answers, no_server, our_words
from app.cli.embedded.server import (
    EmbeddedPostgresError,
    choose_programs,
    find_programs,
)
from app.cli.embedded.sockets import socket_folder

_log = logging.getLogger(__name__)


@asynccontextmanager
async def embedded_postgres(
    data_dir: Path,
    *,
    exclusive: bool,
    lasting: bool = False,
    bin_dir: Path | None = None,
    wait: float = 10.0,
    start_timeout: float = 120.0,
    settings: Mapping[str, str] | None = None,
) -> AsyncIterator[str]:
    """The DSN of a running PostgreSQL on that data folder, which is made where it is missing.

    The first process that comes owns the server and ends it at the end of the block. `exclusive`: only as its owner;
    otherwise a server that another process owns will do. Who finds the folder taken (or its last server still shutting
    down) waits up to `wait` seconds and then raises `DataFolderInUse`. A server may take `start_timeout` seconds to
    recover. `settings` are PostgreSQL's own. Must be entered on the main thread. Raises `EmbeddedPostgresError`.

    `lasting`: this process stays, so it joins only the server of one that stays too, and when that one is gone it starts the
    next server, which listens at the same place.
    """
    folder = made(data_dir)
    deadline = time.monotonic() + wait
    while True:
        with our_words(folder):
            lock = try_lock(folder / "owner.lock")
        if lock is not None:
            try:
                async with _owned(folder, bin_dir, deadline, start_timeout, settings or {}, lasting) as dsn:
                    yield dsn
            finally:
                os.close(lock)
            return
        holder = read_record(folder)
        joins = not exclusive and holder and holder.dsn and (holder.lasting or not lasting)
        if joins and holder and holder.dsn and await answers(holder.dsn):
            if lasting:
                async with _succession(folder, bin_dir, wait, start_timeout, settings or {}):
                    yield holder.dsn
            else:
                yield holder.dsn
            return
        if time.monotonic() >= deadline:
            raise in_use(folder, holder)
        await asyncio.sleep(0.05)


@asynccontextmanager
async def _succession(
    folder: Path, bin_dir: Path | None, wait: float, start_timeout: float, settings: Mapping[str, str]
) -> AsyncIterator[None]:
    """For the block, whenever the owner of the folder is gone, this process may become the next one."""

    async def own(lock: int) -> None:
        try:
            async with _owned(folder, bin_dir, time.monotonic() + wait, start_timeout, settings, lasting=True):
                _log.warning("started PostgreSQL again, whose owner is gone")
                await asyncio.Event().wait()
        finally:
            os.close(lock)

    async def succeed() -> None:
        while True:
            try:
                if (lock := try_lock(folder / "owner.lock")) is not None:
                    await own(lock)
            except (EmbeddedPostgresError, DataFolderInUse, OSError) as error:
                _log.error("PostgreSQL, whose owner is gone, does not start again", extra={"reason": str(error)})
            await asyncio.sleep(LOOK)

    succeeding = asyncio.create_task(succeed())
    try:
        yield
    finally:
        succeeding.cancel()
        await asyncio.wait([succeeding])
    if not succeeding.cancelled():
        succeeding.result()


@asynccontextmanager
async def _owned(
    folder: Path,
    bin_dir: Path | None,
    deadline: float,
    start_timeout: float,
    settings: Mapping[str, str],
    lasting: bool,
) -> AsyncIterator[str]:
    """The server of a folder whose lock we hold, from its start to its end."""
    last, record = read_record(folder), this_process(lasting=lasting)
    if last and last.sockets:
        shutil.rmtree(last.sockets, ignore_errors=True)
    write_record(folder, record)
    async with no_server(folder, deadline):
        with our_words(folder):
            programs = await choose_programs(find_programs(bin_dir), os.stat(folder).st_uid)
            sockets = socket_folder(folder)
    record = msgspec.structs.replace(record, sockets=str(sockets), dsn=None)
    write_record(folder, record)
    dsn = f"postgresql://postgres@/postgres?host={quote(str(sockets))}&port={PORT}"
    server = OwnServer(folder=folder, programs=programs, sockets=sockets, settings=settings, dsn=dsn)
    try:
        await server.start(deadline, start_timeout)
        write_record(folder, msgspec.structs.replace(record, dsn=dsn))
        async with server.kept(start_timeout) if lasting else nullcontext():
            yield dsn
    finally:
        clear_record(folder)
        try:
            await server.stop()
        finally:
            _forget(folder, sockets)


def _forget(folder: Path, sockets: Path) -> None:
    clear_record(folder)
    shutil.rmtree(sockets, ignore_errors=True)


def made(data_dir: Path) -> Path:
    """The data folder, which exists from now on. Raises `EmbeddedPostgresError`."""
    if sys.platform == "win32":
        raise EmbeddedPostgresError("the embedded PostgreSQL needs Unix sockets: set DATABASE_URL on Windows")
    folder = data_dir.absolute()
    with our_words(folder):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder
