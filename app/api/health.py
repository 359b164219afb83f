"""Whether the process lives, and whether requests should be sent to it."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from typing import Literal

from litestar import Response, get
from litestar.di import NamedDependency
from litestar.openapi import ResponseSpec

from app.api.authentication import ANYWHERE, PUBLIC, SCOPE
from app.api.schemas import Alive, Check, CheckStatus, Health, Readiness
from app.domain.errors import DatabaseUnavailable

log = logging.getLogger(__name__)

Checker = Callable[[], Awaitable[tuple[CheckStatus, str | None]]]
"""Asks one dependency: its status, and what to do where that is not `ok`."""

CHECK_TIMEOUT = 3.0
TICK = 0.25
STALLED = 2.0
STALL_MEMORY = 10.0


class LoopWatch:
    """Notices when the event loop stands still: then requests should go elsewhere."""

    def __init__(self) -> None:
        self._stalled: tuple[float, float] | None = None

    async def run(self) -> None:
        """Watch until cancelled."""
        while True:
            before = time.monotonic()
            await asyncio.sleep(TICK)
            late = time.monotonic() - before - TICK
            if late > STALLED:
                self._stalled = (time.monotonic(), late)

    async def check(self) -> tuple[CheckStatus, str | None]:
        """failed for a while after a standstill."""
        if self._stalled is not None and time.monotonic() - self._stalled[0] < STALL_MEMORY:
            return "failed", f"the event loop stood still for {self._stalled[1]:.1f} s"
        return "ok", None


class Readings:
    """All checks. `vital` ones make the process not ready; the others only degrade it.

    A check is asked once at a time: who comes while it is being asked gets the same answer.
    """

    def __init__(
        self,
        *,
        version: str,
        vital: Mapping[str, Checker],
        others: Mapping[str, Checker],
        timeout: float = CHECK_TIMEOUT,
    ) -> None:
        self.version = version
        self._vital = frozenset(vital)
        self._checkers = {**vital, **others}
        self._timeout = timeout
        self._asked: dict[str, asyncio.Task[Check]] = {}

    async def take(self) -> Readiness:
        """Ask every dependency at once; one that has not answered after `timeout` seconds has failed."""
        found = dict(zip(self._checkers, await asyncio.gather(*map(self._check, self._checkers)), strict=True))
        status: Literal["ready", "degraded", "not_ready"] = "ready"
        if any(check.status != "ok" for check in found.values()):
            status = "degraded"
        if any(found[name].status == "failed" for name in self._vital):
            status = "not_ready"
        return Readiness(status=status, checks=found, timestamp=datetime.now(UTC))

    async def aclose(self) -> None:
        """Nothing is being asked any more."""
        for asked in self._asked.values():
            _give_up(asked)
        if self._asked:
            await asyncio.wait(self._asked.values())

    async def _check(self, name: str) -> Check:
        before = time.monotonic()
        given_up = self._asked.get(name)
        if given_up is not None and given_up.cancelling():
            # The client of a frozen database may take long to end, and nothing is asked beside it.
            await asyncio.wait([given_up], timeout=self._timeout)
        asked = self._asked.get(name)
        if asked is None or asked.done():
            asked = self._asked[name] = asyncio.create_task(_ask(self._checkers[name]))
        await asyncio.wait([asked], timeout=max(0.0, before + self._timeout - time.monotonic()))
        if asked.done() and not asked.cancelled():
            return asked.result()
        _give_up(asked)
        return Check(status="failed", latency_ms=_since(before), detail=f"no answer within {self._timeout:g} s")


def _give_up(asked: asyncio.Task[Check]) -> None:
    """It ends in its own time: cancelled twice, it would leave what it cleans up."""
    if not asked.cancelling():
        asked.cancel()


async def _ask(checker: Checker) -> Check:
    before = time.monotonic()
    try:
        status, detail = await checker()
    except DatabaseUnavailable as error:
        # No key is needed to read this, so addresses and users stay in the log.
        status, detail = "failed", str(error).partition(":")[0]
    except Exception as error:  # whatever it is, the dependency is not ready
        log.warning("a readiness check failed", exc_info=error)
        status, detail = "failed", type(error).__name__
    return Check(status=status, latency_ms=_since(before), detail=detail)


def _since(before: float) -> float:
    """Milliseconds."""
    return round((time.monotonic() - before) * 1000, 3)


@get("/health", tags=["health"], summary="Status and version", opt={"always": True, SCOPE: PUBLIC, ANYWHERE: True})
async def health(readings: NamedDependency[Readings]) -> Health:
    """The process answers, and says which version it is."""
    return Health(status="healthy", version=readings.version)


@get("/healthz", tags=["health"], summary="Liveness", opt={"always": True, SCOPE: PUBLIC, ANYWHERE: True})
async def healthz() -> Alive:
    """The process answers; no dependency is asked."""
    return Alive(status="ok")


@get(
    "/readiness",
    tags=["health"],
    summary="Readiness",
    opt={"always": True, SCOPE: PUBLIC, ANYWHERE: True},
    responses={503: ResponseSpec(Readiness, description="Not ready", generate_examples=False)},
)
async def readiness(readings: NamedDependency[Readings]) -> Response[Readiness]:
    """One check for each dependency; 503 where requests should go elsewhere."""
    taken = await readings.take()
    return Response(taken, status_code=503 if taken.status == "not_ready" else 200)


HANDLERS = [health, healthz, readiness]
