"""A service of our own, in this process, for the time of a command."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from app.cli.database import reach_database
from app.domain.errors import SteadyhandError
from app.storage.migrate import migrate, read_migrations
from app.wiring.services import Services, open_services
from app.workspace.load import Workspace

STOP_GRACE = 5.0
"""Seconds for runs to stop."""


@asynccontextmanager
async def own_services(workspace: Workspace) -> AsyncIterator[tuple[Services, str, asyncio.Future[None]]]:
    """Services that execute runs for the time of the block, beside those that use the database already; how the database is called;
    and what fails once nothing is executed any more.
    """
    loop = asyncio.get_running_loop()
    lost: asyncio.Future[None] = loop.create_future()
    async with AsyncExitStack() as stack:
        database = await stack.enter_async_context(reach_database(workspace.settings))
        if database.embedded:
            await migrate(database.direct, read_migrations())
        services = await stack.enter_async_context(
            open_services(
                workspace, database.dsn, direct=database.direct, role="all", keyless="always", environ=os.environ
            )
        )
        if (await services.schema()).pending:
            raise SteadyhandError("the database lacks migrations: run `steadyhand migrate`")
        await asyncio.gather(*(provider.warm() for provider in services.providers.values()))
        await services.activate()
        working = asyncio.create_task(services.work())

        def broke(task: asyncio.Task[None]) -> None:
            if not task.cancelled() and task.exception() is not None and not lost.done():
                lost.set_exception(SteadyhandError(f"nothing is executed any more: {task.exception()}"))

        working.add_done_callback(broke)
        try:
            yield services, database.name, lost
        finally:
            await _end(services, working)
            if not lost.cancel():
                lost.exception()  # is retrieved, whether or not somebody waited for it


async def _end(services: Services, working: asyncio.Task[None]) -> None:
    working.cancel()
    await asyncio.wait([working])
    await services.drain(STOP_GRACE)
    if not working.cancelled() and (error := working.exception()) is not None:
        raise error
