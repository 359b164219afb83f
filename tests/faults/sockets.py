"""Servers of the kit, and which process holds the other end of a connection (Linux only: it reads /proc)."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

Visit = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
Accept = Callable[[asyncio.StreamReader, asyncio.StreamWriter], None]


@asynccontextmanager
async def listening(
    visit: Visit, start: Callable[[Accept], Awaitable[asyncio.Server]]
) -> AsyncIterator[asyncio.Server]:
    """The server that `start` makes; each connection is a visit in a task of its own. At the end none is left."""
    visits: set[asyncio.Task[Any]] = set()
    writers: set[asyncio.StreamWriter] = set()

    async def received(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await visit(reader, writer)
        finally:
            writer.close()
            if writer.transport.get_write_buffer_size() == 0:
                writers.discard(writer)

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.add(writer)
        task = asyncio.create_task(received(reader, writer))
        visits.add(task)
        task.add_done_callback(visits.discard)

    server = await start(accept)
    try:
        yield server
    finally:
        server.close()
        for task in visits:
            task.cancel()
        await asyncio.gather(*visits, return_exceptions=True)
        for writer in writers:
            writer.transport.abort()
        await asyncio.sleep(0)


def holder(port: int, pids: Iterable[int]) -> int | None:
    """Which of those processes has the TCP socket with that local port."""
    sockets = {f"socket:[{inode}]" for inode in _inodes(port)}
    return next((pid for pid in pids if sockets & _open(pid)), None)


def _open(pid: int) -> set[str]:
    """What the process has open now; it opens and closes files meanwhile."""
    found = set()
    with suppress(OSError):
        for link in Path(f"/proc/{pid}/fd").iterdir():
            with suppress(FileNotFoundError):
                found.add(os.readlink(link))
    return found


def _inodes(port: int) -> list[str]:
    """Of all sockets with that local port, but those of connections that are over (inode 0)."""
    rows = (line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:])
    return [row[9] for row in rows if int(row[1].rpartition(":")[2], 16) == port and row[9] != "0"]
