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
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import IO
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
from app.cli.embedded.server import (
    EmbeddedPostgresError,
    Programs,
    choose_programs,
    find_programs,
    finish,
    start,
    stop,
)
from app.cli.embedded.sockets import socket_folder
from app.cli.process import Process
from app.domain.errors import DatabaseUnavailable
from app.storage.postgres.pool import connect

_log = logging.getLogger(__name__)
_PORT = 5432
_CONNECTIONS = 500
"""How many processes with their pools may join."""
_SUCCESSION = 0.25
"""Seconds between two looks at whether the owner of a folder is gone."""
_LOCALE = {"C": ["--locale=C"], "builtin": ["--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"]}


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
        with _our_words(folder):
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
        if joins and holder and holder.dsn and await _answers(holder.dsn):
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
            await asyncio.sleep(_SUCCESSION)

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
    async with _no_server(folder, deadline) as server_lock:
        with _our_words(folder):
            programs = await choose_programs(find_programs(bin_dir), os.stat(folder).st_uid)
            sockets = socket_folder(folder)
        record = msgspec.structs.replace(record, sockets=str(sockets), dsn=None)
        write_record(folder, record)
        try:
            with _our_words(folder), _new_log(folder) as log:
                _give(folder, sockets, programs.uid)
                await _prepare(folder, programs, settings, log, server_lock)
                server = _serve(folder, programs, sockets, settings, log, server_lock)
        except BaseException:
            _forget(folder, sockets)
            raise
    dsn = f"postgresql://postgres@/postgres?host={quote(str(sockets))}&port={_PORT}"
    try:
        await _ready(server, dsn, folder, start_timeout)
        write_record(folder, msgspec.structs.replace(record, dsn=dsn))
        yield dsn
    finally:
        clear_record(folder)
        try:
            await stop(server)
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
    with _our_words(folder):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder


