"""`LiveChannel` on a Redis-protocol server (Redis 7, Valkey 8 or later): a channel a run for the pieces, a key a run for the text so far."""

from __future__ import annotations

import asyncio
import logging
import re
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import aclosing, asynccontextmanager
from importlib.resources import files
from typing import Any

from redis.exceptions import NoScriptError, ResponseError

from app.domain.hints import LivePiece
from app.storage.redis.link import GONE, Link, reason

_log = logging.getLogger(__name__)
_SCRIPT = "live.lua"
_VALUE = re.compile(rb"(\d{16}) (\d{16}) ([^\n]*)\n(.*)", re.DOTALL)
_AT_ONCE = 8
_FIRST_PAUSE = 0.05
_LONGEST_PAUSE = 5.0


@asynccontextmanager
async def open_live(
    url: str,
    *,
    prefix: str = "steadyhand",
    ttl: int = 3600,
    kept_bytes: int = 1_000_000,
    timeout: float = 1.0,
    retry: float = 5.0,
    idle: float = 5.0,
) -> AsyncIterator[RedisLive]:
    """The channel, closed at the end. A server that is away is waited for in the background.

    `ttl`: seconds that a text is kept after it last grew; `kept_bytes`: of a longer one nothing is. `timeout`: seconds for an
    answer; `retry`: the longest pause between attempts; `idle`: a listening connection is asked for a sign of life after so long.
    Raises ConfigError where the URL is not one.
    """
    link = Link(url=url, timeout=timeout, retry=retry)
    live = RedisLive(link=link, prefix=prefix, ttl=ttl, kept_bytes=kept_bytes, idle=idle)
    async with link.kept(live.prepare):
        yield live


