"""A data folder and the processes around it, as a test sees them."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from app.cli.embedded.ownership import try_lock
from app.storage.postgres.pool import connect


@asynccontextmanager
async def holder(
    folder: Path, how: str = "exclusive", **environment: str
) -> AsyncIterator[tuple[asyncio.subprocess.Process, str]]:
    """Another process that uses the folder, and the DSN that it got; ended by its standard input, or by the test."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.cli.holder", str(folder), how,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True, env={**os.environ, **environment},
    )  # fmt: skip
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        yield process, (await process.stdout.readline()).decode().strip()
    finally:
        process.stdin.close()
        await process.wait()


async def query(dsn: str, sql: str) -> object:
    connection = await connect(dsn)
    try:
        return await connection.fetchval(sql)
    finally:
        await connection.close()


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


def exists(path: str) -> bool:
    return Path(path).exists()


def owner(path: Path) -> int:
    return path.stat().st_uid


def owners(folder: Path) -> set[int]:
    return {owner(path) for path in folder.iterdir()}


def gone(pid: int) -> bool:
    """Whether that process has ended, reaped or not."""
    try:
        os.kill(pid, 0)
        if Path("/proc/self").exists():
            return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (ProcessLookupError, FileNotFoundError):
        return True
    return False


def postmaster(folder: Path) -> int:
    return int((folder / "postgres" / "postmaster.pid").read_text().split("\n", 1)[0])


def free(lock: Path) -> bool:
    descriptor = try_lock(lock)
    if descriptor is not None:
        os.close(descriptor)
    return descriptor is not None