@contextmanager
def _our_words(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise EmbeddedPostgresError(f"the data folder {folder} cannot be used: {error}") from error


@asynccontextmanager
async def _no_server(folder: Path, deadline: float) -> AsyncIterator[int]:
    """The lock that says that no server of ours runs on the folder; whoever inherits it keeps it."""
    while (lock := try_lock(folder / "server.lock")) is None:
        if time.monotonic() >= deadline:
            raise DataFolderInUse(
                f"the PostgreSQL of an earlier process (pid {_postmaster(folder)}) still shuts down on {folder}: try again"
            )
        await asyncio.sleep(0.02)
    try:
        yield lock
    finally:
        os.close(lock)


def _postmaster(folder: Path) -> int | None:
    """The pid that PostgreSQL's own pid file names."""
    try:
        return int((folder / "postgres" / "postmaster.pid").read_text().split("\n", 1)[0])
    except (FileNotFoundError, ValueError):
        return None


def _runs_on(pid: int, data: Path) -> bool:
    """Whether that process is a PostgreSQL on that folder, and not somebody who got the pid of a dead one."""
    if Path("/proc/self/cwd").exists():
        try:
            return Path(f"/proc/{pid}/cwd").readlink() == data.resolve()
        except OSError:
            return False
    shown = subprocess.run(["ps", "-o", "command=", "-p", str(pid)], capture_output=True, text=True, check=False)  # noqa: S603, S607 - ps of the system
    return str(data) in shown.stdout


def _new_log(folder: Path) -> IO[bytes]:
    """An empty log; the last start's is kept beside it, older ones go."""
    log = folder / "postgres.log"
    if log.exists():
        log.replace(folder / "postgres.log.1")
    return open(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "wb", closefd=True)


def _give(folder: Path, sockets: Path, uid: int | None) -> None:
    """Make everything belong to the uid that the programs run as, where that is not our own."""
    if uid is None:
        return
    everything = folder.rglob("*") if folder.stat().st_uid != uid else folder.iterdir()
    for path in (sockets, folder, *everything):
        os.chown(path, uid, -1, follow_symlinks=False)


async def _prepare(
    folder: Path, programs: Programs, settings: Mapping[str, str], log: IO[bytes], server_lock: int
) -> None:
    """PostgreSQL's folder is whole, of our major, and nobody runs on it."""
    data = folder / "postgres"
    half_made = folder / "postgres.new"
    if half_made.exists():
        await asyncio.to_thread(shutil.rmtree, half_made)
    if not data.exists():
        command: list[str | Path] = [
            programs.folder / "initdb", "-D", half_made, "-U", "postgres", "-E", "UTF8", "--data-checksums",
            "--auth-local=trust", "--auth-host=scram-sha-256",
            *_LOCALE["builtin" if programs.major >= 17 else "C"],
            *(["--no-sync"] if settings.get("fsync") == "off" else []),
        ]  # fmt: skip
        if await finish(command, identity=programs.identity, output=log, keep=[server_lock]) != 0:
            raise EmbeddedPostgresError(f"initdb failed on {folder}:\n{_tail(folder)}")
        half_made.rename(data)
    try:
        major = int((data / "PG_VERSION").read_text())
    except (FileNotFoundError, ValueError):
        raise EmbeddedPostgresError(f"{data} is not a folder of PostgreSQL: move it away") from None
    if major != programs.major:
        raise EmbeddedPostgresError(_move(data, major, programs))
    pid = _postmaster(folder)
    if pid is not None:
        if _runs_on(pid, data):
            raise DataFolderInUse(f"PostgreSQL (pid {pid}) was started on {data} by somebody else: stop it first")
        (data / "postmaster.pid").unlink()


def _move(data: Path, major: int, programs: Programs) -> str:
    old = shlex.quote(str(data.with_name(f"postgres-{major}")))
    new, parent, bin_dir = (shlex.quote(str(path)) for path in (data, data.parent, programs.folder))
    shell = "`unshare --user --map-user=65534 --map-group=65534 sh`" if programs.identity == "namespace" else "a shell"
    return (
        f"{data} was written by PostgreSQL {major}, and this is PostgreSQL {programs.major}. To move the data, with the "
        f"programs of {major} in the folder OLD, in {shell} of the folder's user:\n"
        f"  mv {new} {old}\n"
        f"  {bin_dir}/initdb -D {new} -U postgres -E UTF8 --locale=C --data-checksums"
        " --auth-local=trust --auth-host=scram-sha-256\n"
        f"  cd {parent} && {bin_dir}/pg_upgrade -U postgres -b OLD -B {bin_dir} -d {old} -D {new}"
    )


def _serve(
    folder: Path, programs: Programs, sockets: Path, settings: Mapping[str, str], log: IO[bytes], server_lock: int
) -> Process:
    options = {
        "listen_addresses": "",
        "unix_socket_directories": f'"{sockets}"',
        "unix_socket_permissions": "0700",
        "port": str(_PORT),
        "max_connections": str(_CONNECTIONS),
        "timezone": "UTC",
        "log_timezone": "UTC",
        **settings,
    }
    arguments = [part for name, value in options.items() for part in ("-c", f"{name}={value}")]
    command: list[str | Path] = [programs.folder / "postgres", "-D", folder / "postgres", *arguments]
    return start(command, identity=programs.identity, output=log, keep=[server_lock])


async def _answers(dsn: str) -> bool:
    try:
        connection = await connect(dsn)
    except DatabaseUnavailable:
        return False
    await connection.close()
    return True


async def _ready(server: Process, dsn: str, folder: Path, timeout: float) -> None:
    deadline = time.monotonic() + timeout
    while not await _answers(dsn):
        if server.ended():
            raise EmbeddedPostgresError(f"PostgreSQL did not start on {folder}:\n{_tail(folder)}")
        if time.monotonic() >= deadline:
            raise EmbeddedPostgresError(f"PostgreSQL is not ready after {timeout:g} s on {folder}:\n{_tail(folder)}")
        await asyncio.sleep(0.02)


def _tail(folder: Path) -> str:
    """The last lines of the server's log."""
    text = (folder / "postgres.log").read_text(errors="replace")
    return "\n".join(text.splitlines()[-15:])
