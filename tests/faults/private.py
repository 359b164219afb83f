"""A PostgreSQL of a test's own, that can go away and come back."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from app.cli.embedded.cluster import embedded_postgres
from app.storage.migrate import migrate, read_migrations

FAST = {"fsync": "off", "full_page_writes": "off", "shared_buffers": "64MB", "autovacuum": "off"}


class PrivatePostgres:
    """`dsn` is where it is now: another place after each start."""

    def __init__(self, *, folder: Path) -> None:
        self.dsn = ""
        self._folder = folder
        self._stack = AsyncExitStack()

    @property
    def socket(self) -> Path:
        return Path(parse_qs(urlsplit(self.dsn).query)["host"][0]) / ".s.PGSQL.5432"

    async def start(self) -> None:
        """It takes connections."""
        self.dsn = await self._stack.enter_async_context(embedded_postgres(self._folder, exclusive=True, settings=FAST))

    async def stop(self) -> None:
        """It is away, and every connection with it."""
        await self._stack.aclose()


@asynccontextmanager
async def private_postgres(folder: Path) -> AsyncIterator[PrivatePostgres]:
    """A migrated one in that folder."""
    server = PrivatePostgres(folder=folder)
    await server.start()
    try:
        await migrate(server.dsn, read_migrations())
        yield server
    finally:
        await server.stop()
