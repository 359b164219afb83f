"""`BreakerBoard` on a Redis-protocol server: one channel for news, a key a target for who comes later, and one for the probe's place.

All times are durations; the server's clock and those of the processes are never compared.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing, nullcontext
from importlib.resources import files
from typing import Annotated, Any
from uuid import uuid4

import msgspec
from redis.exceptions import ResponseError

from app.domain.breakers import BreakerNews
from app.storage.redis.link import GONE, Link, Questions, Silence, reason

_log = logging.getLogger(__name__)
_KEPT = 3600.0
"""Seconds that an opening is known after it could have been probed, and a closing after it was told."""
_VALUE = re.compile(rb"(?P<word>open|closed) (?P<kept>\d{1,10})")
_FIRST_PAUSE = 0.05
_LONGEST_PAUSE = 5.0


class _Said(msgspec.Struct, frozen=True):
    """A message; `by` is who sent it, as his how-manieth."""

    by: str
    serial: int
    provider: str
    model: str
    open_for: Annotated[float, msgspec.Meta(ge=0)] | None


_decode = msgspec.json.Decoder(_Said).decode


class RedisBreakers:
    """The board of one process. Safe for concurrent use; only `receive` runs once at a time.

    `idle`: a connection that brings no news is asked for a sign of life after so many seconds.
    """

    def __init__(self, *, link: Link, prefix: str = "steadyhand", idle: float = 5.0) -> None:
        self._link = link
        self._channel = f"{prefix}:breakers:{link.database}"
        self._prefix = f"{prefix}:breaker:"
        self._idle = idle
        self._me = uuid4().hex
        self._script = (files("app.storage.redis") / "give_back.lua").read_text(encoding="utf-8")
        self._questions = Questions(link=link, refusal="redis_refuses_breakers")
        self._deaf = False

    async def back(self) -> None:
        await self._link.back()

    async def tell(self, news: BreakerNews) -> bool | None:
        name = f"{news.provider}/{news.model}"
        kept = round(_KEPT * 1000)
        said = _Said(self._me, news.serial or 0, news.provider, news.model, news.open_for)

        async def written() -> bool:
            pipeline = self._link.client.pipeline(transaction=True)
            if news.open_for is None:
                pipeline.set(f"{self._prefix}state:{name}", f"closed {kept}", px=kept)
                pipeline.delete(f"{self._prefix}probe:{name}")
            else:
                left = round(news.open_for * 1000)
                pipeline.set(f"{self._prefix}state:{name}", f"open {kept}", px=left + kept)
            pipeline.publish(self._channel, msgspec.json.encode(said))
            await pipeline.execute()
            return True

        answer = await self._questions.ask(written)
        return None if answer is Silence.AWAY else answer is True

    async def read(self, targets: Sequence[tuple[str, str]]) -> Mapping[tuple[str, str], BreakerNews] | None:
        async def answers() -> list[Any]:
            pipeline = self._link.client.pipeline(transaction=True)
            for provider, model in targets:
                name = f"{self._prefix}state:{provider}/{model}"
                pipeline.get(name)
                pipeline.pttl(name)
            found: list[Any] = await pipeline.execute(raise_on_error=False)
            return found

        values = await self._questions.ask(answers)
        if isinstance(values, Silence):
            return None if values is Silence.AWAY else {}
        news = (_news(target, *values[2 * n : 2 * n + 2]) for n, target in enumerate(targets))
        return {(one.provider, one.model): one for one in news if one is not None}

    async def claim(self, provider: str, model: str, place: str, seconds: float) -> bool | None:
        async def claimed() -> bool:
            name = f"{self._prefix}probe:{provider}/{model}"
            return bool(await self._link.client.set(name, place, nx=True, px=max(1, round(seconds * 1000))))

        answer = await self._questions.ask(claimed)
        return answer if isinstance(answer, bool) else None

    async def give_back(self, provider: str, model: str, place: str) -> None:
        async def freed() -> None:
            await self._link.client.eval(self._script, 1, f"{self._prefix}probe:{provider}/{model}", place)

        await self._questions.ask(freed)

    async def receive(self, said: Callable[[BreakerNews], None], again: Callable[[], Awaitable[bool]]) -> None:
        pause = _FIRST_PAUSE
        while True:
            await self._link.back()
            connection = self._link.client.connection_pool.make_connection()  # type: ignore[no-untyped-call]
            try:
                async with asyncio.timeout(self._link.timeout):
                    await connection.connect()
                    await connection.send_command("SUBSCRIBE", self._channel)
                    await connection.read_response()
                if await again():
                    pause, self._deaf = _FIRST_PAUSE, False
                    await self._deliver(connection, said)
            except GONE as error:
                self._link.doubt()
                if isinstance(error, ResponseError) and not self._deaf:
                    self._deaf = True
                    _log.warning("redis_refuses_subscriptions", extra={"reason": reason(error)})
            finally:
                await connection.disconnect(nowait=True)
            await asyncio.sleep(pause)
            pause = min(_LONGEST_PAUSE, 2 * pause)

    async def _deliver(self, connection: Any, said: Callable[[BreakerNews], None]) -> None:
        """Until the connection breaks, which raises."""
        async with aclosing(self._link.answers(connection, idle=self._idle, turn=nullcontext())) as answers:
            async for answer in answers:
                match answer:
                    case [b"message", _, bytes(value)]:
                        if (news := self._heard(value)) is not None:
                            said(news)

    def _heard(self, value: bytes) -> BreakerNews | None:
        """None: it is no news at all."""
        try:
            message = _decode(value)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return None
        serial = message.serial if message.by == self._me else None
        return BreakerNews(message.provider, message.model, message.open_for, serial)


def _news(target: tuple[str, str], value: object, expires: object) -> BreakerNews | None:
    """What a key says; None: nothing of ours."""
    found = _VALUE.fullmatch(value) if isinstance(value, bytes) else None
    if found is None or not isinstance(expires, int):
        return None
    if found["word"] == b"closed":
        return BreakerNews(*target, None)
    return BreakerNews(*target, max(0.0, (expires - int(found["kept"])) / 1000))
