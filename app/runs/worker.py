"""Owns the executions of this process: so many at once, each in its own task, started here and awaited here."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable, Mapping
from typing import Any

from app.agent.decide import Finish
from app.agent.endings import FAULT, stopped
from app.domain import events as ev
from app.domain.agents import Agent
from app.domain.errors import DatabaseUnavailable, Fenced, RequestError, StopCause
from app.domain.fold import UNFINISHED, RunState
from app.domain.observers import RunObserver
from app.domain.stores import Owned, RunStore
from app.runs.agents import Agents
from app.runs.journal import Entry, Journal
from app.runs.live import Feeds
from app.runs.record import raw_text
from app.runs.runner import Job, Runner
from app.runs.stop import Stop

log = logging.getLogger(__name__)

POLL = 1.0
"""Seconds between looks at the queue when nothing hints at it; jittered by a fifth."""
LAST_WORDS = 10.0
"""Seconds of a drain that are kept for stopping what did not end by itself."""
ORPHAN_AGE = 30.0
"""Seconds after which a run that is `running` but not here is taken for lost."""
PAGE = 1000

Render = Callable[[Agent, Mapping[str, Any]], tuple[str, dict[str, Any]]]
"""The system text of an agent for a caller's context, and what of the context it left over."""


class Worker:
    """Executes runs: those that are born here, and those that it claims from the queue."""

    def __init__(
        self,
        *,
        store: RunStore,
        runner: Runner,
        feeds: Feeds,
        agents: Agents,
        render: Render,
        observer: RunObserver,
        concurrency: int,
    ) -> None:
        self._store = store
        self._runner = runner
        self._feeds = feeds
        self._agents = agents
        self._render = render
        self._observer = observer
        self._concurrency = concurrency
        self._reserved = 0
        self._running: dict[str, tuple[asyncio.Task[None], Stop]] = {}
        self._wake = asyncio.Event()
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

    def queued(self, run_id: str) -> None:
        """A run was queued: look at the queue now, and whenever a run ends. Nobody waits for it in a process that ends."""
        if self.draining:
            self._feeds.open(run_id).forsake()
        self._may_have_queued = True
        self._wake.set()

    def outage(self) -> None:
        """The database went away under a write: a run may have become ours without our knowing."""
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
            log.exception("the execution of a run broke", extra={"run_id": run_id})
        finally:
            del self._running[run_id]
            if self._may_have_queued:
                self._wake.set()

    async def serve(self) -> None:
        """Claim queued runs while there are free slots, until cancelled. The poll is the net under every hint."""
        while True:
            try:
                await self._claim_all()
                if self._outage is not None and time.monotonic() - self._outage > ORPHAN_AGE:
                    await self.recover(ORPHAN_AGE)
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
                    owned = await self._store.claim()
                    if owned is not None:
                        await self._take(owned)
            finally:
                self.release()
            if owned is None:
                break
        depth, oldest_age = await self._store.queue()
        self._observer.queue(depth, oldest_age)
        self._may_have_queued = depth > 0

    async def _take(self, owned: Owned) -> None:
        """Execute a claimed run, or end it where its time is over or its agent cannot be had."""
        feed = self._feeds.hold(owned.run_id)
        events = await self._store.events(owned.run_id, 0, PAGE)
        feed.publish([event for event in events if feed.first_seq is None or event.seq > feed.events[-1].seq])
        created = ev.decode(events[0])
        assert isinstance(created, ev.RunCreated)
        if owned.remaining is not None and owned.remaining <= 0:
            await self._end(owned, stopped("timeout"))
            return
        agent = await self._agents.version(owned.tenant, owned.agent, owned.agent_version)
        if agent is None:
            log.error("the agent version of a queued run is not known", extra={"run_id": owned.run_id})
            await self._end(owned, FAULT)
            return
        try:
            system, _ = self._render(agent, created.context or {})
        except RequestError:
            log.exception("the prompt of a queued run cannot be rendered", extra={"run_id": owned.run_id})
            await self._end(owned, FAULT)
            return
        self.begin(Job(owned=owned, agent=agent, system=system, created=created))

    async def recover(self, age: float = 0.0) -> int:
        """End every run that is `running` for `age` seconds and not in this process: `failed`, `interrupted`.

        Only the one owner of the database may call it: before it serves (a dead process left them), and after an
        outage (a start or a claim was stored but its answer lost).
        """
        interrupted = await self._store.take_over_running(list(self._running), age)
        for owned in interrupted:
            await self._end(owned, stopped("interrupted"))
        return len(interrupted)

    async def _end(self, owned: Owned, end: Finish) -> None:
        """Write the end of a run that is ours but not being executed: no call is left without an outcome."""
        feed = self._feeds.open(owned.run_id)
        journal = Journal(store=self._store, feed=feed, run_id=owned.run_id, epoch=owned.epoch, last_seq=owned.last_seq)
        agent = await self._agents.version(owned.tenant, owned.agent, owned.agent_version)
        state = RunState(agent=agent or _LOST, system="", history=())
        after = 0
        while page := await self._store.events(owned.run_id, after, PAGE):
            for stored in page:
                state.apply(ev.decode(stored), stored.private)
            after = page[-1].seq
        lost = [
            Entry(
                ev.ToolFinished(
                    call_id=call.id, name=call.name, status=_lost_status(agent, call.name), result=raw_text(UNFINISHED)
                )
            )
            for call in state.open_calls.values()
        ]
        finished = ev.RunFinished(
            status=end.status,
            stop_reason=end.stop_reason,
            output=None,
            usage=state.usage,
            cost_usd=None,
            iterations=state.iterations,
            error=end.error,
            model=state.model,
            queue_ms=round(owned.queued * 1000, 3),
        )
        try:
            await journal.append(lost, finished)
        except Fenced:
            self._observer.fenced()
            return
        self._observer.unstarted(owned.agent, finished)
        self._feeds.end(owned.run_id, finished)

    async def drain(self, seconds: float) -> None:
        """Begin nothing new, let what runs end by itself; what has not within the time is stopped as `interrupted`.

        Who waits for a run that is still queued is sent away at once: another process will execute it.
        """
        self.draining = True
        self._feeds.forsake(spared=self._running)
        await self._wait(max(seconds - LAST_WORDS, seconds / 2))
        self.interrupt()
        await self._wait(min(LAST_WORDS, seconds / 2))
        for task, _ in list(self._running.values()):
            log.error("a run did not stop in time and is left to be recovered", extra={"task": task.get_name()})
            task.cancel()
        await self._wait(1.0)
        self._feeds.forsake()

    def interrupt(self) -> None:
        """Stop every run that is being executed here, as `interrupted`."""
        for _, stop in self._running.values():
            stop.call("interrupted")

    async def _wait(self, seconds: float) -> None:
        tasks = [task for task, _ in self._running.values()]
        if tasks:
            await asyncio.wait(tasks, timeout=seconds)


_LOST = Agent(name="", description="", kind="chat", instructions="")


def _lost_status(agent: Agent | None, name: str) -> Any:
    spec = agent.tool(name) if agent is not None else None
    return "cancelled" if spec is not None and spec.effect != "write" else "outcome_unknown"
