"""PostgreSQL as the product reaches it: through a socket of ours that reads along, counts, holds back and breaks.

A statement is what a client sends up to the point where it waits for the server's `ReadyForQuery`. One that names a run in
its parameters counts, and so does the commit of a transaction in which one did, or in which the server named one.
"""

from __future__ import annotations

import asyncio
import re
import socket
import struct
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import parse_qs, quote, urlsplit

from tests.faults.cuts import Knife
from tests.faults.sockets import listening

_RUN = re.compile(rb"run_[0-9a-f]{12}")
_ENDS = frozenset(b"SQHXpcdf")
"""Client messages after which the server may answer: Sync, Query, Flush, Terminate, password, COPY's."""
_SOCKET = ".s.PGSQL.5432"


class PostgresProxy:
    """`dsn` leads to the server through it. `counted`: whose statements count, by process id. `away`: nobody gets through."""

    def __init__(self, *, knife: Knife, target: Path, dsn: str, folder: Path) -> None:
        self.dsn = dsn
        self.knife = knife
        self.target = target
        self.folder = folder
        self.counted: Callable[[int], bool] = lambda pid: True
        self.away = False
        self.links: set[Link] = set()

    def cut(self, pid: int | None = None) -> int:
        """Break every connection (of that process) that there is. How many there were."""
        cut = [link for link in self.links if pid in (None, link.pid)]
        for link in cut:
            link.abort()
        return len(cut)

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, until either side ends it."""
        link: Link | None = None
        try:
            if self.away:
                return
            upstream = await asyncio.open_unix_connection(str(self.target))
            link = Link(proxy=self, client=(reader, writer), server=upstream)
            self.links.add(link)
            await link.run()
        except (OSError, asyncio.IncompleteReadError):
            pass  # one side is gone, and so is the other one in a moment
        finally:
            if link is not None:
                self.links.discard(link)
                link.abort()


class Link:
    """One connection. `pid` is the client's."""

    def __init__(
        self,
        *,
        proxy: PostgresProxy,
        client: tuple[asyncio.StreamReader, asyncio.StreamWriter],
        server: tuple[asyncio.StreamReader, asyncio.StreamWriter],
    ) -> None:
        self._proxy = proxy
        self._client, self._to_client = client
        self._server, self._to_server = server
        raw = self._to_client.get_extra_info("socket")
        self.pid: int = struct.unpack("3i", raw.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[0]
        self._number: int | None = None  # of the statement whose answer is being held back
        self._about_a_run = False  # the open transaction is

    def abort(self) -> None:
        """Nothing more goes either way."""
        self._to_client.transport.abort()
        self._to_server.transport.abort()

    async def run(self) -> None:
        """Pass everything on until one side ends."""
        sides = [asyncio.create_task(self._requests()), asyncio.create_task(self._answers())]
        try:
            await asyncio.wait(sides, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for side in sides:
                side.cancel()
            await asyncio.gather(*sides, return_exceptions=True)

    async def _passes(self, number: int, moment: str) -> bool:
        return await self._proxy.knife.passes("statement", number, moment, lambda: self.pid)

    async def _requests(self) -> None:
        size = await self._client.readexactly(4)
        self._to_server.write(size + await self._client.readexactly(struct.unpack("!i", size)[0] - 4))
        batch, names_a_run = bytearray(), False
        while True:
            kind, message = await _message(self._client)
            batch += message
            if kind == b"B"[0] and _RUN.search(message):
                names_a_run = True
            if kind == b"Q"[0] and self._about_a_run:
                names_a_run = True
            if kind not in _ENDS:
                continue
            if kind in b"SQ" and names_a_run and self._proxy.counted(self.pid):
                self._number = self._proxy.knife.count("statement")
                self._about_a_run = True
                if not await self._passes(self._number, "before"):
                    return
            if kind in b"SQ":
                names_a_run = False
            self._to_server.write(batch)
            await self._to_server.drain()
            batch = bytearray()

    async def _answers(self) -> None:
        held, names_a_run = bytearray(), False
        while True:
            kind, message = await _message(self._server)
            held += message
            if kind == b"D"[0] and _RUN.search(message):
                names_a_run = True
            if kind == b"Z"[0]:
                if not await self._answered(idle=message[-1:] == b"I", names_a_run=names_a_run):
                    return
                names_a_run = False
            if self._number is None:
                self._to_client.write(held)
                await self._to_client.drain()
                held = bytearray()

    async def _answered(self, *, idle: bool, names_a_run: bool) -> bool:
        """Whether the answer of the statement goes on to the client."""
        if self._number is None and names_a_run and self._proxy.counted(self.pid):
            self._number = self._proxy.knife.count("statement")
            self._about_a_run = True
        if idle:
            self._about_a_run = False
        number, self._number = self._number, None
        return number is None or await self._passes(number, "after")


async def _message(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    head = await reader.readexactly(5)
    return head[0], head + await reader.readexactly(struct.unpack("!i", head[1:])[0] - 4)


@asynccontextmanager
async def postgres_proxy(dsn: str, knife: Knife) -> AsyncIterator[PostgresProxy]:
    """A proxy in front of the server of that DSN (a Unix socket)."""
    host = parse_qs(urlsplit(dsn).query)["host"][0]
    with tempfile.TemporaryDirectory(prefix="steadyhand-pg-") as name:
        folder = Path(name)
        ours = dsn.replace(quote(host), quote(name)) if quote(host) in dsn else dsn.replace(quote(host, safe=""), name)
        proxy = PostgresProxy(knife=knife, target=Path(host) / _SOCKET, dsn=ours, folder=folder)
        path = str(folder / _SOCKET)
        async with listening(
            proxy.connected, lambda accept: asyncio.start_unix_server(accept, path, limit=1 << 20, backlog=1024)
        ):
            yield proxy
