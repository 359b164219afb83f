"""Stopping a run: its deadline and every call to stop go one way, and hit its effects, never its writer."""

from __future__ import annotations

import asyncio
import time
from types import TracebackType

from app.domain.errors import RunStopped, StopCause
from app.domain.runs import Cancellation

HANDED_ON: frozenset[StopCause] = frozenset({"handover", "lease"})
"""Stops after which the run goes on elsewhere."""


class Stop:
    """One execution's end from outside. `async with stop:` around each effect: it raises `RunStopped` in there when the time has come.

    The first cause stands, but what ends a run goes before what only hands it on. `deadline` is `time.monotonic()` seconds;
    `loop.time()` is the same clock. `leaving`: the run is to be handed on after the effect that it is in.
    """

    def __init__(self, deadline: float) -> None:
        self.deadline = deadline
        self.cause: StopCause | None = None
        self.cancellation: Cancellation | None = None
        self.leaving = False
        self.called_at: float | None = None
        self.effects = 0.0
        self._entered = 0.0
        self._scope: asyncio.Timeout | None = None

    def call(self, cause: StopCause, cancellation: Cancellation | None = None, *, age: float = 0.0) -> None:
        """Stop the run. Its effects end now, its history says why. `age`: for how many seconds that has been wished."""
        if self.cause is not None and (self.cause not in HANDED_ON or cause in HANDED_ON):
            return
        self.cause = cause
        self.cancellation = cancellation
        self.called_at = time.monotonic() - age
        if self._scope is not None and not self._scope.expired():
            self._scope.reschedule(asyncio.get_running_loop().time())

    async def __aenter__(self) -> None:
        if self.cause is not None:
            raise RunStopped(self.cause)
        self._entered = time.monotonic()
        if self._entered >= self.deadline:
            self.cause = "timeout"
            raise RunStopped(self.cause)
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
