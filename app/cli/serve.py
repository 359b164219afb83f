"""`steadyhand serve`: answers requests and executes runs, or lets workers execute them, until it is told to stop."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Mapping
from pathlib import Path

from app.access.authentication import Keyless
from app.cli.banner import serve_banner
from app.cli.commands import DONE
from app.cli.database import Reached
from app.cli.life import live, no_key_yet
from app.cli.port import check_free, is_loopback, resolve
from app.cli.workers import Workers, same_program
from app.domain.errors import SteadyhandError
from app.settings import Settings, secrets_of
from app.settings.options import Server
from app.telemetry.logs import configure_logging
from app.workspace.load import load_workspace

log = logging.getLogger(__name__)

SPARE_CONNECTIONS = 1024
"""How many connections there may be beside the open streams."""


async def run(options: argparse.Namespace) -> int:
    """Serve until SIGTERM or Ctrl-C, then drain. 0 after an orderly end."""
    environ = dict(os.environ)
    workspace = load_workspace(options.workspace, environ)
    settings = workspace.settings
    os.environ.update(settings.dotenv)
    configure_logging(level=settings.log.level, format=settings.log.format, secrets=secrets_of(settings, os.environ))
    address = resolve(options.host or settings.server.host)
    keyless = keyless_of(address, settings.server, insecure=options.insecure)
    if keyless == "never" and _nothing_there(settings):
        raise no_key_yet(address)
    if options.workers and sys.platform == "win32":
        raise SteadyhandError("--workers needs Unix signals: start `steadyhand worker` processes yourself")
    port = settings.server.port if options.port is None else options.port
    check_free(address, port)
    for warning in settings.warnings:
        log.warning(warning)
    workers = _workers(options, environ)
    executes = options.role == "all" and not workers.count

    def ready(database: Reached, address: str, port: int, pending: bool, needed: str | None) -> None:
        text = serve_banner(
            workspace,
            database,
            address,
            port,
            pending=pending,
            needed=needed,
            executes=executes,
            workers=workers.count,
        )
        if needed is None and not pending:
            log.warning(
                "no API key is needed: every request is tenant `default`, until `steadyhand keys create` makes the first key"
            )
        print(text, flush=True)

    await live(
        workspace,
        role="all" if executes else "api",
        keyless=keyless,
        address=address,
        port=port,
        connections=settings.server.max_streams + SPARE_CONNECTIONS,
        ready=ready,
        workers=workers,
    )
    return DONE


def keyless_of(address: str, server: Server, *, insecure: bool) -> Keyless:
    """Who needs no key while there is none. Behind a proxy every request seems to come from this machine."""
    if insecure:
        return "until_keys"
    shown = server.trusted_proxies or server.root_path
    return "here" if is_loopback(address) and not shown else "never"


def _nothing_there(settings: Settings) -> bool:
    """Whether there can be no key, so that no database need be made to find that out."""
    auth = settings.auth
    if auth.bootstrap_key_file is not None or auth.jwt_issuer is not None or settings.database.url is not None:
        return False
    return not Path(settings.data_dir).exists()


def _workers(options: argparse.Namespace, environ: Mapping[str, str]) -> Workers:
    """The workers that were asked for. They get the environment as we got it, and read `.env` themselves."""
    command = same_program(["worker", "--workspace", str(options.workspace), "--port", "0"])
    return Workers(count=options.workers, command=command, environ=environ)
