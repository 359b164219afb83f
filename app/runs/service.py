"""All that the outside may do with runs. The HTTP edge, the terminal and tests call this and nothing below it."""

from __future__ import annotations

from collections.abc import AsyncGenerator

import msgspec

from app.agent.endings import stopped
from app.domain import events as ev
from app.domain.agents import Agent
from app.domain.errors import FieldError, RequestError
from app.domain.hints import Hints
from app.domain.idempotency import IdempotencyKey
from app.domain.principals import Principal
from app.domain.runs import TERMINAL, Cancellation, Run
from app.domain.stores import Head, RunFilter, RunStore
from app.runs import record
from app.runs.acceptance import Acceptance, all_events
from app.runs.acceptance import Started as Started
from app.runs.acceptance import StartRun as StartRun
from app.runs.agents import Agents, Render
from app.runs.birth import session_id_of
from app.runs.ids import new_id
from app.runs.inputs import Inputs
from app.runs.live import Feed, Feeds
from app.runs.shadows import Shadows
from app.runs.steps import Step, steps
from app.runs.stops import Stops
from app.runs.stream import KEEP_ALIVE, Cursor, Item, Reader, check_cursor
from app.runs.switches import Switches

ANSWER_GRACE = 2.0
"""Seconds after the caller's timeout in which the run's own end may still arrive."""
STEPS = ("model", "tool")
"""Names of steps that every agent has; each tool is one more."""
NEW_ONLY = frozenset({"disabled", "queue_full"})
"""Refusals of what is new, which are none of what there is already."""


