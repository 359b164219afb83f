"""Who runs the server of a data folder: one process, decided by a lock that dies with it, never by a pid.

The lock is `owner.lock`; `owner.json` says who holds it and, once the server is ready, where it listens. A record without
the lock is a killed owner's and means nothing. `server.lock` is inherited by the server's own processes: while it is taken,
a server of ours still runs on the folder, whatever became of its owner. `serve.lock` and `serve.json` are of the one `serve`
of the folder, which need not own the server.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec

from app.domain.errors import SteadyhandError


class DataFolderInUse(SteadyhandError):
    """Another process holds the data folder and did not let go of it in time."""


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """The holder of a data folder. `sockets` is the folder of its socket, made by it; `dsn` None: not ready yet.

    `lasting`: it is there to stay, so that others that are may use its server.
    """

    pid: int
    command: str
    sockets: str | None = None
    dsn: str | None = None
    lasting: bool = False


def this_process(*, lasting: bool = False) -> Record:
    """What a holder writes of itself first."""
    return Record(pid=os.getpid(), command=" ".join([Path(sys.argv[0]).name, *sys.argv[1:]]), lasting=lasting)


def try_lock(file: Path) -> int | None:
    """A descriptor that holds the lock of that file until it is closed everywhere; None where somebody else holds it."""
    import fcntl  # there is none on Windows, where this module is still imported

    descriptor = os.open(file, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        if isinstance(error, BlockingIOError):
            return None
        raise
    return descriptor


def in_use(folder: Path, holder: Record | None) -> DataFolderInUse:
    """The refusal that names the holder."""
    who = f"process {holder.pid} ({holder.command})" if holder else "another process"
    return DataFolderInUse(f"the data folder {folder} is in use by {who}")


@contextlib.asynccontextmanager
async def only_serve(folder: Path, *, wait: float = 10.0) -> AsyncIterator[None]:
    """For the block, this process is the one `serve` of that folder.

    Who finds another one waits up to `wait` seconds (it may be shutting down) and then raises `DataFolderInUse`.
    """
    deadline = time.monotonic() + wait
    while (lock := try_lock(folder / "serve.lock")) is None:
        if time.monotonic() >= deadline:
            raise in_use(folder, read_record(folder, "serve.json"))
        await asyncio.sleep(0.05)
    try:
        write_record(folder, this_process(), "serve.json")
        yield
    finally:
        os.close(lock)


def read_record(folder: Path, name: str = "owner.json") -> Record | None:
    """What the last holder wrote; None where nobody did, or not legibly."""
    try:
        return msgspec.json.decode((folder / name).read_bytes(), type=Record)
    except (FileNotFoundError, msgspec.DecodeError):
        return None


def write_record(folder: Path, record: Record, name: str = "owner.json") -> None:
    """Replace the record; a reader sees the old one or the new one, never a part."""
    draft = folder / f"{name}.new"
    draft.write_bytes(msgspec.json.encode(record))
    draft.replace(folder / name)


def clear_record(folder: Path) -> None:
    """Only for the holder: nobody holds the folder any more, as far as the record says."""
    with contextlib.suppress(FileNotFoundError):
        (folder / "owner.json").unlink()
