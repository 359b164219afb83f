"""A service of our own, in this process, for the time of a chat."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AsyncExitStack, aclosing, asynccontextmanager

from app.cli.database import reach_database
from app.domain.errors import RequestError, SteadyhandError
from app.domain.principals import ANONYMOUS
from app.runs.service import RunService, Started, StartRun
from app.runs.stream import Item
from app.storage.migrate import migrate, read_migrations
from app.storage.postgres.owner import DatabaseOwned, owned_database
from app.wiring import Services, open_services
from app.workspace.load import Workspace

STOP_GRACE = 5.0
"""Seconds for a run to stop."""


class OwnService:
    """A service of this process; see `own_service`."""

    def __init__(self, *, service: RunService, name: str, lost: asyncio.Future[None]) -> None:
        self.lost = lost
        self._service = service
        self._name = name
        self._starting: asyncio.Task[Started] | None = None

    async def check(self, agent: str | None) -> str:
        return f"{self._service.agents.get(agent).name}, in this process ({self._name})"

    async def messages(self, session_id: str) -> int:
        try:
            return len(await self._service.messages(ANONYMOUS, session_id))
        except RequestError as error:
            if error.code == "not_found":
                return 0
            raise

    async def ask(self, agent: str | None, session_id: str, text: str) -> AsyncGenerator[Item, None]:
        wanted = StartRun(input=text, agent=agent, session_id=session_id)
        self._starting = asyncio.create_task(self._service.start(ANONYMOUS, wanted))
        started = await asyncio.shield(self._starting)
        async with aclosing(self._service.follow(started)) as batches:
            async for batch in batches:
                for item in batch:
                    yield item

    async def leave(self, run_id: str | None) -> str:
        """Stops the run, also one that is just being accepted."""
        if self._starting is None:
            return "stopped"
        started = await self._starting
        await self._service.interrupt(ANONYMOUS, started.run_id)
        done, _ = await asyncio.wait([asyncio.shield(started.feed.ended)], timeout=STOP_GRACE)
        return "stopped" if done else f"run {started.run_id} is being stopped"

    async def reset(self, session_id: str) -> None:
        await self._service.reset(ANONYMOUS, session_id)


@asynccontextmanager
async def own_service(workspace: Workspace) -> AsyncIterator[OwnService]:
    """A service of our own, which executes runs for the time of the block. Raises where another one serves the database."""
    settings = workspace.settings
    url = f"http://{settings.server.host}:{settings.server.port}"
    instead = f"talk to it instead: steadyhand chat --url {url} (or what its banner says)"
    loop = asyncio.get_running_loop()
    lost: asyncio.Future[None] = loop.create_future()
    async with AsyncExitStack() as stack:
        database = await stack.enter_async_context(reach_database(settings))

        def taken(error: DatabaseOwned) -> None:
            if not lost.done():
                lost.set_exception(SteadyhandError(f"{error}; {instead}"))

        try:
            owned = owned_database(database.direct, lost=taken, wait=1.0, command="chat")
            await stack.enter_async_context(owned)
        except DatabaseOwned as error:
            raise SteadyhandError(f"{error}; {instead}") from error
        if database.embedded:
            await migrate(database.direct, read_migrations())
        services = await stack.enter_async_context(open_services(workspace, database.dsn, environ=os.environ))
        if (await services.schema()).pending:
            raise SteadyhandError("the database lacks migrations: run `steadyhand migrate`")
        await asyncio.gather(*(provider.warm() for provider in services.providers.values()))
        await services.activate()
        working = asyncio.create_task(services.work())
        try:
            yield OwnService(service=services.service, name=database.name, lost=lost)
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
