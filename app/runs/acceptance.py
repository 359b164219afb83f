"""From a wish to a stored run: born running where that is possible, queued otherwise, found again by its key."""

from __future__ import annotations

import asyncio
import logging
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from app.agent import tokens
from app.domain import events as ev
from app.domain.agents import Agent
from app.domain.errors import DatabaseUnavailable, RequestError
from app.domain.hints import Hints
from app.domain.idempotency import IdempotencyKey
from app.domain.messages import JsonObject
from app.domain.observers import RunObserver
from app.domain.principals import Principal
from app.domain.runs import Cancellation, OnBusy, Run, RunStatus
from app.domain.sessions import SessionStore
from app.domain.stores import Accepted, NewRun, Replayed, RunStore
from app.domain.usage import Quotes, Scope
from app.runs.admission import Admission
from app.runs.birth import Birth
from app.runs.live import Feed, Feeds
from app.runs.stops import Stops
from app.runs.worker import Worker

log = logging.getLogger(__name__)

PAGE = 200
LEAST_WAIT = 0.5
"""Seconds that the database has to store a run, also one whose caller waits for less: its time being up is an outcome of its own."""
LONGEST_RETRY = 3600.0
"""Seconds after which a caller without a budget may ask again: one may be raised, and what is reserved comes free."""
_FIRST_ATTEMPT = msgspec.json.encode(ev.RunStarted(attempt=1))


class StartRun(msgspec.Struct, frozen=True, kw_only=True):
    """A wish for a run. `input` is any JSON, `field` what the caller calls it; `timeout`: seconds until the caller stops waiting; `delay`: seconds before it may begin.

    `stop_after` names the step after which it waits: `model`, `tool`, or one of the agent's tools.
    """

    input: Any
    agent: str | None = None
    session_id: str | None = None
    user_id: str | None = None
    context: JsonObject | None = None
    timeout: float | None = None
    tags: dict[str, str] = {}
    on_busy: OnBusy = "enqueue"
    stop_after: str | None = None
    delay: float | None = None
    priority: int = 0
    callback_url: str | None = None
    key: IdempotencyKey | None = None
    field: str = "input"


class Started(msgspec.Struct, frozen=True, kw_only=True):
    """A run that was accepted; `feed` is its live end. `replayed`: by an earlier request with the same key.

    `experiments` are the variants that it is exposed to, by experiment.
    """

    run_id: str
    session_id: str
    agent: str
    agent_version: str
    feed: Feed
    timeout: float | None
    status: RunStatus
    replayed: bool = False
    experiments: dict[str, str] = {}


