"""Stopping a run: its deadline and every call to stop go one way, and hit its effects, never its writer."""

from __future__ import annotations

import asyncio
import time
from types import TracebackType

from app.domain.errors import RunStopped, StopCause


class Stop:
    """One execution's end from outside. `async with stop:` around each effect: it raises `RunStopped` in there when the time has come.

    The first cause stands. `deadline` is `time.monotonic()` seconds; `loop.time()` is the same clock.
    """

    def __init__(self, deadline: float) -> None:
        self.deadline = deadline
        self.cause: StopCause | None = None
        self.called_at: float | None = None
        self.effects = 0.0
        self._entered = 0.0
        self._scope: asyncio.Timeout | None = None

    def call(self, cause: StopCause) -> None:
        """Stop the run. Its effects end now, its history says why."""
        if self.cause is not None:
            return
        self.cause = cause
        self.called_at = time.monotonic()
        if self._scope is not None and not self._scope.expired():
            self._scope.reschedule(asyncio.get_running_loop().time())

    async def __aenter__(self) -> None:
        if self.cause is not None:
            raise RunStopped(self.cause)
        self._entered = time.monotonic()
        self._scope = asyncio.timeout_at(self.deadline)
        await self._scope.__aenter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        scope, self._scope = self._scope, None
        assert scope is not None
        self.effects += time.monotonic() - self._entered
        try:
            await scope.__aexit__(kind, error, traceback)
        except TimeoutError as expired:
            if self.cause is None:
                self.cause = "timeout"
            raise RunStopped(self.cause) from expired
