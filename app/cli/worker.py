"""`steadyhand worker`: executes runs that others accepted, until it is told to stop."""

from __future__ import annotations

import argparse
import logging
import os

from app.cli.banner import worker_banner
from app.cli.commands import DONE
from app.cli.database import Reached
from app.cli.life import live
from app.cli.port import check_free, resolve
from app.settings import secrets_of
from app.telemetry.logs import configure_logging
from app.workspace.load import load_workspace

log = logging.getLogger(__name__)

CONNECTIONS = 256
"""How many there may be: those that ask for health and metrics."""


async def run(options: argparse.Namespace) -> int:
    """Execute runs until SIGTERM or Ctrl-C, then hand them back. 0 after an orderly end."""
    workspace = load_workspace(options.workspace, os.environ)
    settings = workspace.settings
    os.environ.update(settings.dotenv)
    configure_logging(level=settings.log.level, format=settings.log.format, secrets=secrets_of(settings, os.environ))
    address = resolve(options.host)
    check_free(address, options.port)
    for warning in settings.warnings:
        log.warning(warning)
    concurrency = settings.worker.concurrency if options.concurrency is None else options.concurrency

    def ready(database: Reached, address: str, port: int, pending: bool, needed: str | None) -> None:
        print(worker_banner(workspace, database, address, port, pending=pending, concurrency=concurrency), flush=True)
        log.info("executing runs", extra={"address": address, "port": port, "concurrency": concurrency})

    await live(
        workspace,
        role="worker",
        address=address,
        port=options.port,
        connections=CONNECTIONS,
        ready=ready,
        concurrency=concurrency,
    )
    return DONE
