"""The life of a process that serves or executes runs: from its database and services, over the drain, to their end."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import socket
from collections.abc import Callable
from typing import Any

from app.access.authentication import NO_KEY_YET, Keyless
from app.cli.database import Reached, reach_database
from app.cli.listening import BACKLOG, HeldServer, answers
from app.cli.port import listen
from app.cli.stopping import Stopping
from app.cli.workers import Workers
from app.domain.errors import DatabaseUnavailable, SteadyhandError
from app.storage.migrate import migrate, read_migrations
from app.wiring.services import Role, Services, open_services
from app.workspace.load import Workspace

log = logging.getLogger(__name__)

LINGER = 5.0
"""Seconds that connections have to end once nothing is done for them any more: one that never reads would keep us for ever."""
MIGRATIONS_POLL = 1.0
GC_THRESHOLDS = (10_000, 20, 20)
"""A turn makes some thousand objects that reference counts free; Python's default looks for cycles after every 700."""


async def live(
    workspace: Workspace,
    *,
    role: Role,
    keyless: Keyless = "never",
    address: str,
    port: int,
    connections: int,
    ready: Callable[[Reached, str, int, bool, str | None], None],
    concurrency: int | None = None,
    workers: Workers | None = None,
) -> None:
    """Serve there until SIGTERM or Ctrl-C, with at most so many connections, then drain. On the main thread.

    `ready` is called once requests are answered: with the database, the address and the port, whether migrations are
    pending, and what requests need (None: nothing). `role`, `keyless` and `concurrency` as in `open_services`. Raises
    SteadyhandError where others than this machine could connect, and nobody may ask anything because there is no key.
    """
    settings = workspace.settings
    workers = workers or Workers(count=0, command=(), environ={})
    stopping = Stopping()
    with stopping.on_signals():
        try:
            async with contextlib.AsyncExitStack() as stack:
                with stopping.cancels():
                    database = await stack.enter_async_context(
                        reach_database(settings, stays="worker" if role == "worker" else "serve")
                    )
                    if database.embedded:
                        await migrate(database.direct, read_migrations())
                    services = await stack.enter_async_context(
                        open_services(
                            workspace,
                            database.dsn,
                            direct=database.direct,
                            role=role,
                            keyless=keyless,
                            concurrency=concurrency,
                            environ=os.environ,
                        )
                    )
                    life = Life(
                        services=services,
                        workers=workers,
                        stopping=stopping,
                        drain=settings.worker.drain,
                        read_timeout=settings.server.read_timeout,
                    )
                    pending = await life.begin()
                    needed = None if pending else await services.entrance.authentication.required()
                    if needed == NO_KEY_YET and role != "worker":
                        raise no_key_yet(address)
                stack.push_async_callback(workers.aclose)
                await life.live(
                    listen(address, port, BACKLOG),
                    backpressure=connections,
                    pending=pending,
                    ready=lambda address, port: ready(database, address, port, pending, needed),
                )
        except asyncio.CancelledError:
            if not stopping.cancelled():
                raise
            log.info("stopped before the start was complete")


def no_key_yet(address: str) -> SteadyhandError:
    """Why a service that others can reach does not start without a key."""
    return SteadyhandError(
        f"{address} can be reached from other machines, or by a proxy (server.trusted_proxies, server.root_path), and there "
        "is no API key: nobody could use it. Make one with `steadyhand keys create`, set auth.bootstrap_key_file or the "
        "issuer of your tokens, listen on 127.0.0.1 without a proxy, or say --insecure to let everybody in."
    )


class Life:
    """One process's services behind its socket, with the workers that it started."""

    def __init__(
        self, *, services: Services, workers: Workers, stopping: Stopping, drain: float, read_timeout: float
    ) -> None:
        """`drain`: seconds that runs have to end by themselves; `read_timeout` as in `HeldServer`."""
        self._services = services
        self._workers = workers
        self._stopping = stopping
        self._drain_seconds = drain
        self._read_timeout = read_timeout

    async def begin(self) -> bool:
        """Everything is ready for the first request. Whether migrations are pending, which `live` then waits for."""
        # The SDKs are imported while nobody waits for them.
        await asyncio.gather(*(provider.warm() for provider in self._services.providers.values()))
        pending = bool((await self._services.schema()).pending)
        if not pending:
            await self._activate()
        return pending

    async def live(
        self, held: socket.socket, *, backpressure: int, pending: bool, ready: Callable[[str, int], None]
    ) -> None:
        """Serve until told to stop, then drain. `ready` is called with address and port once requests are answered. Closes the socket."""
        address, port = held.getsockname()[:2]
        server = HeldServer(self._services.app, held, backpressure=backpressure, read_timeout=self._read_timeout)
        listening = asyncio.create_task(server.serve())
        supervising = asyncio.create_task(self._workers.run())
        others: list[asyncio.Task[Any]] = [
            asyncio.create_task(self._work(pending)),
            asyncio.create_task(self._stopping.begun.wait()),
        ]
        tasks = [listening, supervising, *others]
        try:
            await answers(address, port, listening)
            settle_memory()
            ready(address, port)
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            log.info("draining")
            supervising.cancel()
            await asyncio.wait([supervising])
            await self._drain()
        finally:
            for task in (supervising, *others):
                task.cancel()
            server.stop()  # type: ignore[no-untyped-call]  # granian has no annotation there
            done, _ = await asyncio.wait([listening], timeout=1.0 if self._stopping.at_once.is_set() else LINGER)
            if not done:
                log.warning("cut connections that did not end by themselves")
                listening.cancel()
            await asyncio.wait(tasks)
            held.close()
        for task in tasks:
            if not task.cancelled() and (error := task.exception()) is not None:
                raise error

    async def _activate(self) -> None:
        recovered = await self._services.activate()
        if recovered:
            log.warning("go on with runs that an earlier process left unfinished", extra={"runs": recovered})

    async def _work(self, pending: bool) -> None:
        """Execute queued runs; before that, wait for whoever migrates the database."""
        if pending:
            log.warning("the database lacks migrations; not ready until `steadyhand migrate` has run")
            while pending:
                await asyncio.sleep(MIGRATIONS_POLL)
                with contextlib.suppress(DatabaseUnavailable):
                    pending = bool((await self._services.schema()).pending)
            await self._activate()
        await self._services.work()

    async def _drain(self) -> None:
        """Whatever goes on here and in the workers is finished or handed back, and the workers are gone."""
        parts = (self._services.drain(self._drain_seconds), self._workers.drain(self._drain_seconds))
        draining: asyncio.Future[Any] = asyncio.gather(*parts)
        at_once: asyncio.Future[Any] = asyncio.create_task(self._stopping.at_once.wait())
        try:
            await asyncio.wait([draining, at_once], return_when=asyncio.FIRST_COMPLETED)
            if not draining.done():
                self._services.hurry()
                self._workers.hurry()
            await draining
        finally:
            at_once.cancel()


def settle_memory() -> None:
    """What was loaded stays: the collector need not walk through a hundred thousand of its objects again and again."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)
