"""`steadyhand serve`: one process that answers requests and executes runs, until it is told to stop."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import logging
import os
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from typing import Any

from granian.constants import HTTPModes, Interfaces
from granian.net import SocketHolder  # type: ignore[attr-defined]  # without an `as` in granian
from granian.server.embed import Server

from app.cli.commands import DONE, FAILED
from app.cli.database import Reached, reach_database
from app.cli.port import check_free, is_loopback, listen, resolve
from app.domain.errors import DatabaseUnavailable, SteadyhandError
from app.main import VERSION
from app.settings import Settings
from app.storage.migrate import migrate, read_migrations
from app.storage.postgres.owner import DatabaseOwned, owned_database
from app.telemetry.http import AsgiApp
from app.telemetry.logs import configure_logging
from app.wiring import Services, open_services
from app.workspace.load import Workspace, load_workspace

log = logging.getLogger(__name__)

BACKLOG = 2048
SPARE_CONNECTIONS = 1024
"""How many connections there may be beside the open streams."""
LINGER = 5.0
"""Seconds that connections have to end once nothing is done for them any more: one that never reads would keep us for ever."""
MIGRATIONS_POLL = 1.0
GC_THRESHOLDS = (10_000, 20, 20)
"""A turn makes some thousand objects that reference counts free; Python's default looks for cycles after every 700."""
REACHED_BY = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104  # compared with, not bound


async def run(options: argparse.Namespace) -> int:
    """Serve until SIGTERM or Ctrl-C, then drain. 0 after an orderly end."""
    workspace = load_workspace(options.workspace, os.environ)
    settings = workspace.settings
    os.environ.update(settings.dotenv)
    configure_logging(level=settings.log.level, format=settings.log.format)
    address = resolve(options.host or settings.server.host)
    if not is_loopback(address) and not options.insecure:
        raise SteadyhandError(
            f"{address} can be reached from other machines and this version has no authentication: anybody could use it. "
            "Put it behind something that authenticates and say --insecure, or listen on 127.0.0.1."
        )
    port = settings.server.port if options.port is None else options.port
    check_free(address, port)
    for warning in settings.warnings:
        log.warning(warning)
    stopping = Stopping()
    with stopping.on_signals():
        try:
            async with contextlib.AsyncExitStack() as stack:
                with stopping.cancels():
                    database = await stack.enter_async_context(reach_database(settings, exclusive=True))
                    if database.embedded:
                        await migrate(database.direct, read_migrations())
                    await stack.enter_async_context(owned_database(database.direct, lost=stopping.lost))
                    services = await stack.enter_async_context(
                        open_services(workspace, database.dsn, environ=os.environ)
                    )
                    await _warm(services)
                    pending = bool((await services.schema()).pending)
                    if not pending:
                        await _activate(services)
                await _serve(services, workspace, database, listen(address, port, BACKLOG), stopping, pending=pending)
        except asyncio.CancelledError:
            if not stopping.cancelled():
                raise
            log.info("stopped before the start was complete")
    return FAILED if stopping.failed else DONE


class Stopping:
    """When to stop: a signal, a second Ctrl-C for a stop without patience, or a lost database."""

    def __init__(self) -> None:
        self.begun = asyncio.Event()
        self.at_once = asyncio.Event()
        self.failed = False
        self._starting: asyncio.Task[object] | None = None
        self._cancelled: asyncio.Task[object] | None = None

    @contextlib.contextmanager
    def cancels(self) -> Iterator[None]:
        """A stop that begins within the block cancels the task that is in it."""
        self._starting = asyncio.current_task()
        try:
            yield
        finally:
            self._starting = None

    def cancelled(self) -> bool:
        """Whether a stop has cancelled this task, which is then over."""
        if self._cancelled is None:
            return False
        self._cancelled.uncancel()
        return True

    def on_signals(self) -> contextlib.ExitStack:
        """SIGTERM and SIGINT begin the stop for the time of the block. A second SIGTERM changes nothing."""
        handlers: dict[signal.Signals, Callable[[], None]] = {
            signal.SIGTERM: self._begin,
            signal.SIGINT: self._interrupted,
        }
        loop = asyncio.get_running_loop()
        stack = contextlib.ExitStack()
        for number, handler in handlers.items():
            try:
                loop.add_signal_handler(number, handler)
                stack.callback(loop.remove_signal_handler, number)
            except NotImplementedError:  # Windows
                before = signal.signal(number, lambda *_, call=handler: loop.call_soon_threadsafe(call))
                stack.callback(signal.signal, number, before)
        return stack

    def _begin(self) -> None:
        self.begun.set()
        if self._starting is not None:
            self._cancelled, self._starting = self._starting, None
            self._cancelled.cancel()

    def _interrupted(self) -> None:
        if self.begun.is_set():
            self.at_once.set()
        self._begin()

    def lost(self, error: DatabaseOwned) -> None:
        """Another process serves the database now: this one has nothing to do any more."""
        log.error("lost the database: %s", error)
        self.failed = True
        self._begin()
        self.at_once.set()


async def _warm(services: Services) -> None:
    """Import the SDKs that will be needed while nobody waits for them."""
    await asyncio.gather(*(provider.warm() for provider in services.providers.values()))


