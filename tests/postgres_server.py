"""The PostgreSQL of a test session, as a process of its own: `python -m tests.postgres_server FOLDER`.

Starts the embedded server in FOLDER, migrates a template database, writes `ready` (its DSN) or `failed` (why not) there, and
runs until its standard input ends, which it does with the session, whatever the signal. Then FOLDER is gone.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
import tempfile
import time
import traceback
from pathlib import Path

from app.cli.embedded.cluster import embedded_postgres
from app.storage.migrate import migrate, read_migrations
from app.storage.postgres.pool import connect

TEMPLATE = "template_migrated"
ROOM = 6 * 2**30
"""Bytes."""
_FAST = {
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "shared_buffers": "64MB",
    "max_connections": "300",
    "autovacuum": "off",
}


def in_memory() -> str | None:
    """A folder in memory with room for many databases, where there is one: copying them is what the tests spend their time with."""
    memory = Path("/dev/shm")
    if not memory.is_dir() or not os.access(memory, os.W_OK):
        return None
    return str(memory) if shutil.disk_usage(memory).free >= ROOM else None


class TestServer:
    """The server's process as the one who started it holds it."""

    __test__ = False

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="steadyhand-tests-", dir=in_memory()))
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.postgres_server", str(self.folder)],
            stdin=subprocess.PIPE,
            cwd=Path(__file__).parent.parent,
            start_new_session=True,
        )

    def stop(self) -> None:
        """The server and its folder are gone."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(60)


def wait_ready(folder: Path, *, timeout: float = 60.0) -> str:
    """The DSN of the server in that folder, once it takes connections."""
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        if (folder / "ready").exists():
            return (folder / "ready").read_text()
        if (folder / "failed").exists():
            raise RuntimeError((folder / "failed").read_text())
        time.sleep(0.02)
    raise RuntimeError(f"no PostgreSQL in {folder} after {timeout} s")


def sibling(dsn: str, name: str) -> str:
    """The DSN of another database of the same server."""
    return dsn.replace("@/postgres?", f"@/{name}?")


def _publish(file: Path, text: str) -> None:
    draft = file.with_suffix(".new")
    draft.write_text(text)
    draft.replace(file)


async def _prepare(dsn: str) -> None:
    connection = await connect(dsn)
    await connection.execute(f"CREATE DATABASE {TEMPLATE}")
    await migrate(sibling(dsn, TEMPLATE), read_migrations())
    await connection.execute(f"ALTER DATABASE {TEMPLATE} IS_TEMPLATE true ALLOW_CONNECTIONS false")
    await connection.close()


async def _serve(folder: Path) -> None:
    async with embedded_postgres(folder / "data", exclusive=True, settings=_FAST) as dsn:
        await _prepare(dsn)
        _publish(folder / "ready", dsn)
        await asyncio.to_thread(sys.stdin.read)


def main() -> None:
    """Serve until the session ends."""
    folder = Path(sys.argv[1])
    try:
        asyncio.run(_serve(folder))
    except Exception:
        _publish(folder / "failed", traceback.format_exc())
        sys.stdin.read()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    os.environ.pop("DATABASE_URL", None)
    main()
