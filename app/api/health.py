"""Whether the process lives, and whether requests should be sent to it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from typing import Literal

from litestar import Response, get
from litestar.di import NamedDependency
from litestar.openapi import ResponseSpec

from app.api.schemas import Alive, Check, CheckStatus, Health, Readiness
from app.domain.errors import DatabaseUnavailable

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
    """All checks. `vital` ones make the process not ready; the others only degrade it."""

    def __init__(self, *, version: str, vital: Mapping[str, Checker], others: Mapping[str, Checker]) -> None:
        self.version = version
        self._vital = dict(vital)
        self._others = dict(others)

    async def take(self) -> Readiness:
        """Ask every dependency at once, none for longer than `CHECK_TIMEOUT` seconds."""
        checkers = self._vital | self._others
        found = dict(zip(checkers, await asyncio.gather(*map(_ask, checkers.values())), strict=True))
        status: Literal["ready", "degraded", "not_ready"] = "ready"
        if any(check.status != "ok" for check in found.values()):
            status = "degraded"
        if any(found[name].status == "failed" for name in self._vital):
            status = "not_ready"
        return Readiness(status=status, checks=found, timestamp=datetime.now(UTC))


async def _ask(checker: Checker) -> Check:
    before = time.monotonic()
    try:
        async with asyncio.timeout(CHECK_TIMEOUT):
            status, detail = await checker()
    except TimeoutError:
        status, detail = "failed", f"no answer within {CHECK_TIMEOUT:g} s"
    except DatabaseUnavailable as error:
        status, detail = "failed", str(error)
    return Check(status=status, latency_ms=round((time.monotonic() - before) * 1000, 3), detail=detail)


@get("/health", tags=["health"], summary="Status and version", opt={"always": True})
async def health(readings: NamedDependency[Readings]) -> Health:
    """The process answers, and says which version it is."""
    return Health(status="healthy", version=readings.version)


@get("/healthz", tags=["health"], summary="Liveness", opt={"always": True})
async def healthz() -> Alive:
    """The process answers; no dependency is asked."""
    return Alive(status="ok")


@get(
    "/readiness",
    tags=["health"],
    summary="Readiness",
    opt={"always": True},
    responses={503: ResponseSpec(Readiness, description="Not ready", generate_examples=False)},
)
async def readiness(readings: NamedDependency[Readings]) -> Response[Readiness]:
    """One check for each dependency; 503 where requests should go elsewhere."""
    taken = await readings.take()
    return Response(taken, status_code=503 if taken.status == "not_ready" else 200)


HANDLERS = [health, healthz, readiness]
