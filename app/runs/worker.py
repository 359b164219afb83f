"""Owns the executions of this process: so many at once, each in its own task, started here and awaited here."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from app.agent.endings import FAULT, stopped
from app.domain import events as ev
from app.domain.agents import Agent
from app.domain.errors import DatabaseUnavailable, StopCause
from app.domain.observers import RunObserver
from app.domain.stores import Owned, RunStore
from app.runs.agents import Agents
from app.runs.live import Feeds
from app.runs.recovery import Recovery
from app.runs.runner import Job, Runner
from app.runs.stop import Stop

log = logging.getLogger(__name__)

POLL = 1.0
"""Seconds between looks at the queue when nothing hints at it; jittered by a fifth."""
LAST_WORDS = 10.0
"""Seconds of a drain that are kept for stopping what did not end by itself."""
ORPHAN_AGE = 30.0
"""Seconds after which a run that is `running` but not here is taken for lost."""

Render = Callable[[Agent, Mapping[str, Any]], tuple[str, dict[str, Any]]]
"""The system text of an agent for a caller's context, and what of the context it left over."""


class Worker:
    """Executes runs: those that are born here, and those that it claims from the queue."""

    def __init__(
        self,
        *,
        store: RunStore,
        runner: Runner,
        recovery: Recovery,
        feeds: Feeds,
        agents: Agents,
        render: Render,
        observer: RunObserver,
        concurrency: int,
    ) -> None:
        self._store = store
        self._runner = runner
        self._recovery = recovery
        self._feeds = feeds
        self._agents = agents
        self._render = render
        self._observer = observer
        self._concurrency = concurrency
        self._reserved = 0
        self._running: dict[str, tuple[asyncio.Task[None], Stop]] = {}
        self._wake = asyncio.Event()
        self._changed = asyncio.Event()
        self._claiming = asyncio.Lock()
        self._may_have_queued = True
        self._outage: float | None = None
        self.draining = False

    def reserve(self) -> bool:
        """Keep a slot for a run that is about to be born; to be followed by `begin` or `release`."""
        if self.draining or len(self._running) + self._reserved >= self._concurrency:
            return False
        self._reserved += 1
        return True

    def release(self) -> None:
        """Give a reserved slot back."""
        self._reserved -= 1
        self._changed.set()

    def queued(self, run_id: str) -> None:
        """A run was queued: look at the queue now, and whenever a run ends. Nobody waits for it in a process that ends."""
        if self.draining:
            self._feeds.open(run_id).forsake()
        self._may_have_queued = True
        self._wake.set()

    def outage(self) -> None:
        """The database went away under a write: a run may have become ours without our knowing."""
        if self._outage is None:
            self._outage = time.monotonic()

    def begin(self, job: Job) -> None:
        """Execute a run that is ours. Its time is its agent's, or less where its caller waits shorter."""
        seconds = job.agent.limits.timeout
        if job.owned.remaining is not None:
            seconds = min(seconds, job.owned.remaining)
        stop = Stop(time.monotonic() + seconds)
        task = asyncio.create_task(self._execute(job, stop), name=f"run {job.owned.run_id}")
        self._running[job.owned.run_id] = (task, stop)

    def stop(self, run_id: str, cause: StopCause) -> bool:
        """Stop a run that is being executed here. False: it is not."""
        entry = self._running.get(run_id)
        if entry is not None:
            entry[1].call(cause)
        return entry is not None

    async def stop_claimed(self, run_id: str, cause: StopCause) -> bool:
        """Stop a run that was claimed a moment ago, also if its execution has not begun yet."""
        async with self._claiming:
            return self.stop(run_id, cause)

    async def _execute(self, job: Job, stop: Stop) -> None:
        run_id = job.owned.run_id
        try:
            await self._runner.execute(job, stop)
        except Exception:
            log.exception("the execution of a run broke; it will be ended as interrupted", extra={"run_id": run_id})
            self._feeds.release(run_id)
            self.outage()
        finally:
            del self._running[run_id]
            self._changed.set()
            if self._may_have_queued:
                self._wake.set()

    async def serve(self) -> None:
        """Claim queued runs while there are free slots, until cancelled. The poll is the net under every hint."""
        while True:
            try:
                await self._claim_all()
                if self._outage is not None and time.monotonic() - self._outage > ORPHAN_AGE:
                    await self._recovery.recover(list(self._running), ORPHAN_AGE)
                    self._outage = None
            except DatabaseUnavailable as error:
                self.outage()
                log.warning("cannot look at the queue", extra={"reason": str(error)})
            try:
                async with asyncio.timeout(POLL * random.uniform(0.8, 1.2)):
                    await self._wake.wait()
            except TimeoutError:
                self._may_have_queued = True
            self._wake.clear()

    async def _claim_all(self) -> None:
        while self._may_have_queued and self.reserve():
            try:
                async with self._claiming:
                    claimed = await self._store.claim()
                    if claimed is not None:
                        await self._take(*claimed)
            finally:
                self.release()
            if claimed is None:
                break
        self._may_have_queued = False  # before the look: a run that is queued during it must not be forgotten
        depth, oldest_age = await self._store.queue()
        self._observer.queue(depth, oldest_age)
        if depth:
            self._may_have_queued = True

    async def _take(self, owned: Owned, payload: bytes) -> None:
        """Execute a claimed run, or end it where its time is over or it cannot be begun."""
        feed = self._feeds.hold(owned.run_id)
        if not feed.events:
            feed.publish([ev.StoredEvent(seq=1, name="run.created", payload=payload)])
        started = msgspec.json.encode(ev.RunStarted(attempt=owned.attempt))
        feed.publish([ev.StoredEvent(seq=owned.last_seq, name="run.started", payload=started)])
        try:
            if owned.remaining is not None and owned.remaining <= 0:
                await self._recovery.end(owned, stopped("timeout"))
            else:
                self.begin(await self._job(owned, payload))
        except DatabaseUnavailable:
            raise
        except Exception:
            log.exception("a claimed run cannot be begun", extra={"run_id": owned.run_id})
            await self._recovery.end(owned, FAULT)

    async def _job(self, owned: Owned, payload: bytes) -> Job:
        """What is needed to execute the run. Raises LookupError where its agent's version is not known."""
        created = msgspec.json.decode(payload, type=ev.RunCreated)
        agent = await self._agents.version(owned.tenant, owned.agent, owned.agent_version)
        if agent is None:
            raise LookupError(f"agent {owned.agent} has no version {owned.agent_version}")
        system, _ = self._render(agent, created.context or {})
        return Job(owned=owned, agent=agent, system=system, created=created)

    async def drain(self, seconds: float) -> None:
        """Begin nothing new, let what runs end by itself; what has not within the time is stopped as `interrupted`.

        Who waits for a run that is still queued is sent away at once: another process will execute it.
        """
        now = time.monotonic()
        self.draining = True
        self._feeds.forsake_queued(self._running)
        await self._idle(now + max(seconds - LAST_WORDS, seconds / 2))
        self.interrupt()
        await self._idle(now + seconds)
        for task, _ in list(self._running.values()):
            log.error("a run did not stop in time and is left to be recovered", extra={"task": task.get_name()})
            task.cancel()
        await self._idle(time.monotonic() + 1.0)
        self._feeds.forsake()

    def interrupt(self) -> None:
        """Stop every run that is being executed here, as `interrupted`."""
        for _, stop in self._running.values():
            stop.call("interrupted")

    async def _idle(self, until: float) -> None:
        """Returns when nothing is executed or about to be, or at that time."""
        while (self._running or self._reserved) and (left := until - time.monotonic()) > 0:
            self._changed.clear()
            try:
                async with asyncio.timeout(left):
                    await self._changed.wait()
            except TimeoutError:
                return
