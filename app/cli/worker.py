"""`steadyhand worker`: executes runs that others accepted, until it is told to stop."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import os

from app.cli.banner import worker_banner
from app.cli.commands import DONE
from app.cli.database import reach_database
from app.cli.life import Life
from app.cli.listening import BACKLOG
from app.cli.port import check_free, listen, resolve
from app.cli.stopping import Stopping
from app.cli.workers import Workers
from app.storage.migrate import migrate, read_migrations
from app.telemetry.logs import configure_logging
from app.wiring.services import open_services
from app.workspace.load import load_workspace

log = logging.getLogger(__name__)

CONNECTIONS = 256
"""How many there may be: those that ask for health and metrics."""


async def run(options: argparse.Namespace) -> int:
    """Execute runs until SIGTERM or Ctrl-C, then hand them back. 0 after an orderly end."""
    workspace = load_workspace(options.workspace, os.environ)
    settings = workspace.settings
    os.environ.update(settings.dotenv)
    configure_logging(level=settings.log.level, format=settings.log.format)
    address = resolve(options.host)
    check_free(address, options.port)
    for warning in settings.warnings:
        log.warning(warning)
    concurrency = settings.worker.concurrency if options.concurrency is None else options.concurrency
    stopping = Stopping()
    with stopping.on_signals():
        try:
            async with contextlib.AsyncExitStack() as stack:
                with stopping.cancels():
                    database = await stack.enter_async_context(reach_database(settings, stays="worker"))
                    if database.embedded:
                        await migrate(database.direct, read_migrations())
                    services = await stack.enter_async_context(
                        open_services(
                            workspace,
                            database.dsn,
                            direct=database.direct,
                            role="worker",
                            concurrency=concurrency,
                            environ=os.environ,
                        )
                    )
                    alone = Workers(count=0, command=(), environ={})
                    life = Life(services=services, workers=alone, stopping=stopping, drain=settings.worker.drain)
                    pending = await life.begin()

                def ready(address: str, port: int) -> None:
                    banner = worker_banner(workspace, database, address, port, pending=pending, concurrency=concurrency)
                    print(banner, flush=True)
                    log.info("executing runs", extra={"address": address, "port": port, "concurrency": concurrency})

                held = listen(address, options.port, BACKLOG)
                await life.live(held, backpressure=CONNECTIONS, pending=pending, ready=ready)
        except asyncio.CancelledError:
            if not stopping.cancelled():
                raise
            log.info("stopped before the start was complete")
    return DONE
