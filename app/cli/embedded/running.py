"""The server of a data folder that is ours: prepared, started, kept running, stopped."""

from __future__ import annotations

import asyncio
import logging
import os
import shlex
import shutil
import subprocess
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import IO

from app.cli.embedded.ownership import DataFolderInUse, try_lock
from app.cli.embedded.server import EmbeddedPostgresError, Programs, finish, start, stop
from app.cli.process import Process
from app.domain.errors import DatabaseUnavailable
from app.storage.postgres.pool import connect

_log = logging.getLogger(__name__)
PORT = 5432
LOOK = 0.25
"""Seconds between two looks at whether the owner of a folder, or the server that we own, is gone."""
_CONNECTIONS = 500
"""How many processes with their pools may join."""
_RESTART = 2.0
"""Seconds before a server that does not start is started once more."""
_LOCALE = {"C": ["--locale=C"], "builtin": ["--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"]}


@contextmanager
def our_words(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise EmbeddedPostgresError(f"the data folder {folder} cannot be used: {error}") from error


class OwnServer:
    """The PostgreSQL of a folder that is ours."""

    def __init__(
        self, *, folder: Path, programs: Programs, sockets: Path, settings: Mapping[str, str], dsn: str
    ) -> None:
        self._folder = folder
        self._programs = programs
        self._sockets = sockets
        self._settings = settings
        self._dsn = dsn
        self._process: Process | None = None

    async def start(self, deadline: float, timeout: float) -> None:
        """It answers. Waits until that time for a predecessor to be gone, and `timeout` seconds for its recovery."""
        folder = self._folder
        async with no_server(folder, deadline) as server_lock:
            with our_words(folder), _new_log(folder) as log:
                self._sockets.mkdir(mode=0o700, exist_ok=True)
                _give(folder, self._sockets, self._programs.uid)
                await _prepare(folder, self._programs, self._settings, log, server_lock)
                self._process = _serve(folder, self._programs, self._sockets, self._settings, log, server_lock)
        await _ready(self._process, self._dsn, folder, timeout)

    @asynccontextmanager
    async def kept(self, timeout: float) -> AsyncIterator[None]:
        """For the block, a server that ends by itself is started again."""
        keeping = asyncio.create_task(self._keep(timeout))
        try:
            yield
        finally:
            keeping.cancel()
            await asyncio.wait([keeping])

    async def _keep(self, timeout: float) -> None:
        while True:
            await asyncio.sleep(LOOK)
            if self._process is not None and not self._process.ended():
                continue
            _log.error(
                "PostgreSQL ended by itself; it is started again", extra={"log": str(self._folder / "postgres.log")}
            )
            try:
                await self.start(time.monotonic() + timeout, timeout)
            except (EmbeddedPostgresError, DataFolderInUse, OSError) as error:
                _log.error("PostgreSQL does not start again", extra={"reason": str(error)})
                await asyncio.sleep(_RESTART)

    async def stop(self) -> None:
        """It is gone."""
        if self._process is not None:
            await stop(self._process)


@asynccontextmanager
async def no_server(folder: Path, deadline: float) -> AsyncIterator[int]:
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
        "port": str(PORT),
        "max_connections": str(_CONNECTIONS),
        "timezone": "UTC",
        "log_timezone": "UTC",
        **settings,
    }
    arguments = [part for name, value in options.items() for part in ("-c", f"{name}={value}")]
    command: list[str | Path] = [programs.folder / "postgres", "-D", folder / "postgres", *arguments]
    return start(command, identity=programs.identity, output=log, keep=[server_lock])


async def answers(dsn: str) -> bool:
    try:
        connection = await connect(dsn)
    except DatabaseUnavailable:
        return False
    await connection.close()
    return True


async def _ready(server: Process, dsn: str, folder: Path, timeout: float) -> None:
    deadline = time.monotonic() + timeout
    while not await answers(dsn):
        if server.ended():
            raise EmbeddedPostgresError(f"PostgreSQL did not start on {folder}:\n{_tail(folder)}")
        if time.monotonic() >= deadline:
            raise EmbeddedPostgresError(f"PostgreSQL is not ready after {timeout:g} s on {folder}:\n{_tail(folder)}")
        await asyncio.sleep(0.02)


def _tail(folder: Path) -> str:
    """The last lines of the server's log."""
    text = (folder / "postgres.log").read_text(errors="replace")
    return "\n".join(text.splitlines()[-15:])
