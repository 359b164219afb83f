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

    The first cause stands, but what ends a run goes before what only hands it on. `end` is `time.monotonic()` seconds;
    `loop.time()` is the same clock. The last `reserve` seconds are kept: a `timeout` before them is no cause yet, and the
    run goes on after `use_reserve`. `leaving`: the run is to be handed on after the effect that it is in.
    """

    def __init__(self, end: float, *, reserve: float = 0.0) -> None:
        self.end = end
        self._reserve = reserve
        self.cause: StopCause | None = None
        self.cancellation: Cancellation | None = None
        self.leaving = False
        self.called_at: float | None = None
        self.effects = 0.0
        self._entered = 0.0
        self._scope: asyncio.Timeout | None = None

    @property
    def deadline(self) -> float:
        """When the effects end, `time.monotonic()` seconds."""
        return self.end - self._reserve

    def use_reserve(self) -> bool:
        """After a `timeout`: what was kept may be used now. False: nothing was."""
        kept, self._reserve = self._reserve, 0.0
        return kept > 0

    def grace(self, most: float) -> float:
        """Seconds, `most` at most, that a stopped effect has to end: no more than half of what is kept, where that is to be used now."""
        return most if self.cause is not None else min(most, max(0.0, self.end - time.monotonic()) / 2)

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
            raise self._time_is_up()
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
            raise (self._time_is_up() if self.cause is None else RunStopped(self.cause)) from expired

    def _time_is_up(self) -> RunStopped:
        if not self._reserve:
            self.cause = "timeout"
        return RunStopped("timeout")
