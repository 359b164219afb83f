"""A load balancer: connections go to the replicas in turn, and may be cut after a while, as proxies and meshes do."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from tests.faults.sockets import listening


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
            upstream[1].transport.abort()
            for side in sides:
                side.cancel()
            await asyncio.gather(*sides, return_exceptions=True)

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
    async with listening(
        opened.connected, lambda accept: asyncio.start_server(accept, "127.0.0.1", 0, backlog=2048)
    ) as server:
        opened.port = server.sockets[0].getsockname()[1]
        yield opened