class RedisLive:
    """Live text over one server, as `open_live` says. Safe for concurrent use; only `receive` runs once at a time. Nothing raises.

    `link`: the server, for others that use it too while the channel is open.
    """

    def __init__(self, *, link: Link, prefix: str, ttl: int, kept_bytes: int, idle: float) -> None:
        self.link = self._link = link
        self._prefix = f"{prefix}:live:"
        self._channels = f"{prefix}:live:{link.database}:"
        self._ttl = ttl
        self._kept_bytes = kept_bytes
        self._idle = idle
        self._script = (files("app.storage.redis") / _SCRIPT).read_text(encoding="utf-8")
        self._sha = ""
        self._sending = asyncio.Lock()
        self._reading = asyncio.Semaphore(_AT_ONCE)
        self._refused = False
        self._wanted: set[str] = set()
        self._deaf = False
        self._connection: Any = None
        self._asking = asyncio.Lock()
        self._confirmations: deque[asyncio.Future[None]] = deque()

    async def health(self) -> str | None:
        """None: the server answers. Else what is wrong."""
        return await self._link.health()

    async def prepare(self) -> None:
        """The server has the script. Raises what redis-py raises."""
        self._sha = await self._link.client.script_load(self._script)

    async def send(self, pieces: Sequence[LivePiece]) -> None:
        """As `LiveChannel.send`; batches arrive in the order of the calls."""
        if not pieces or not self._link.there():
            return
        async with self._sending:
            if not self._link.there():
                return
            try:
                async with asyncio.timeout(self._link.timeout):
                    answers = await self._write(pieces)
            except GONE as error:
                self._link.gone(error)
                return
        self._judge([answer for answer in answers if isinstance(answer, Exception)])

    async def _write(self, pieces: Sequence[LivePiece]) -> list[Any]:
        pipeline = self._link.client.pipeline(transaction=False)
        for piece in pieces:
            # A lone surrogate becomes one other code point: the offsets stay right.
            text = piece.text.encode("utf-8", "replace")
            seq, offset, end = (f"{n:016d}" for n in (piece.seq, piece.offset, piece.offset + len(piece.text)))
            name = self._prefix + piece.run_id
            # Kept first: who listens before he looks at what is kept misses nothing.
            pipeline.evalsha(self._sha, 1, name, seq, offset, end, piece.message_id, text, self._ttl, self._kept_bytes)
            pipeline.publish(self._channels + piece.run_id, f"{seq} {end} {piece.message_id}\n".encode() + text)
        answers: list[Any] = await pipeline.execute(raise_on_error=False)
        return answers

    def _judge(self, errors: Sequence[Exception]) -> None:
        if lost := next((error for error in errors if isinstance(error, NoScriptError)), None):
            self._link.gone(lost)
        elif errors and not self._refused:
            _log.warning("redis_refuses_live_text", extra={"reason": reason(errors[0])})
        self._refused = bool(errors)

    async def snapshot(self, run_id: str) -> LivePiece | None:
        async with self._reading:
            if not self._link.there():
                return None
            try:
                async with asyncio.timeout(self._link.timeout):
                    value = await self._link.client.get(self._prefix + run_id)
            except ResponseError:  # something else has that key
                return None
            except GONE as error:
                self._link.gone(error)
                return None
        piece = _piece(run_id, value) if isinstance(value, bytes) else None
        return piece if piece is not None and piece.offset == 0 else None

    async def listen(self, run_id: str) -> None:
        """As `LiveChannel.listen`: what is sent after the return is received, unless the server is away."""
        self._wanted.add(run_id)
        if (connection := self._connection) is None:
            return
        try:
            async with asyncio.timeout(self._link.timeout):
                await self._subscribe(connection, [run_id])
        except GONE as error:
            self._link.gone(error)

    async def leave(self, run_id: str) -> None:
        if run_id not in self._wanted:
            return
        self._wanted.discard(run_id)
        if (connection := self._connection) is None:
            return
        try:
            async with asyncio.timeout(self._link.timeout), self._asking:
                if connection is self._connection and run_id not in self._wanted:
                    await connection.send_command("UNSUBSCRIBE", self._channels + run_id)
        except GONE:
            self._link.doubt()

    async def receive(self, said: Callable[[LivePiece], None], again: Callable[[], Awaitable[None]]) -> None:
        """As `LiveChannel.receive`; `again` runs beside, and is cancelled where pieces were missed once more."""
        pause, missed = _FIRST_PAUSE, False
        while True:
            await self._link.back()
            missed = missed or bool(self._wanted)
            connection = self._link.client.connection_pool.make_connection()  # type: ignore[no-untyped-call]
            looking: asyncio.Task[None] | None = None
            try:
                async with asyncio.timeout(self._link.timeout):
                    await connection.connect()
                self._connection = connection
                looking = asyncio.create_task(self._look(connection, again if missed else None))
                missed, pause = True, _FIRST_PAUSE
                await self._deliver(connection, said)
            except GONE as error:
                self._unheard(error)
            finally:
                self._connection = None
                await self._forget(connection, looking)
            await asyncio.sleep(pause)
            pause = min(_LONGEST_PAUSE, 2 * pause)

    async def _deliver(self, connection: Any, said: Callable[[LivePiece], None]) -> None:
        """Until the connection breaks, which raises."""
        async with aclosing(self._link.answers(connection, idle=self._idle, turn=self._asking)) as answers:
            async for answer in answers:
                match answer:
                    case [b"message", bytes(channel), bytes(value)]:
                        run_id = channel.decode("utf-8", "replace").removeprefix(self._channels)
                        if run_id in self._wanted and (piece := _piece(run_id, value)) is not None:
                            _say(said, piece)
                    case [b"subscribe", *_]:
                        _settle(self._confirmations.popleft())

    async def _look(self, connection: Any, again: Callable[[], Awaitable[None]] | None) -> None:
        """Every wanted run is listened to; then `again`."""
        try:
            async with asyncio.timeout(self._link.timeout):
                await self._subscribe(connection, sorted(self._wanted))
        except GONE:
            await connection.disconnect(nowait=True)  # the reader notices
            return
        self._deaf = False
        if again is not None:
            try:
                await again()
            except Exception:  # noqa: BLE001  # logged; the text goes on without
                _log.exception("live_text_not_looked_at_again")

    async def _subscribe(self, connection: Any, run_ids: Sequence[str]) -> None:
        """Confirmations come in the order of the asking."""
        loop = asyncio.get_running_loop()
        confirmed = [loop.create_future() for _ in run_ids]
        async with self._asking:
            if not run_ids or connection is not self._connection:
                return
            self._confirmations.extend(confirmed)
            await connection.send_command("SUBSCRIBE", *(self._channels + run_id for run_id in run_ids))
        await confirmed[-1]

    def _unheard(self, error: BaseException) -> None:
        self._link.doubt()
        if isinstance(error, ResponseError) and not self._deaf:
            self._deaf = True
            _log.warning("redis_refuses_subscriptions", extra={"reason": reason(error)})

    async def _forget(self, connection: Any, looking: asyncio.Task[None] | None) -> None:
        """Nothing waits for that connection any more, and it is closed."""
        if looking is not None:
            looking.cancel()
            await asyncio.wait([looking])
        async with self._asking:
            while self._confirmations:
                _settle(self._confirmations.popleft())
            await connection.disconnect(nowait=True)


def _say(said: Callable[[LivePiece], None], piece: LivePiece) -> None:
    try:
        said(piece)
    except Exception:  # noqa: BLE001  # logged; the next piece may find who wants it
        _log.exception("live_text_not_taken")


def _settle(confirmed: asyncio.Future[None]) -> None:
    if not confirmed.done():
        confirmed.set_result(None)


def _piece(run_id: str, value: bytes) -> LivePiece | None:
    """What a value says; None: it is not one of ours."""
    if (found := _VALUE.fullmatch(value)) is None:
        return None
    try:
        message_id, text = found[3].decode(), found[4].decode()
    except UnicodeDecodeError:
        return None
    offset = int(found[2]) - len(text)
    return (
        LivePiece(run_id=run_id, message_id=message_id, seq=int(found[1]), offset=offset, text=text)
        if offset >= 0
        else None
    )
