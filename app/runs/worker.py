"""Owns the executions of this process: so many at once, each in its own task, started here and awaited here."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress

import msgspec

from app.agent.endings import FAULT, stopped
from app.domain import events as ev
from app.domain.errors import DatabaseUnavailable
from app.domain.hints import Hints
from app.domain.observers import RunObserver
from app.domain.runs import Cancellation
from app.domain.stores import Held, Owned, RunStore
from app.runs.admission import Admission
from app.runs.agents import Agents, Render
from app.runs.leases import Leases
from app.runs.live import Feeds
from app.runs.patience import patiently
from app.runs.recovery import Recovery
from app.runs.runner import Job, Runner
from app.runs.stop import Stop
from app.runs.switches import Switches

log = logging.getLogger(__name__)

RESERVE = 10.0
"""Seconds of a run's time that are kept for an answer from what is known; never more than the last quarter of it."""
POLL = 1.0
"""Seconds between looks at the queue and at inboxes when nothing hints at them; jittered by a fifth."""
LAST_WORDS = 10.0
"""Seconds of a drain that are kept for cutting off what did not end by itself."""


class Execution:
    """A run that is being executed here. `inbox`: rows of its inbox that were looked at for a stop."""

    def __init__(self, *, stop: Stop, owned: Owned) -> None:
        self.stop = stop
        self.tenant = owned.tenant
        self.agent = owned.agent
        self.inbox = owned.inbox
        self.task: asyncio.Task[None]