class RunService:
    """Starts, reads, follows and stops runs. Safe for concurrent use."""

    def __init__(
        self,
        *,
        store: RunStore,
        acceptance: Acceptance,
        agents: Agents,
        feeds: Feeds,
        stops: Stops,
        broadcast: Hints,
        render: Render,
        shadows: Shadows,
        inputs: Inputs,
        switches: Switches,
        keep_alive: float = KEEP_ALIVE,
    ) -> None:
        self._store = store
        self._acceptance = acceptance
        self._agents = agents
        self._feeds = feeds
        self._stops = stops
        self._broadcast = broadcast
        self._render = render
        self._shadows = shadows
        self._inputs = inputs
        self._switches = switches
        self._keep_alive = keep_alive

    @property
    def agents(self) -> Agents:
        """The agents that can be asked."""
        return self._agents

    async def start(self, principal: Principal, wanted: StartRun) -> Started:
        """Accept a run: it is stored, and begins at once where its session is idle and a slot is free.

        Raises `RequestError` for an unknown agent, an input that its agent does not take, a bad session id, a context that does not fit
        the prompt, an unknown step, an agent or a tenant that is switched off, somebody else's session, a busy one (`on_busy` reject),
        a key that was used for something else, and while this process is closing; and forbidden for a `user_id` that the principal
        may not name. A key that made a run gives that run, also where a new one would be refused by a switch or a full queue.
        """
        try:
            return await self._start(principal, wanted)
        except RequestError as error:
            if error.code not in NEW_ONLY:
                raise
            earlier = await self.replay(principal.acting_for(wanted.user_id), wanted.key, wanted.timeout)
            if earlier is None:
                raise
            return earlier

    async def replay(self, principal: Principal, key: IdempotencyKey | None, timeout: float | None) -> Started | None:
        """The run that an earlier request with that key made or let go on; None: there was none, or there is no key.

        Raises `RequestError` idempotency_key_reused.
        """
        if key is None or (replayed := await self._store.used(principal, key)) is None:
            return None
        return await self._acceptance.again(principal, replayed, timeout)

    async def _start(self, principal: Principal, wanted: StartRun) -> Started:
        asker, principal = principal, principal.acting_for(wanted.user_id)
        session_id = session_id_of(wanted.session_id)
        user_id = wanted.user_id or principal.user
        chosen = self._agents.choose(wanted.agent, user_id=user_id, session_id=session_id)
        agent = chosen.agent
        self._switches.check(principal.tenant, agent.name)
        check_step(agent, wanted.stop_after)
        self._acceptance.check(principal.tenant)
        await self._inputs.check(agent, wanted.input, wanted.context, path=wanted.field)
        system, unused = self._render(agent, wanted.context or {})
        created = ev.RunCreated(
            run_id=new_id("run"),
            session_id=session_id,
            agent=agent.name,
            agent_version=agent.version,
            message_id=new_id("msg"),
            input=wanted.input,
            context=wanted.context,
            preface=msgspec.json.encode(unused).decode() if unused else None,
            user_id=user_id,
            tags=wanted.tags or msgspec.UNSET,
            experiments=chosen.experiments or msgspec.UNSET,
            granted=granted(agent, principal),
            actor=asker.actor,
            by=asker.user,
        )
        return await self._acceptance.start(principal, wanted, agent, system, created)

    async def aclose(self) -> None:
        """What was begun here and has not ended is waited for; the worker has been drained before."""
        await self._acceptance.aclose()
        await self._shadows.aclose()

    async def result(self, started: Started) -> ev.RunFinished | ev.RunWaiting:
        """The end of a run, however it ended, or that it waits. A run that is still queued when its caller's time is over ends there.

        Raises `RequestError` not_ready where this process ends before the run.
        """
        try:
            outcome = await started.feed.outcome(None if started.timeout is None else started.timeout + ANSWER_GRACE)
        except TimeoutError:
            return record.finished(stopped("timeout"), None)
        if outcome is None and started.feed.over:
            raise RequestError(
                "run_cancelled", f"The session of run {started.run_id} was deleted, and the run with it."
            )
        if outcome is None:
            detail = f"The service is shutting down; run {started.run_id} goes on. Ask for its outcome in a moment."
            raise RequestError("not_ready", detail)
        return outcome

    def follow(self, started: Started) -> AsyncGenerator[list[Item], None]:
        """The whole stream of a run that was just started, as `Reader.batches` gives it."""
        return self._reader(started.feed, Cursor()).batches()

    async def events(self, principal: Principal, run_id: str, cursor: Cursor) -> AsyncGenerator[list[Item], None]:
        """The stream of any run from a cursor on. Raises `RequestError` before the first frame: not_found, invalid_cursor."""
        head = await self._head(principal, run_id)
        feed = Feed(run_id) if head.status in TERMINAL else self._feeds.open(run_id)
        feed.learn(head.last_seq)
        return self._reader(feed, await check_cursor(self._store, feed, cursor, head)).batches()

    def _reader(self, feed: Feed, cursor: Cursor) -> Reader:
        return Reader(store=self._store, feeds=self._feeds, feed=feed, cursor=cursor, keep_alive=self._keep_alive)

    async def cancel(self, principal: Principal, run_id: str, reason: str | None) -> tuple[Run, bool]:
        """Stop a run for good; the wish is stored with who and why. The run, and whether it was live: a terminal one is unchanged."""
        await self._head(principal, run_id)
        live = await self._stops.stop(run_id, "cancelled", Cancellation(by=principal.user, reason=reason))
        return await self.run(principal, run_id), live

    async def steer(self, principal: Principal, run_id: str, content: str, message_id: str | None = None) -> str:
        """Say something to a live run: the model reads it at the next step. The message's id; once per id.

        Raises `RequestError` run_finished where the run is not live, validation_error where its agent may not be told that.
        """
        run = await self.run(principal, run_id)
        agent = await self._agents.version(principal.tenant, run.agent, run.agent_version)
        if agent is not None and run.status not in TERMINAL:
            await self._inputs.check(agent, content, path="content")
        message_id = message_id or new_id("msg")
        if not await self._store.post_message(run_id, message_id, content):
            raise RequestError("run_finished", f"Run {run_id} has ended: send the message as a new turn.")
        self._broadcast.posted(run_id)
        return message_id

    async def resume(
        self,
        principal: Principal,
        run_id: str,
        *,
        stop_after: str | None = None,
        key: IdempotencyKey | None = None,
    ) -> Started:
        """Let a run that waits after its `stop_after` go on, or go on with what a failed one had finished, as a new run.

        Raises `RequestError` run_finished for any other run.
        """
        run = await self.run(principal, run_id)
        if (earlier := await self.replay(principal, key, None)) is not None:
            return earlier
        self._switches.check(principal.tenant, run.agent)
        agent = await self._agents.version(principal.tenant, run.agent, run.agent_version)
        if agent is None:
            raise RequestError("agent_changed", f"Version {run.agent_version} of agent {run.agent} is not known here.")
        check_step(agent, stop_after)
        if run.status == "failed":
            self._acceptance.check(principal.tenant)
            (first,) = await self._store.events(run_id, 0, 1)
            created = msgspec.structs.replace(
                msgspec.json.decode(first.payload, type=ev.RunCreated),
                run_id=new_id("run"),
                resumed_from=run_id,
                granted=granted(agent, principal),
                actor=principal.actor,
                by=principal.user,
            )
            wanted = StartRun(input=None, stop_after=stop_after, tags=run.tags, key=key)
            system, _ = self._render(agent, created.context or {})
            return await self._acceptance.start(principal, wanted, agent, system, created)
        feed = self._feeds.open(run_id)
        feed.resumed()  # before: it may be claimed, and wait again, at once
        if not await self._store.requeue(principal, run_id, stop_after, key):
            if (earlier := await self.replay(principal, key, None)) is not None:
                return earlier
            detail = (
                f"Run {run_id} is {run.status}: only a failed run, or one that waits after stop_after, can be resumed."
            )
            raise RequestError("run_finished", detail)
        feed.learn((await self._head(principal, run_id)).last_seq)
        self._broadcast.queued()
        return await self._acceptance.attach(msgspec.structs.replace(run, status="queued"), None)

    async def journal(
        self, principal: Principal, run_id: str, after: int, limit: int
    ) -> tuple[list[ev.StoredEvent], int]:
        """Stored events after a seq, and the seq to go on from."""
        head = await self._head(principal, run_id)
        if after > head.last_seq:
            raise RequestError("invalid_cursor", "That is beyond the end of this run's log.")
        events = await self._store.events(run_id, after, limit)
        return events, events[-1].seq if events else after

    async def steps(self, principal: Principal, run_id: str) -> list[Step]:
        """What the run did, step by step, so far."""
        await self._head(principal, run_id)
        return steps(await all_events(self._store, run_id))

    async def run(self, principal: Principal, run_id: str) -> Run:
        """A run. Raises `RequestError` not_found."""
        run = await self._store.run(principal, run_id)
        if run is None:
            raise _no_run(run_id)
        return run

    async def runs(self, principal: Principal, wanted: RunFilter) -> list[Run]:
        """A page of runs, newest first."""
        return await self._store.runs(principal, wanted)

    async def _head(self, principal: Principal, run_id: str) -> Head:
        head = await self._store.head(principal, run_id)
        if head is None:
            raise _no_run(run_id)
        return head


def granted(agent: Agent, principal: Principal) -> tuple[str, ...] | msgspec.UnsetType:
    """The scopes that the agent's tools ask for and that principal has: what its run is born with, whoever executes it later."""
    return tuple(filter(principal.may, agent.scopes)) if agent.scopes else msgspec.UNSET


def check_step(agent: Agent, name: str | None) -> None:
    """Raises `RequestError` validation_error for a step that a run of that agent cannot have."""
    known = (*STEPS, *(spec.name for spec in agent.tools))
    if name is not None and name not in known:
        why = f"must name a step of agent {agent.name}: {', '.join(known)}"
        raise RequestError("validation_error", f"`stop_after` {why}.", [FieldError("stop_after", why)])


def _no_run(run_id: str) -> RequestError:
    return RequestError("not_found", f"There is no run {run_id!r}.")
