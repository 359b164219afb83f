"""The database of a command: the one that the settings name, or the embedded one of the data folder."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Literal

import msgspec

from app.cli.embedded.cluster import embedded_postgres, made
from app.cli.embedded.ownership import only_serve
from app.domain.errors import SteadyhandError
from app.settings import Settings
from app.storage.migrate import migrate, read_migrations, status
from app.storage.postgres.pool import Database, open_pool


class Reached(msgspec.Struct, frozen=True, kw_only=True):
    """A database that runs. `direct` leads past any pooler; `name` is how it is called in front of people."""

    dsn: str
    direct: str
    embedded: bool
    name: str


@asynccontextmanager
async def reach_database(
    settings: Settings, *, stays: Literal["serve", "worker"] | None = None
) -> AsyncIterator[Reached]:
    """The database for the time of the block. An embedded one is started where nobody runs it.

    `stays`: this process is there to stay, and keeps an embedded database running with the others that are. There is one
    `serve` of a data folder: another one waits for its end for 10 s and then raises `DataFolderInUse`.
    """
    given = settings.database
    if given.url is not None:
        yield Reached(dsn=given.url, direct=given.direct_url or given.url, embedded=False, name=_place(given.url))
        return
    folder = _absolute(settings.data_dir)
    bin_dir = Path(given.bin_dir) if given.bin_dir else None
    async with AsyncExitStack() as stack:
        if stays == "serve":
            await stack.enter_async_context(only_serve(made(folder)))
        lasting = stays is not None
        dsn = await stack.enter_async_context(
            embedded_postgres(folder, exclusive=False, lasting=lasting, bin_dir=bin_dir)
        )
        yield Reached(dsn=dsn, direct=dsn, embedded=True, name=f"embedded PostgreSQL in {folder}")


@asynccontextmanager
async def open_database(settings: Settings) -> AsyncIterator[Database]:
    """The database, open and of this release, for one command: an embedded one is migrated. Raises `SteadyhandError` where another
    lacks migrations.
    """
    async with reach_database(settings) as reached:
        if reached.embedded:
            await migrate(reached.direct, read_migrations())
        async with open_pool(reached.dsn, pool_min=1, pool_max=1, statement_cache=0) as database:
            if (await status(database, read_migrations())).pending:
                raise SteadyhandError("the database lacks migrations: run `steadyhand migrate`")
            yield database


def _absolute(folder: str) -> Path:
    return Path(folder).absolute()


def _place(url: str) -> str:
    """The URL without user and password."""
    from urllib.parse import urlsplit

    parts = urlsplit(url)
    where = parts.hostname or "local socket"
    port = f":{parts.port}" if parts.port else ""
    return f"PostgreSQL at {where}{port}{parts.path}"