class Worker:
    """Executes runs: those that are born here, those that it claims from the queue, and those that it recovers from dead owners."""

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
        leases: Leases,
        hints: Hints,
        admission: Admission,
        switches: Switches,
        concurrency: int,
        lease: float,
        max_attempts: int,
    ) -> None:
        self._store = store
        self._runner = runner
        self._recovery = recovery
        self._feeds = feeds
        self._agents = agents
        self._render = render
        self._observer = observer
        self._leases = leases
        self._hints = hints
        self._admission = admission
        self._switches = switches
        switches.tells(self._switched)
        self._concurrency = concurrency
        self._lease = lease
        self._max_attempts = max_attempts
        self._reserved = 0
        self._running: dict[str, Execution] = {}
        self._looking: set[asyncio.Task[None]] = set()
        self._wake = asyncio.Event()
        self._changed = asyncio.Event()
        self._claiming = asyncio.Lock()
        self._may_have_queued = self._may_have_dead = True
        self._starved = self._waiting = self._held = False
        self._patient_until = 0.0
        self.draining = False

    def reserve(self, tenant: str, agent: str) -> bool:
        """Keep a slot for a run that is about to be born; to be followed by `begin` or `release`. None while others wait in the queue, and
        for an agent that has a limit: claims come one after another and count its runs, births do not.
        """
        if agent in self._agents.at_once:
            return False
        if self._starved or self._waiting or not self._has_slot() or not self._admission.may_run(tenant):
            return False
        self._reserved += 1
        self._admission.runs(tenant)
        return True

    def release(self, tenant: str) -> None:
        """Give a reserved slot back."""
        self._reserved -= 1
        self._admission.ran(tenant)
        self._changed.set()

    def _has_slot(self) -> bool:
        return not self.draining and len(self._running) + self._reserved < self._concurrency

    @asynccontextmanager
    async def _look_for_one(self) -> AsyncIterator[None]:
        """A look at what may be executed here, one at a time. It takes no slot from a run that is born meanwhile: there may
        be one run too many for a moment.
        """
        try:
            async with self._claiming:
                yield
        finally:
            self._changed.set()

    def queued(self) -> None:
        """A run was queued: look at the queue now, and whenever a run ends."""
        self._may_have_queued = self._waiting = True
        self._wake.set()

    def posted(self, run_id: str) -> None:
        """A run's inbox has news, or the run is gone: look, if it is or is about to be executed here."""
        if run_id in self._running or self._claiming.locked():
            looking = asyncio.create_task(self._look(run_id))
            self._looking.add(looking)
            looking.add_done_callback(self._looking.discard)

    def lost(self, run_ids: Sequence[str]) -> None:
        """Those leases are gone, or nobody knows: whoever has the runs now must not find their effects going on here."""
        for run_id in run_ids:
            if (execution := self._running.get(run_id)) is not None:
                execution.stop.call("lease")

    def news(self, held: Sequence[Held]) -> None:
        """What a heartbeat saw of inboxes."""
        for run in held:
            execution = self._running.get(run.run_id)
            if execution is not None and run.inbox > execution.inbox:
                self.posted(run.run_id)

    def begin(self, job: Job, since: float) -> None:
        """Execute a run that is ours since then (`time.monotonic()`). Its time is its agent's, or less where its caller waits shorter."""
        owned = job.owned
        seconds = job.agent.limits.timeout
        if owned.remaining is not None:
            seconds = min(seconds, owned.remaining)
        deadline = time.monotonic() + seconds
        stop = Stop(deadline, reserve=min(RESERVE, seconds / 4))
        execution = Execution(stop=stop, owned=owned)
        self._leases.add(owned.run_id, owned.epoch, since + self._lease, deadline)
        self._running[owned.run_id] = execution
        self._admission.runs(owned.tenant)
        self._stop_if_off(execution)
        execution.task = asyncio.create_task(self._execute(job, execution.stop), name=f"run {owned.run_id}")

    def _stop_if_off(self, execution: Execution) -> None:
        if (switch := self._switches.run(execution.tenant, execution.agent)) is not None:
            execution.stop.call("cancelled", Cancellation(reason=str(switch)))

    def _switched(self) -> None:
        """Something was switched off or on."""
        for execution in self._running.values():
            self._stop_if_off(execution)

    async def _execute(self, job: Job, stop: Stop) -> None:
        run_id = job.owned.run_id
        try:
            if await self._runner.execute(job, stop):
                self.queued()
                if self.draining:
                    self._hints.queued()
        except Exception:
            log.exception("the execution of a run broke; its lease runs out", extra={"run_id": run_id})
            self._feeds.release(run_id)
        finally:
            self._leases.remove(run_id)
            del self._running[run_id]
            self._admission.ran(job.owned.tenant)
            self._changed.set()
            if self._held:  # what waited for its tenant or its agent to have fewer runs
                self._held = False
                self._may_have_queued = self._waiting = True
            if self._may_have_queued or self._may_have_dead:
                self._wake.set()

    async def serve(self) -> None:
        """Claim runs while there are free slots, until cancelled. The poll is the net under every hint."""
        poll_at = 0.0
        while True:
            self._wake.clear()
            try:
                if time.monotonic() >= poll_at:
                    poll_at = time.monotonic() + POLL * random.uniform(0.8, 1.2)
                    self._may_have_queued = True
                    self._may_have_dead |= time.monotonic() >= self._patient_until
                    await self._look_at_all()
                await self._take_all()
            except DatabaseUnavailable as error:
                # Living owners could not extend their leases either: they get the time to do it.
                if time.monotonic() >= self._patient_until:
                    log.warning("cannot look at the queue", extra={"reason": str(error)})
                self._patient_until = time.monotonic() + self._lease
                self._may_have_dead = self._starved = False
            except Exception:
                log.exception("a look at the queue broke; the next one follows")
            with suppress(TimeoutError):
                async with asyncio.timeout(max(0.0, poll_at - time.monotonic())):
                    await self._wake.wait()

    async def _take_all(self) -> None:
        """Runs of dead owners go first; where there is no slot for them, the next one is kept free for a look."""
        while (self._may_have_dead or self._may_have_queued) and self._has_slot():
            async with self._look_for_one():
                since = time.monotonic()
                await (self._recover_one(since) if self._may_have_dead else self._claim_one(since))
        self._starved = self._may_have_dead

    async def _recover_one(self, since: float) -> None:
        # What goes on here keeps its lease, or is told that it lost it: it is not doubled.
        recovered = await self._store.recover(self._max_attempts, list(self._running))
        if recovered is None:
            self._may_have_dead = self._starved = False
            return
        log.warning("took over a run whose owner died", extra={"run_id": recovered[0].run_id})
        self._observer.recovered()
        await self._take(*recovered, since)

    async def _claim_one(self, since: float) -> None:
        self._may_have_queued = False  # before the look: a run that is queued during it must not be forgotten
        claimed = await self._store.claim(self._agents.at_once)
        if claimed is None or claimed == "full":
            self._held = claimed == "full"
            self._waiting = self._may_have_queued  # one that was queued during the look
            return
        self._may_have_queued = self._waiting = True
        self._admission.left(claimed[0].tenant)
        await self._take(*claimed, since)

    async def _take(self, owned: Owned, payload: bytes, since: float) -> None:
        """Execute a run that is ours now, or end it where its time is over, its owners died too often, or it cannot be begun."""
        while (old := self._running.get(owned.run_id)) is not None:  # handed on a moment ago, and not quite gone
            old.stop.call("lease")
            await asyncio.wait([old.task])
        poisonous = owned.failures >= self._max_attempts
        feed = self._feeds.hold(owned.run_id, owned.last_seq if poisonous else owned.last_seq - 1)
        try:
            if poisonous:
                await self._recovery.end(owned, stopped("interrupted"))
                return
            started = msgspec.json.encode(ev.RunStarted(attempt=owned.attempt))
            event = ev.StoredEvent(seq=owned.last_seq, name="run.started", payload=started, at=time.time())
            feed.publish([event])
            if owned.remaining is not None and owned.remaining <= 0:
                await self._recovery.end(owned, stopped("timeout"))
            else:
                self.begin(await patiently(lambda: self._job(owned, payload)), since)
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

    async def _look_at_all(self) -> None:
        """Which of the runs here have news in their inbox, and which are not ours any more."""
        if not self._running:
            return
        here = dict(self._running)
        heads = await self._store.heads(list(here))
        for run_id, execution in here.items():
            head = heads.get(run_id)
            if head is None:
                self.lost([run_id])
            elif head.inbox > execution.inbox:
                self.posted(run_id)

    async def _look(self, run_id: str) -> None:
        """Whether somebody wants that run to stop, or has deleted it."""
        async with self._claiming:  # one that was just claimed is executed when this is free
            execution = self._running.get(run_id)
        if execution is None:
            return
        try:
            posts = await self._store.inbox(run_id, execution.inbox)
            if not posts and run_id not in await self._store.heads([run_id]):
                self.lost([run_id])
        except DatabaseUnavailable:
            return  # the poll looks again
        for post in posts:
            execution.inbox = post.n
            if post.kind == "stop":
                execution.stop.call(post.cause, post.cancellation, age=post.age)

    async def drain(self, seconds: float) -> None:
        """Begin nothing new. A run that somebody in this process waits for may end; any other is handed on after the step that it is in.

        What has not gone within the time is cut off and handed on. Who waits here for a run that is not executed here is sent away at once.
        """
        now = time.monotonic()
        self.draining = True
        self._feeds.forsake_queued(self._running)
        for run_id, execution in self._running.items():
            execution.stop.leaving = not self._feeds.open(run_id).awaited
        await self._idle(now + max(seconds - LAST_WORDS, seconds / 2))
        self.hurry()
        await self._idle(now + seconds)
        for execution in list(self._running.values()):
            log.error("a run did not stop in time; its lease runs out", extra={"task": execution.task.get_name()})
            execution.task.cancel()
        await self._idle(time.monotonic() + 1.0)
        self._feeds.forsake()
        if self._looking:
            await asyncio.wait(set(self._looking))

    def hurry(self) -> None:
        """Cut off what the runs here are doing, and hand them on."""
        for execution in self._running.values():
            execution.stop.leaving = True
            execution.stop.call("handover")

    async def _idle(self, until: float) -> None:
        """Returns when nothing is executed or about to be, or at that time."""
        while (self._running or self._reserved or self._claiming.locked()) and (left := until - time.monotonic()) > 0:
            self._changed.clear()
            try:
                async with asyncio.timeout(left):
                    await self._changed.wait()
            except TimeoutError:
                return
