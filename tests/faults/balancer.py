"""A load balancer: connections go to the replicas in turn, and may be cut after a while, as proxies and meshes do."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager


class Balancer:
    """`port` is where it listens. `ports` are the replicas; one that does not answer is passed over."""

    def __init__(self, *, ports: Sequence[int], cut_after: float | None) -> None:
        self.port = 0
        self.ports = list(ports)
        self.cut_after = cut_after
        self.cuts = 0
        self._turn = itertools.count()

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, until either side ends it or its time is over."""
        try:
            upstream = await self._next()
            if upstream is None:
                return
            sides = [
                asyncio.create_task(_pass_on(reader, upstream[1])),
                asyncio.create_task(_pass_on(upstream[0], writer)),
            ]
            try:
                done, _ = await asyncio.wait(sides, timeout=self.cut_after, return_when=asyncio.FIRST_COMPLETED)
                self.cuts += not done
            finally:
                for side in sides:
                    side.cancel()
                await asyncio.gather(*sides, return_exceptions=True)
                upstream[1].transport.abort()
        finally:
            writer.close()

    async def _next(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter] | None:
        for _ in self.ports:
            try:
                return await asyncio.open_connection("127.0.0.1", self.ports[next(self._turn) % len(self.ports)])
            except OSError:
                continue
        return None


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()
    except ConnectionError:
        return


@asynccontextmanager
async def balancer(*ports: int, cut_after: float | None = None) -> AsyncIterator[Balancer]:
    """In front of those replicas; `cut_after` in seconds."""
    opened = Balancer(ports=ports, cut_after=cut_after)
    visits: set[asyncio.Task[None]] = set()

    def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(opened.connected(reader, writer))
        visits.add(task)
        task.add_done_callback(visits.discard)

    server = await asyncio.start_server(connected, "127.0.0.1", 0, backlog=2048)
    opened.port = server.sockets[0].getsockname()[1]
    try:
        yield opened
    finally:
        server.close()
        for visit in visits:
            visit.cancel()
        await asyncio.gather(*visits, return_exceptions=True)
