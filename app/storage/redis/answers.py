"""`SharedAnswers` on a Redis-protocol server: a key an answer, a list of answers a label, and a key for each lead.

Whatever is there that is not ours, or cannot be read, is a miss. All times are durations; the clocks of processes are never compared.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from importlib.resources import files
from typing import Any, TypeVar
from uuid import uuid4

import msgspec

from app.domain.cache import Found, Kept, Stamp
from app.storage.redis.link import Link, Questions, Silence

_DROPPED = 2 * 86_400_000
"""Milliseconds that a drop is known: no run takes longer."""
_BATCH = 500
"""Answers that are dropped by one command."""

T = TypeVar("T")
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Kept).decode


class RedisAnswers:
    """What all processes of one server keep. Safe for concurrent use. Each call takes as long as the link's timeout at most, and
    nothing while the server is away.
    """

    def __init__(self, *, link: Link, prefix: str = "steadyhand") -> None:
        self._link = link
        self._prefix = f"{prefix}:cache:"
        self._keep, self._hold, self._leave = (
            (files("app.storage.redis") / f"{name}.lua").read_text(encoding="utf-8")
            for name in ("keep_answer", "hold_lead", "give_back")
        )
        self._questions = Questions(link=link, refusal="redis_refuses_answers")

    async def get(self, key: str) -> Found | None:
        async def read() -> list[Any]:
            pipeline = self._link.client.pipeline(transaction=True)
            pipeline.get(self._answer(key))
            pipeline.pttl(self._answer(key))
            answers: list[Any] = await pipeline.execute()
            return answers

        match await self._asked(read):
            case [bytes(value), int(left)] if left > 0:
                kept = _kept(value)
                return None if kept is None else Found(kept, left / 1000)
        return None

    async def stamp(self, labels: Sequence[str]) -> Stamp | None:
        async def read() -> list[Any]:
            found: list[Any] = await self._link.client.mget([self._dropped(label) for label in labels])
            return found

        found = await self._asked(read)
        return (
            None if found is None else tuple("" if drop is None else drop.decode("ascii", "replace") for drop in found)
        )

    async def put(self, key: str, kept: Kept, seconds: float, stamp: Stamp) -> bool:
        value = _encode(kept)
        keys = [
            self._answer(key),
            *(self._dropped(label) for label in kept.labels),
            *(self._list(label) for label in kept.labels),
        ]

        async def written() -> bool:
            milliseconds = max(1, round(seconds * 1000))
            return bool(await self._link.client.eval(self._keep, len(keys), *keys, value, milliseconds, key, *stamp))

        return await self._asked(written) is True

    async def drop(self, labels: Sequence[str]) -> int | None:
        async def begun() -> bool:
            # First: what is being answered now is not kept, whenever it is done.
            return bool(await self._link.client.set(self._dropped(labels[-1]), uuid4().hex, px=_DROPPED))

        if await self._asked(begun) is None:
            return None
        listed = await self._asked(lambda: self._listed(labels))
        if listed is None:
            return None
        dropped = 0
        for start in range(0, len(listed), _BATCH):
            gone = await self._asked(lambda start=start: self._unlink(labels, listed[start : start + _BATCH]))  # type: ignore[misc]
            if gone is None:
                return None
            dropped += gone
        return dropped

    async def _listed(self, labels: Sequence[str]) -> list[bytes]:
        lists = [self._list(label) for label in labels]
        names: Any = await self._link.client.zinter(lists)
        return list(names)

    async def _unlink(self, labels: Sequence[str], names: Sequence[bytes]) -> int:
        pipeline = self._link.client.pipeline(transaction=True)
        pipeline.unlink(*(self._prefix.encode() + b"answer:" + name for name in names))
        for label in labels:
            pipeline.zrem(self._list(label), *names)
        gone: int = (await pipeline.execute())[0]
        return gone

    async def take(self, key: str, holder: str, seconds: float) -> bool | None:
        async def taken() -> bool:
            return bool(await self._link.client.set(self._lead(key), holder, nx=True, px=round(seconds * 1000)))

        return await self._asked(taken)

    async def hold(self, key: str, holder: str, seconds: float) -> bool | None:
        async def held() -> bool:
            return bool(
                await self._link.client.eval(self._hold, 1, self._lead(key), holder, str(round(seconds * 1000)))
            )

        return await self._asked(held)

    async def leave(self, key: str, holder: str) -> None:
        async def left() -> None:
            await self._link.client.eval(self._leave, 1, self._lead(key), holder)

        await self._asked(left)

    async def _asked(self, question: Callable[[], Awaitable[T]]) -> T | None:
        """The answer; None: there is none."""
        answer = await self._questions.ask(question)
        return None if isinstance(answer, Silence) else answer

    def _answer(self, key: str) -> str:
        return f"{self._prefix}answer:{key}"

    def _dropped(self, label: str) -> str:
        return f"{self._prefix}dropped:{label}"

    def _list(self, label: str) -> str:
        return f"{self._prefix}list:{label}"

    def _lead(self, key: str) -> str:
        return f"{self._prefix}lead:{key}"


def _kept(value: bytes) -> Kept | None:
    """None: it is none of ours."""
    try:
        return _decode(value)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
