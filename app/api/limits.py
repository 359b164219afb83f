"""How many runs a caller may start: which limits are a call's, and what it is told of them.

Only calls that are to start a run count, each turn of a list for itself; whoever asks a service without keys on its own machine
has no limits. A call that gets the run of an earlier one with its key is given back.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Sequence
from functools import lru_cache
from typing import Any, Literal

import msgspec
from litestar.connection import ASGIConnection
from litestar.handlers import BaseRouteHandler

from app.api.authentication import principal_of
from app.domain.errors import RequestError
from app.domain.limits import Limit, Limiter, LimitScope, Standing, limit_name
from app.domain.principals import Principal
from app.runs.service import Started

LOCAL = "local"
"""The actor that has no limits."""
_KEY = "idempotency-key"
REPEATS = 10
"""Calls by a key that a caller with nothing left may make at least: retries of one that was answered."""
REMEMBERED = 10_000
"""Callers whose limits are not worked out anew for each call."""
_WHOSE: dict[LimitScope, str] = {
    "user": "This user",
    "key": "This key",
    "tenant": "This tenant",
    "instance": "This process, all callers together,",
}


class LimitRules(msgspec.Struct, frozen=True, kw_only=True):
    """So many `requests` in `window` seconds for each of those in `per` (0: no limit), and so many a second in this process (0: no limit)."""

    requests: int = 0
    window: float = 60.0
    per: tuple[Literal["user", "key", "tenant"], ...] = ()
    per_second: int = 0


class Limits:
    """Counts calls that start runs. `repeats` counts, in this process, what callers with nothing left ask for by a key; `refused` is
    told the scope of each refusal. Safe for concurrent use."""

    def __init__(
        self, *, limiter: Limiter, repeats: Limiter, rules: LimitRules, refused: Callable[[str], None]
    ) -> None:
        self._limiter = limiter
        self._repeats = repeats
        self._rules = rules
        self._refused = refused
        self._of = lru_cache(maxsize=REMEMBERED)(self._limits)

    async def glance(self, principal: Principal, *, keyed: bool) -> None:
        """Refuse what is known to be refused before anything of the call is read. Takes nothing. Raises `RequestError` rate_limited.

        An earlier call may have the answer to a `keyed` one: as many of these as there are calls, and `REPEATS` at least, are let in to find out.
        """
        limits = self._of(principal.tenant, principal.actor, principal.user)
        if not limits or (found := self._limiter.glance(limits)) is None:
            return
        repeats = [msgspec.structs.replace(limit, most=max(limit.most, REPEATS)) for limit in limits]
        if not keyed or not (await self._repeats.take(repeats)).allowed:
            raise self._refusal(found)

    async def started(
        self,
        principal: Principal,
        user_id: str | None,
        start: Callable[[], Awaitable[Started]],
        replay: Callable[[], Awaitable[Started | None]],
    ) -> tuple[Started, Standing | None]:
        """What `start` gives, counted for the caller and the user of that id (None: its own), and how its limits stand.

        Where nothing is left, what `replay` gives: the run of an earlier call with the same key. Raises `RequestError` rate_limited
        where that is None, before anything is started; forbidden for a user that the caller may not name, before anything is
        counted; and whatever `start` does, which counts all the same.
        """
        limits = self._of_call(principal, user_id)
        if not limits:
            return await start(), None
        try:
            taken = await self.take(limits)
        except RequestError:
            if (earlier := await replay()) is None:
                raise
            return earlier, None
        try:
            started = await start()
        except RequestError as error:
            error.standing = error.standing or taken
            raise
        if started.replayed:
            await self._limiter.give_back(limits, taken)
        return started, taken

    async def count(self, principal: Principal, user_id: str | None) -> None:
        """One call that starts something else than a run. Raises `RequestError` rate_limited, and forbidden as `started` does."""
        limits = self._of_call(principal, user_id)
        if limits:
            await self.take(limits)

    def _of_call(self, principal: Principal, user_id: str | None) -> tuple[Limit, ...]:
        """Nobody uses up the limits of a user that it may not name."""
        principal.acting_for(user_id)
        return self._of(principal.tenant, principal.actor, user_id or principal.user)

    async def take(self, limits: Sequence[Limit]) -> Standing:
        """Raises `RequestError` rate_limited where nothing is left of one of them."""
        taken = await self._limiter.take(limits)
        if not taken.allowed:
            raise self._refusal(taken)
        return taken

    def _limits(self, tenant: str, actor: str, user: str | None) -> tuple[Limit, ...]:
        """The limits of a call of that actor on behalf of that user."""
        rules, found = self._rules, list[Limit]()
        if actor == LOCAL:
            return ()
        if rules.requests:
            names = {
                "user": None if user is None else limit_name("user", tenant, user),
                "key": limit_name("key", tenant, actor),
                "tenant": limit_name("tenant", tenant),
            }
            found += [
                Limit(scope, name, rules.requests, rules.window)
                for scope in rules.per
                if (name := names[scope]) is not None
            ]
        if rules.per_second:
            found.append(Limit("instance", "instance", rules.per_second, 1.0))
        return tuple(found)

    def _refusal(self, standing: Standing) -> RequestError:
        self._refused(standing.scope)
        window = 1.0 if standing.scope == "instance" else self._rules.window
        detail = (
            f"{_WHOSE[standing.scope]} may start {standing.most} runs in {window:g} s, and has. "
            f"Send the request again in {seconds(standing.wait)} s."
        )
        return RequestError("rate_limited", detail, retry_after=standing.wait, standing=standing)


def seconds(wait: float) -> int:
    """Whole seconds after which it is worth to ask again, one at least."""
    return max(1, math.ceil(wait))


def limit_headers(standing: Standing | None) -> dict[str, str]:
    """What a caller is told of its narrowest limit (draft-ietf-httpapi-ratelimit-headers-06). Reset: when more is left than now, in seconds."""
    if standing is None:
        return {}
    return {
        "RateLimit-Limit": str(standing.most),
        "RateLimit-Remaining": str(standing.left),
        "RateLimit-Reset": str(seconds(standing.wait)),
    }


async def within_limits(connection: ASGIConnection[Any, Any, Any, Any], handler: BaseRouteHandler) -> None:
    """A caller that has used up its limits is refused before its body is read, as far as this process knows."""
    if handler.opt.get("limited"):
        limits: Limits = connection.app.state.limits
        await limits.glance(principal_of(connection), keyed=_KEY in connection.headers)