class Acceptance:
    """Accepts runs. Safe for concurrent use."""

    def __init__(
        self,
        *,
        store: RunStore,
        sessions: SessionStore,
        worker: Worker,
        feeds: Feeds,
        stops: Stops,
        broadcast: Hints,
        observer: RunObserver,
        quotes: Quotes,
        admission: Admission,
    ) -> None:
        self._store = store
        self._quotes = quotes
        self._admission = admission
        self._sessions = sessions
        self._worker = worker
        self._feeds = feeds
        self._stops = stops
        self._broadcast = broadcast
        self._observer = observer
        self._accepting: set[asyncio.Task[Any]] = set()
        self._expiring: set[asyncio.TimerHandle] = set()

    def check(self, tenant: str) -> None:
        """Raises `RequestError` not_ready or queue_full where no run of that tenant can be accepted now; asked before anything that costs more."""
        if self._worker.draining:
            raise RequestError("not_ready", "The service is shutting down. Send the request again in a moment.")
        self._admission.check(tenant)

    async def start(
        self, principal: Principal, wanted: StartRun, agent: Agent, system: str, created: ev.RunCreated
    ) -> Started:
        """Store the run that `created` begins, where `check` has nothing against it. Raises `RequestError`, as `RunService.start` says."""
        run = NewRun(
            id=created.run_id,
            session_id=created.session_id,
            user_id=created.user_id,
            agent=agent.name,
            agent_version=agent.version,
            tags=wanted.tags,
            created=msgspec.json.encode(created),
            timeout=wanted.timeout,
            traceparent=self._observer.traceparent(),
            on_busy=wanted.on_busy,
            stop_after=wanted.stop_after,
            delay=wanted.delay,
            priority=wanted.priority,
            callback_url=wanted.callback_url,
            resumed_from=created.resumed_from,
            needs_usd=await self._quotes.least(agent.model, tokens.prose(system)),
            experiments=created.exposure,
            shadow_of=None if created.shadow_of is msgspec.UNSET else created.shadow_of,
            key=wanted.key,
        )
        birth = Birth(run=run, created=created, agent=agent, system=system)
        # In a task of its own: neither a caller that leaves nor a database that hangs may lose sight of what was stored.
        accepting = asyncio.create_task(self._accept(principal, birth))
        self._keep(accepting)
        accepting.add_done_callback(_seen)
        patience = None if wanted.timeout is None else max(wanted.timeout, LEAST_WAIT)
        done, _ = await asyncio.wait([accepting], timeout=patience)
        if not done:
            raise RequestError("not_ready", "The database did not answer in time. Try again in a moment.")
        return accepting.result()

    async def _accept(self, principal: Principal, birth: Birth) -> Started:
        """Store the run, and begin it where it was born running."""
        run = birth.run
        self._admission.asks(principal.tenant)
        since = time.monotonic()
        slot = self._worker.reserve(principal.tenant, run.agent)
        try:
            accepted = await self._store.start(principal, run, slot=slot)
            if isinstance(accepted, Accepted) and accepted.status == "running":
                feed = self._feeds.hold(run.id, 0)
                feed.publish(
                    [
                        ev.StoredEvent(seq=1, name="run.created", payload=run.created, at=time.time()),
                        ev.StoredEvent(seq=2, name="run.started", payload=_FIRST_ATTEMPT, at=time.time()),
                    ]
                )
                self._worker.begin(birth.job(principal, accepted), since)
                return _started(run, feed, accepted.status)
        finally:
            self._admission.asked(principal.tenant)
            if slot:
                self._worker.release(principal.tenant)
        if isinstance(accepted, Accepted):
            return await self._queued(principal, run, accepted)
        if isinstance(accepted, Replayed):
            started = await self.again(principal, accepted, run.timeout)
            if run.on_busy == "interrupt":  # whoever said it first may have died before it was done
                await self._interrupt(principal, started.session_id, started.run_id)
            return started
        if accepted == "session_busy":
            raise RequestError("session_busy", f"Session {run.session_id!r} has a live run. Wait for it, or cancel it.")
        if accepted in ("tenant_budget", "user_budget"):
            raise no_budget("tenant" if accepted == "tenant_budget" else "user", datetime.now(UTC))
        if accepted == "resumed":
            raise RequestError("run_finished", f"Run {run.resumed_from} was resumed already; resume the run that did.")
        raise RequestError("not_found", f"There is no session {run.session_id!r}.")

    async def _queued(self, principal: Principal, run: NewRun, accepted: Accepted) -> Started:
        """The run is in the queue; whoever can is told."""
        self._admission.joined(principal.tenant)
        feed = self._feeds.open(run.id)
        feed.learn(1)
        if run.delay is None:
            self._broadcast.queued()
        if self._worker.draining:
            feed.forsake()
        if run.on_busy == "interrupt":
            await self._interrupt(principal, run.session_id, run.id)
        if run.timeout is not None and run.delay is None:
            self._expire_later(run.id, run.timeout)
        return _started(run, feed, accepted.status)

    async def _interrupt(self, principal: Principal, session_id: str, run_id: str) -> None:
        """The live runs that stand before that one in its session are stopped."""
        turn = await self._sessions.turn_of(principal, session_id, run_id)
        for earlier, _ in await self._sessions.live(principal, session_id, turn or 0):
            await self._stops.stop(earlier, "superseded", Cancellation(by=principal.user, reason="a newer turn"))

    async def again(self, principal: Principal, replayed: Replayed, timeout: float | None) -> Started:
        """The run that an earlier request with the same key made."""
        if not replayed.same or replayed.run_id is None:
            detail = "This Idempotency-Key was used for another request. Use a new key for a new request."
            raise RequestError("idempotency_key_reused", detail)
        run = await self._store.run(principal, replayed.run_id)
        if run is None:
            raise RequestError("not_found", f"There is no run {replayed.run_id!r} any more.")
        started = await self.attach(run, timeout)
        return msgspec.structs.replace(started, replayed=True)

    async def attach(self, run: Run, timeout: float | None) -> Started:
        """A run that is there already; its outcome, where it has one, is known to its feed."""
        feed = self._feeds.open(run.id)
        if run.status not in ("queued", "running") and feed.result is None:
            for event in await all_events(self._store, run.id):
                feed.take([event])
        return Started(
            run_id=run.id,
            session_id=run.session_id,
            agent=run.agent,
            agent_version=run.agent_version,
            feed=feed,
            timeout=timeout,
            status=run.status,
            experiments=run.experiments,
        )

    def _expire_later(self, run_id: str, timeout: float) -> None:
        """End the run when its caller stops waiting, should it be queued still."""

        def expire() -> None:
            self._expiring.discard(timer)
            self._keep(asyncio.create_task(self._expire(run_id)))

        timer = asyncio.get_running_loop().call_later(timeout, expire)
        self._expiring.add(timer)

    async def _expire(self, run_id: str) -> None:
        try:
            await self._stops.end_unowned(run_id, "timeout", statuses=["queued"])
        except DatabaseUnavailable as error:  # who claims it will see that it is late
            log.warning("a late run could not be ended yet", extra={"run_id": run_id, "reason": str(error)})

    def _keep(self, task: asyncio.Task[Any]) -> None:
        self._accepting.add(task)
        task.add_done_callback(self._accepting.discard)

    async def aclose(self) -> None:
        """What was begun here and has not ended is waited for; the worker has been drained before."""
        for timer in self._expiring:
            timer.cancel()
        if self._accepting:
            await asyncio.wait(set(self._accepting))