class HeldServer(Server):
    """A server on a socket that listens already, and is the server's once that serves.

    By itself it binds with SO_REUSEPORT: two of them share a port, and its connections, without a word.
    """

    _shd: Any

    def __init__(self, app: AsgiApp, held: socket.socket, *, backpressure: int) -> None:
        address, port = held.getsockname()[:2]
        super().__init__(
            app,
            address=address,
            port=port,
            interface=Interfaces.ASGINL,
            http=HTTPModes.auto,
            backlog=BACKLOG,
            backpressure=backpressure,
            log_enabled=False,
        )
        self._held = held

    def _init_shared_socket(self) -> None:
        posix = () if sys.platform == "win32" else (False, BACKLOG)  # not a Unix socket
        self._shd = SocketHolder(self._held.detach(), *posix)  # type: ignore[call-arg]  # granian's stub has no arguments


async def _serve(
    services: Services,
    workspace: Workspace,
    database: Reached,
    held: socket.socket,
    stopping: Stopping,
    *,
    pending: bool,
) -> None:
    """Serve until told to stop, then drain. Closes the socket."""
    settings = workspace.settings
    address, port = held.getsockname()[:2]
    server = HeldServer(services.app, held, backpressure=settings.server.max_streams + SPARE_CONNECTIONS)
    working = asyncio.create_task(_work(services, pending))
    listening = asyncio.create_task(server.serve())
    begun = asyncio.create_task(stopping.begun.wait())
    try:
        await _answers(address, port, listening)
        _settle_memory()
        print(banner(workspace, database, address, port, pending=pending), flush=True)
        await asyncio.wait([listening, begun, working], return_when=asyncio.FIRST_COMPLETED)
        log.info("draining")
        await _drain(services, settings, stopping)
    finally:
        for task in (begun, working):
            task.cancel()
        server.stop()  # type: ignore[no-untyped-call]  # granian has no annotation there
        done, _ = await asyncio.wait([listening], timeout=1.0 if stopping.at_once.is_set() else LINGER)
        if not done:
            log.warning("cut connections that did not end by themselves")
            listening.cancel()
        await asyncio.wait([listening, working, begun])
        held.close()
    for task in (listening, working):
        if not task.cancelled() and (error := task.exception()) is not None:
            raise error


def _settle_memory() -> None:
    """What was loaded stays: the collector need not walk through a hundred thousand of its objects again and again."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)


async def _activate(services: Services) -> None:
    recovered = await services.activate()
    if recovered:
        log.warning("ended runs that an earlier process left unfinished", extra={"runs": recovered})


async def _work(services: Services, pending: bool) -> None:
    """Execute queued runs; before that, wait for whoever migrates the database."""
    if pending:
        log.warning("the database lacks migrations; not ready until `steadyhand migrate` has run")
        while pending:
            await asyncio.sleep(MIGRATIONS_POLL)
            with contextlib.suppress(DatabaseUnavailable):
                pending = bool((await services.schema()).pending)
        await _activate(services)
    await services.work()


async def _answers(address: str, port: int, listening: asyncio.Task[None]) -> None:
    """Returns when a request was answered. Raises what ended the server instead."""
    asking = asyncio.create_task(_ask(REACHED_BY.get(address, address), port))
    try:
        await asyncio.wait([asking, listening], return_when=asyncio.FIRST_COMPLETED)
        await (listening if listening.done() else asking)
    finally:
        asking.cancel()
        await asyncio.wait([asking])


async def _ask(host: str, port: int) -> None:
    reader, writer = await asyncio.open_connection(host, port)
    try:
        writer.write(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        answer = await reader.read()
    finally:
        writer.close()
    if not answer.startswith(b"HTTP/1.1 200 "):
        raise SteadyhandError(f"the server on {host}:{port} does not answer: {answer[:80]!r}")


async def _drain(services: Services, settings: Settings, stopping: Stopping) -> None:
    drain = asyncio.create_task(services.drain(settings.worker.drain))
    at_once = asyncio.create_task(stopping.at_once.wait())
    try:
        await asyncio.wait([drain, at_once], return_when=asyncio.FIRST_COMPLETED)
        if not drain.done():
            services.hurry()
        await drain
    finally:
        at_once.cancel()


def banner(workspace: Workspace, database: Reached, address: str, port: int, *, pending: bool) -> str:
    """What was started, and what is missing."""
    settings = workspace.settings
    host = f"[{address}]" if ":" in address else address
    lines = [
        f"Steadyhand {VERSION}",
        f"  listening  http://{host}:{port}   (API and try-it page: /docs)",
        f"  database   {database.name}" + ("   MIGRATIONS PENDING: run `steadyhand migrate`" if pending else ""),
        f"  agents     {', '.join(_agent_names(workspace))}",
    ]
    for name, route in sorted(settings.routes.items()):
        chain = " -> ".join(f"{target.provider}/{target.model}" for target in route.chain)
        lines.append(f"  model      {name}: {chain}")
    lines += [f"  missing    {advice}" for advice in settings.advice]
    if is_loopback(address):
        lines.append("  access     no key is needed: only this machine can connect, and all of it is tenant `default`")
    else:
        lines.append("  ACCESS     INSECURE: anybody who reaches this address can use it")
    return "\n".join(lines)


def _agent_names(workspace: Workspace) -> list[str]:
    default = workspace.settings.default_agent
    return [f"{name} (default)" if name == default else name for name in sorted(workspace.agents)]
