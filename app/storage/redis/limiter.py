"""`Limiter` on a Redis-protocol server, so that all processes count together: one round trip a call, whatever its limits.

This process counts along. What it knows to be refused it does not ask about, and while the server is away it goes on with what
it has counted itself: then every process allows as much as all of them did together.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import reduce
from importlib.resources import files
from typing import Any

import msgspec

from app.domain.limits import SLICES, Limit, Standing, narrower
from app.storage.local.limiter import LocalLimiter
from app.storage.redis.link import Link, Questions, Silence


class RedisLimiter:
    """What all processes of one server count. Each call takes as long as the link's timeout at most, and nothing while the
    server is away. `near` is this process's own count. `clock`: seconds to go by instead of the server's.
    """

    def __init__(
        self,
        *,
        link: Link,
        near: LocalLimiter,
        prefix: str = "steadyhand",
        clock: Callable[[], float] | None = None,
    ) -> None:
        self._prefix = f"{prefix}:limit:"
        self._near = near
        self._clock = clock
        self._take, self._give_back = (
            link.client.register_script((files("app.storage.redis") / f"{name}.lua").read_text(encoding="utf-8"))
            for name in ("take_limits", "give_back_limits")
        )
        self._questions = Questions(link=link, refusal="redis_refuses_limits")

    def glance(self, limits: Sequence[Limit]) -> Standing | None:
        return self._near.glance(limits)

    async def take(self, limits: Sequence[Limit]) -> Standing:
        shared = [limit for limit in limits if limit.scope != "instance"]
        refused = self._near.glance(limits)
        if refused is not None or not shared:
            return refused or self._near.count(limits)
        # Counted here before the answer: what comes while it is on its way must not pass the process's own limits.
        counted = self._near.count(limits)
        answer = await self._asked(shared)
        if answer is None:
            return counted
        far, at = answer
        if not far[0].allowed:
            self._near.uncount(limits, counted)
            full = [(limit, standing) for limit, standing in zip(shared, far, strict=True) if not standing.left]
            for limit, standing in full:
                self._near.shut(limit, standing.wait)
            return reduce(narrower, [standing for _, standing in full])
        own = [counted] if counted.scope == "instance" else []
        return msgspec.structs.replace(reduce(narrower, [*own, *far]), near=counted.near, far=at)

    async def give_back(self, limits: Sequence[Limit], taken: Standing) -> None:
        self._near.uncount(limits, taken)
        shared = [limit for limit in limits if limit.scope != "instance"]
        if taken.far is None or not shared:
            return
        arguments = [taken.far, *(limit.width for limit in shared)]
        await self._questions.ask(lambda: self._give_back(self._keys(shared), arguments))

    async def _asked(self, limits: Sequence[Limit]) -> tuple[list[Standing], int] | None:
        """How each of them stands, and when by the server's clock; None: it gave no answer."""
        now = "" if self._clock is None else round(self._clock() * 1_000_000)
        arguments: list[Any] = [now, SLICES]
        for limit in limits:
            arguments += (limit.most, limit.width)
        answer = await self._questions.ask(lambda: self._take(self._keys(limits), arguments))
        if isinstance(answer, Silence):
            return None
        taken, *rest, at = answer
        found = [
            Standing(
                allowed=bool(taken),
                scope=limit.scope,
                most=limit.most,
                left=rest[2 * n],
                wait=rest[2 * n + 1] / 1_000_000,
            )
            for n, limit in enumerate(limits)
        ]
        return found, int(at)

    def _keys(self, limits: Sequence[Limit]) -> list[str]:
        return [f"{self._prefix}{limit.name}:{limit.width}" for limit in limits]
