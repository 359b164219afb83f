"""A Redis-protocol server that may go away at any moment: what is asked of it fails at once until it is back."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from enum import Enum
from typing import Any, TypeVar

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError, ResponseError

from app.domain.errors import ConfigError, ConfigProblem

_log = logging.getLogger(__name__)
T = TypeVar("T")
GONE = (RedisError, OSError, TimeoutError, EOFError, RuntimeError)
"""What a connection that broke raises. RuntimeError is uvloop's, about a transport that closed a moment ago."""
_FIRST_PAUSE = 0.05
_CALM = 10.0
"""An outage that begins this many seconds after the one before is a new one: it is tried again soon."""


class Silence(Enum):
    """Why there is no answer."""

    AWAY = "the server is not there"
    REFUSED = "it is, and does not do it"


class Link:
    """One server, as all that use it see it. Its attempts to get back are its own: nobody waits for them.

    `timeout`: seconds for any answer. `retry`: the longest pause between two attempts. `database`: the number of the one that keys
    are in; channels are the whole server's, so their names must have it.
    """

    def __init__(self, *, url: str, timeout: float = 1.0, retry: float = 5.0) -> None:
        try:
            self.client: Redis = Redis.from_url(
                url,
                protocol=2,
                decode_responses=False,
                # Every wait has a limit of ours. The client's own would use `wait_for`, which swallows a cancellation (Python 3.11).
                socket_timeout=None,
                socket_connect_timeout=timeout,
                retry=Retry(NoBackoff(), 0, supported_errors=()),
            )
        except (ValueError, TypeError) as error:
            raise ConfigError([ConfigProblem("redis.url", "cannot be used", str(error))]) from error
        self.timeout = timeout
        self.database = int(self.client.connection_pool.connection_kwargs.get("db") or 0)
        self._retry = retry
        self._pause = _FIRST_PAUSE
        self._back_at = -_CALM
        self._back = asyncio.Event()
        self._doubted = asyncio.Event()
        self._prepare: Callable[[], Awaitable[object]] = self.client.ping

    def there(self) -> bool:
        """Whether the server answered when it was last asked."""
        return self._back.is_set()

    async def back(self) -> None:
        """Return when the server is there."""
        await self._back.wait()

    def gone(self, error: BaseException) -> None:
        """Somebody got no answer. One warning an outage."""
        self._doubted.set()
        if not self._back.is_set():
            return
        self._back.clear()
        if time.monotonic() - self._back_at > _CALM:
            self._pause = _FIRST_PAUSE
        _log.warning("redis_unavailable", extra={"reason": reason(error)})

    def doubt(self) -> None:
        """Ask soon whether the server is there."""
        self._doubted.set()

    async def health(self) -> str | None:
        """None: it answers. Else what is wrong."""
        return None if (error := await self._ask(self.client.ping)) is None else reason(error)

    async def answers(
        self, connection: Any, *, idle: float, turn: AbstractAsyncContextManager[object]
    ) -> AsyncGenerator[Any, None]:
        """What the server says over a connection that listens, until it breaks, which raises.

        After `idle` seconds without a word it is asked for a sign of life, within the `turn` of those who write to that connection.
        """
        asked = False
        while True:
            answer = await connection.read_response(timeout=idle, disconnect_on_error=False)
            if answer is not None:
                asked = False
                yield answer
                continue
            if asked:
                raise TimeoutError("no sign of life")
            async with asyncio.timeout(self.timeout), turn:
                await connection.send_command("PING")
            asked = True

    @asynccontextmanager
    async def kept(self, prepare: Callable[[], Awaitable[object]]) -> AsyncIterator[None]:
        """The server is asked for once and then kept in sight for the block; `prepare` is what it is asked whenever it is back."""
        self._prepare = prepare
        if (error := await self._ask(prepare)) is None:
            self._found()
        else:
            self._doubted.set()
            _log.warning("redis_unavailable", extra={"reason": reason(error)})
        keeper = asyncio.create_task(self._keep())
        try:
            yield
        finally:
            keeper.cancel()
            await asyncio.wait([keeper])
            await self.client.aclose()

    def _found(self) -> None:
        self._back_at = time.monotonic()
        self._back.set()

    async def _keep(self) -> None:
        while True:
            await self._doubted.wait()
            self._doubted.clear()
            while not self.there():
                await asyncio.sleep(self._pause * random.uniform(0.5, 1.5))
                self._pause = min(self._retry, 2 * self._pause)
                if await self._ask(self._afresh) is None:
                    self._found()
                    _log.info("redis_available_again")
            if (error := await self._ask(self._prepare)) is not None:
                self.gone(error)

    async def _afresh(self) -> None:
        """Over new connections: the old ones are most likely dead."""
        await self.client.connection_pool.disconnect(inuse_connections=False)
        await self._prepare()

    async def _ask(self, question: Callable[[], Awaitable[object]]) -> BaseException | None:
        try:
            async with asyncio.timeout(self.timeout):
                await question()
        except GONE as error:
            return error
        return None


class Questions:
    """What one user of a link asks of its server. Nothing raises, and nothing takes longer than the link's timeout.

    `refusal` is what the log calls it when the server refuses: once, until it answers again.
    """

    def __init__(self, *, link: Link, refusal: str) -> None:
        self._link = link
        self._refusal = refusal
        self._refused = False

    async def ask(self, question: Callable[[], Awaitable[T]]) -> T | Silence:
        """The answer, or why there is none."""
        if not self._link.there():
            return Silence.AWAY
        try:
            async with asyncio.timeout(self._link.timeout):
                answer = await question()
        except ResponseError as error:  # it is there, but full, or has something else under that key
            if not self._refused:
                _log.warning(self._refusal, extra={"reason": reason(error)})
            self._refused = True
            return Silence.REFUSED
        except GONE as error:
            self._link.gone(error)
            return Silence.AWAY
        self._refused = False
        return answer


def reason(error: BaseException) -> str:
    """What is wrong, in words."""
    return str(error) or ("no answer in time" if isinstance(error, TimeoutError) else type(error).__name__)