def no_budget(scope: Scope, now: datetime) -> RequestError:
    """What is said where nothing is left of a month's budget. `now` is UTC."""
    turn = (now.replace(day=1) + timedelta(days=32)).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    whose = "This tenant's budget" if scope == "tenant" else "The user's budget"
    detail = (
        f"{whose} for the month is used up, or reserved by what is running now. The next month's begins at "
        f"{turn:%Y-%m-%dT%H:%M:%SZ}; an operator can raise [budgets] before that."
    )
    return RequestError("budget_exhausted", detail, retry_after=min(LONGEST_RETRY, (turn - now).total_seconds()))


def _started(run: NewRun, feed: Feed, status: RunStatus) -> Started:
    return Started(
        run_id=run.id,
        session_id=run.session_id,
        agent=run.agent,
        agent_version=run.agent_version,
        feed=feed,
        timeout=run.timeout,
        status=status,
        experiments=run.experiments,
    )


def _seen(task: asyncio.Task[Started]) -> None:
    """Nobody waits for it any more: its error was told to the log by whoever raised it."""
    if not task.cancelled() and (error := task.exception()) is not None:
        log.warning("a run that its caller gave up on was not accepted", extra={"reason": str(error)})


async def all_events(store: RunStore, run_id: str) -> list[ev.StoredEvent]:
    """A run's whole journal so far."""
    events: list[ev.StoredEvent] = []
    while page := await store.events(run_id, events[-1].seq if events else 0, PAGE):
        events += page
    return events
