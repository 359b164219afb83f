"""`Hints` by NOTIFY, on one connection a process that also listens. Its SQL stands in hints.sql."""

from __future__ import annotations

import asyncio
import logging
import os
import random
import re
import secrets
import socket
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress

import asyncpg

from app.domain.errors import ConfigError, DatabaseUnavailable
from app.domain.hints import Hinted
from app.storage.postgres.pool import availability, connect, queries

_log = logging.getLogger(__name__)
CHANNEL = "steadyhand_hints"
MOST_BYTES = 7500
"""Of one payload; PostgreSQL takes less than 8,000."""
_FIRST_PAUSE = 0.1
_LAST_WORDS = 1.0
_HELLO = "h"
_EVERYTHING = "e"
_RUN = re.compile(r"[!-~]{1,200}")


class PostgresHints:
    """Wake-ups between the processes of one database. Lives in one event loop.

    Says nothing while nobody else listens, which is looked up every `look` seconds; another process that begins to listen says
    hello. What gathers while one statement is under way goes out with the next; beyond `most` hints it becomes one: look at
    everything. `dsn` must not lead through a transaction pooler. `command` is what others may read about us in
    pg_stat_activity. `timeout`: seconds for an answer; `retry`: the longest pause between attempts to connect.
    """

    def __init__(
        self,
        *,
        dsn: str,
        command: str = "serve",
        look: float = 3.0,
        timeout: float = 5.0,
        retry: float = 5.0,
        most: int = 10_000,
    ) -> None:
        self._dsn = dsn
        # Names are cut at 63 bytes: what tells processes apart comes first.
        self._me = f"steadyhand bus {secrets.token_hex(4)} {command}, pid {os.getpid()} on {socket.gethostname()}"[:63]
        self._look = look
        self._timeout = timeout
        self._retry = retry
        self._most = most
        self._sql = queries("hints.sql")
        self._pending: dict[str, None] = {}
        self._others = False
        self._awake = asyncio.Event()
        self._quiet = asyncio.Event()
        self._quiet.set()
        self._hinted: Hinted | None = None
        self._missed: Callable[[], None] | None = None
        self._keeper: asyncio.Task[None] | None = None
        self._connection: asyncpg.Connection | None = None

    def queued(self) -> None:
        self._note("q")

    def wrote(self, run_id: str) -> None:
        self._note("w", run_id)

    def posted(self, run_id: str) -> None:
        self._note("p", run_id)

    def dropped(self, labels: Sequence[str]) -> None:
        """Answers with all those labels are not to be given any more."""
        self._note("d", "+".join(labels))

    async def start(self, hinted: Hinted, missed: Callable[[], None]) -> None:
        """From now on `hinted` is told what other processes say, and `missed` called when some of it may have been lost.

        Raises DatabaseUnavailable, and ConfigError for a DSN that is none; later the connection is made again by itself.
        """
        self._hinted, self._missed = hinted, missed
        self._connection = await self._listening()
        self._keeper = asyncio.create_task(self._keep(self._connection))

    async def aclose(self) -> None:
        """What was noted is said, if that takes no longer than a second; then nothing is said or delivered any more."""
        if self._others:
            with suppress(TimeoutError):
                async with asyncio.timeout(_LAST_WORDS):
                    await self._quiet.wait()
        self._others = False
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.wait([self._keeper])
        if self._connection is not None:  # of a keeper that was cancelled before it began
            self._connection.terminate()

    async def _ask(self, connection: asyncpg.Connection) -> bool:
        others: bool = await connection.fetchval(self._sql["others"], self._me, timeout=self._timeout)
        return others

    def _note(self, kind: str, run_id: str | None = None) -> None:
        if not self._others or _EVERYTHING in self._pending or (run_id is not None and not _RUN.fullmatch(run_id)):
            return
        if len(self._pending) >= self._most:
            self._pending = {_EVERYTHING: None}
        else:
            self._pending[kind + (run_id or "")] = None
        self._quiet.clear()
        self._awake.set()

    async def _listening(self) -> asyncpg.Connection:
        connection = await connect(self._dsn, application_name=self._me, timeout=self._timeout)
        try:
            with availability():
                connection.add_termination_listener(lambda _: self._awake.set())
                async with asyncio.timeout(self._timeout):
                    await connection.add_listener(CHANNEL, self._heard)
        except BaseException:
            connection.terminate()
            raise
        return connection

    async def _keep(self, connection: asyncpg.Connection) -> None:
        greeting = [_HELLO]
        while True:
            try:
                with availability():
                    await self._talk(connection, greeting)
                _log.warning("hints_connection_lost")
            except (DatabaseUnavailable, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
                _log.warning("hints_connection_lost", extra={"reason": str(error)})
            finally:
                self._others = False
                self._pending.clear()
                connection.terminate()
            connection = await self._again()
            _log.info("hints_connection_back")
            greeting = [_HELLO, _EVERYTHING]
            self._tell(_EVERYTHING)

    async def _again(self) -> asyncpg.Connection:
        pause = _FIRST_PAUSE
        while True:
            await asyncio.sleep(pause * random.uniform(0.5, 1.5))
            try:
                return await self._listening()
            except (DatabaseUnavailable, ConfigError, asyncpg.PostgresError, asyncpg.InterfaceError):
                pause = min(self._retry, 2 * pause)

    async def _talk(self, connection: asyncpg.Connection, greeting: Sequence[str]) -> None:
        """Until the connection ends."""
        # Greeted before the others are looked for: of two that begin at once, one hears the other.
        await self._notify(connection, greeting)
        look_at = 0.0
        while not connection.is_closed():
            self._awake.clear()
            if time.monotonic() >= look_at:
                self._others = await self._ask(connection)
                look_at = time.monotonic() + self._look * random.uniform(0.75, 1.25)
            if self._pending:
                pending, self._pending = self._pending, {}
                await self._notify(connection, pending)
            else:
                self._quiet.set()
                with suppress(TimeoutError):
                    async with asyncio.timeout(look_at - time.monotonic()):
                        await self._awake.wait()

    async def _notify(self, connection: asyncpg.Connection, words: Iterable[str]) -> None:
        await connection.execute(self._sql["notify"], CHANNEL, payloads(words), timeout=self._timeout)

    def _heard(self, connection: asyncpg.Connection, pid: int, _channel: str, payload: str) -> None:
        if (
            connection.is_closed() or pid == connection.get_server_pid()
        ):  # a word may still be on its way when we hang up
            return
        self._others = True
        for word in payload.split(" "):
            self._tell(word)

    def _tell(self, word: str) -> None:
        assert self._hinted is not None
        assert self._missed is not None
        kind, run_id = word[:1], word[1:]
        try:
            if kind == "q":
                self._hinted.queued()
            elif kind == "w":
                self._hinted.wrote(run_id)
            elif kind == "p":
                self._hinted.posted(run_id)
            elif kind == "d":
                self._hinted.dropped(run_id.split("+"))
            elif kind == "c":
                self._hinted.switched()
            elif kind == _EVERYTHING:
                self._missed()
        except Exception:  # noqa: BLE001  # logged; the connection must not end with it
            _log.exception("hint_failed")


def payloads(words: Iterable[str]) -> list[str]:
    """All the words, in order, in as few payloads as PostgreSQL takes."""
    found: list[str] = []
    line: list[str] = []
    size = 0
    for word in words:
        if line and size + len(word) + 1 > MOST_BYTES:
            found.append(" ".join(line))
            line, size = [], 0
        line.append(word)
        size += len(word) + 1
    return [*found, " ".join(line)] if line else found
