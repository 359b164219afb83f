"""Keeps this process's leases from another thread, so that a busy loop does not lose them, and a dead one does not keep them."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, suppress
from typing import Protocol

import msgspec

from app.domain.errors import DatabaseUnavailable
from app.domain.stores import Held

_log = logging.getLogger(__name__)


class LeaseStore(Protocol):
    """What a heartbeat needs of storage: `RunStore.extend`, on a connection of the heartbeat's own loop."""

    async def extend(self, epochs: Sequence[tuple[str, int]]) -> list[Held]: ...


class _Lease(msgspec.Struct, frozen=True):
    """`until` and `deadline` are monotonic seconds; `lost`: our loop is being told."""

    epoch: int
    until: float
    deadline: float | None
    lost: bool = False


class Heartbeat:
    """Extends every lease that it was given, all in one statement every third of `lease` seconds, in a thread with its own loop.

    Until `margin` seconds (a tenth of a lease) before the end of a lease nobody has to hurry; a run whose lease could not be
    extended by then, also because the database hangs, is lost, and so is one that storage says is not ours any more. Nothing is
    extended while the main loop stands still for two leases, and no run beyond its deadline and `grace` seconds.

    `lost` gets the ids of such runs, once, and `news` what every beat found; both are called in the main loop. A run that is just
    ending may be reported lost. `open_leases` is entered in the thread, again after each failure; every wait for it is bounded,
    its exit by itself.
    """

    def __init__(
        self,
        *,
        open_leases: Callable[[], AbstractAsyncContextManager[LeaseStore]],
        lease: float,
        grace: float,
        lost: Callable[[list[str]], None],
        news: Callable[[list[Held]], None],
        margin: float | None = None,
    ) -> None:
        self._open = open_leases
        self._lease = lease
        self._interval = lease / 3
        self._margin = lease / 10 if margin is None else margin
        self._grace = grace
        self._lost = lost
        self._news = news
        self._lock = threading.Lock()
        self._leases: dict[str, _Lease] = {}
        self._ticked = 0.0
        self._stalled = False
        self._failing = False
        self._closing = asyncio.Event()
        self._ended = asyncio.Event()
        self._main: asyncio.AbstractEventLoop | None = None
        self._own: asyncio.AbstractEventLoop | None = None
        self._ticking: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Beat from now on. Called in the main loop, once."""
        self._main = asyncio.get_running_loop()
        self._own = asyncio.new_event_loop()
        self._tick()
        threading.Thread(target=self._run, name="heartbeat", daemon=True).start()

    async def aclose(self, *, patience: float = 5.0) -> None:
        """Nothing is extended or reported any more. A thread that has not ended after `patience` seconds is left to the process's end."""
        if self._main is None or self._own is None:
            return
        if self._ticking is not None:
            self._ticking.cancel()
        with self._lock:
            self._leases.clear()
        with suppress(RuntimeError):  # it has ended already
            self._own.call_soon_threadsafe(self._closing.set)
        try:
            async with asyncio.timeout(patience):
                await self._ended.wait()
        except TimeoutError:
            _log.warning("heartbeat_left_behind")

    def add(self, run_id: str, epoch: int, until: float, deadline: float | None) -> None:
        """Keep that lease, or know that it was extended: it lasts until `until` at least.

        `until`: `time.monotonic()` before the statement that took or extended it was sent, plus `lease`. `deadline`: when the
        run's own time is over.
        """
        with self._lock:
            known = self._leases.get(run_id)
            if known is not None and known.epoch == epoch:
                self._leases[run_id] = msgspec.structs.replace(
                    known, until=max(until, known.until), deadline=deadline
                )  # fmt: skip
            else:
                # One that was slow to come is given a beat all the same: storage knows better than we how long it lasts.
                beat = time.monotonic() + 1.5 * self._interval + self._margin
                self._leases[run_id] = _Lease(epoch, max(until, beat), deadline)

    def remove(self, run_id: str) -> None:
        """Keep it no more, and report nothing about it."""
        with self._lock:
            self._leases.pop(run_id, None)

    def _tick(self) -> None:
        """In the main loop: it lives."""
        assert self._main is not None
        self._ticked = time.monotonic()
        self._ticking = self._main.call_later(self._lease / 4, self._tick)

    def _run(self) -> None:
        """The thread."""
        assert self._own is not None
        own = self._own
        try:
            with asyncio.Runner(loop_factory=lambda: own) as runner:
                runner.run(self._serve())
        except Exception:  # noqa: BLE001  # logged; without beats the leases are lost, which is safe
            _log.exception("heartbeat_ended")
        finally:
            self._call(self._ended.set)

    async def _serve(self) -> None:
        beating = asyncio.create_task(self._beat())
        while not self._closing.is_set():
            self._look()
            with suppress(TimeoutError):
                async with asyncio.timeout(self._margin / 4):
                    await self._closing.wait()
        beating.cancel()
        await asyncio.wait([beating])

    async def _beat(self) -> None:
        while True:
            try:
                async with AsyncExitStack() as stack:
                    async with asyncio.timeout(self._interval):
                        leases = await stack.enter_async_context(self._open())
                    while True:
                        began = time.monotonic()
                        await self._extend(leases)
                        self._failing = False
                        await asyncio.sleep(began + self._interval - time.monotonic())
            except (DatabaseUnavailable, OSError, TimeoutError) as error:
                if not self._failing:
                    _log.warning("heartbeat_failed", extra={"reason": str(error) or "no answer in time"})
            except Exception:  # noqa: BLE001  # logged; it is tried again
                if not self._failing:
                    _log.exception("heartbeat_failed")
            self._failing = True
            await asyncio.sleep(self._margin)

    async def _extend(self, leases: LeaseStore) -> None:
        now = time.monotonic()
        stalled = now - self._ticked > 2 * self._lease
        if stalled and not self._stalled:
            _log.error("event_loop_stands_still", extra={"seconds": now - self._ticked})
        self._stalled = stalled
        with self._lock:
            asked = {
                run_id: lease.epoch
                for run_id, lease in self._leases.items()
                if not lease.lost and (lease.deadline is None or now < lease.deadline + self._grace)
            }
        if stalled or not asked:
            return
        async with asyncio.timeout(self._interval):
            held = await leases.extend(list(asked.items()))
        self._confirm(asked, held, now + self._lease)

    def _confirm(self, asked: Mapping[str, int], held: Sequence[Held], until: float) -> None:
        ours = {found.run_id for found in held}
        with self._lock:
            known = {run_id for run_id, epoch in asked.items() if self._has(run_id, epoch)}
            for run_id in known & ours:
                lease = self._leases[run_id]
                self._leases[run_id] = msgspec.structs.replace(lease, until=max(until, lease.until))
            gone = [(run_id, asked[run_id]) for run_id in sorted(known - ours)]
            self._give_up(gone)
        if news := [found for found in held if found.run_id in known]:
            self._call(lambda: self._news(news))

    def _look(self) -> None:
        """Give up what was not extended in time."""
        now = time.monotonic()
        with self._lock:
            late = [
                (run_id, lease.epoch)
                for run_id, lease in self._leases.items()
                if not lease.lost and now >= lease.until - self._margin
            ]
            self._give_up(late)

    def _has(self, run_id: str, epoch: int) -> bool:
        lease = self._leases.get(run_id)
        return lease is not None and lease.epoch == epoch and not lease.lost

    def _give_up(self, runs: Sequence[tuple[str, int]]) -> None:
        for run_id, _ in runs:
            self._leases[run_id] = msgspec.structs.replace(self._leases[run_id], lost=True)
        if runs:
            self._call(lambda: self._report(runs))

    def _report(self, runs: Sequence[tuple[str, int]]) -> None:
        """In the main loop, which may have removed or taken over some of them since."""
        with self._lock:
            gone = [
                run_id
                for run_id, epoch in runs
                if (lease := self._leases.get(run_id)) is not None and lease.epoch == epoch
            ]
            for run_id in gone:
                del self._leases[run_id]
        if gone:
            self._lost(gone)

    def _call(self, callback: Callable[[], None]) -> None:
        assert self._main is not None
        with suppress(RuntimeError):  # the main loop is closed
            self._main.call_soon_threadsafe(callback)
