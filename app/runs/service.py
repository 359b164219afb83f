"""All that the outside may do with runs and sessions. The HTTP edge, the terminal and tests call this and nothing below it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator
from datetime import datetime
from typing import Any

import msgspec

from app.agent.endings import stopped
from app.domain import events as ev
from app.domain.errors import DatabaseUnavailable, RequestError, StopCause
from app.domain.fold import Conversation
from app.domain.messages import JsonObject, Message
from app.domain.observers import RunObserver
from app.domain.principals import Principal
from app.domain.runs import TERMINAL, Run
from app.domain.stores import Head, NewRun, RunFilter, RunStore, Session
from app.runs import record
from app.runs.agents import Agents
from app.runs.birth import Birth, session_id_of
from app.runs.ids import new_id
from app.runs.live import Feed, Feeds
from app.runs.steps import Step, steps
from app.runs.stream import KEEP_ALIVE, Cursor, Item, Reader, check_cursor
from app.runs.worker import Render, Worker

log = logging.getLogger(__name__)

ANSWER_GRACE = 2.0
"""Seconds after the caller's timeout in which the run's own end may still arrive."""
PAGE = 200
_EVERY_TURN = 2**31 - 1
_FIRST_ATTEMPT = msgspec.json.encode(ev.RunStarted(attempt=1))


class StartRun(msgspec.Struct, frozen=True, kw_only=True):
    """A wish for a run. `input` is any JSON; `timeout`: seconds until the caller stops waiting."""

    input: Any
    agent: str | None = None
    session_id: str | None = None
    user_id: str | None = None
    context: JsonObject | None = None
    timeout: float | None = None
    tags: dict[str, str] = {}


class Started(msgspec.Struct, frozen=True, kw_only=True):
    """A run that was accepted; `feed` is its live end."""

    run_id: str
    session_id: str
    agent: str
    agent_version: str
    feed: Feed
    timeout: float | None


class RunService:
    """Starts, reads, follows and stops runs. Safe for concurrent use."""

    def __init__(
        self,
        *,
        store: RunStore,
        agents: Agents,
        worker: Worker,
        feeds: Feeds,
        render: Render,
        observer: RunObserver,
        keep_alive: float = KEEP_ALIVE,
    ) -> None:
        self._store = store
        self._agents = agents
        self._worker = worker
        self._feeds = feeds
        self._render = render
        self._observer = observer
        self._keep_alive = keep_alive
        self._accepting: set[asyncio.Task[Any]] = set()

    @property
    def agents(self) -> Agents:
        """The agents that can be asked."""
        return self._agents

    async def start(self, principal: Principal, wanted: StartRun) -> Started:
        """Accept a run: it is stored, and begins at once where its session is idle and a slot is free.

        Raises `RequestError` for an unknown agent, a bad session id, a context that does not fit the prompt, somebody
        else's session, and while this process is closing.
        """
        if self._worker.draining:
            raise RequestError("not_ready", "The service is shutting down. Send the request again in a moment.")
        agent = self._agents.get(wanted.agent)
        session_id = session_id_of(wanted.session_id)
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
            user_id=wanted.user_id or principal.user,
        )
        run = NewRun(
            id=created.run_id,
            session_id=session_id,
            user_id=created.user_id,
            agent=agent.name,
            agent_version=agent.version,
            tags=wanted.tags,
            created=msgspec.json.encode(created),
            timeout=wanted.timeout,
            traceparent=self._observer.traceparent(),
        )
        job = Birth(run=run, created=created, agent=agent, system=system)
        # In a task of its own: neither a caller that leaves nor a database that hangs may lose sight of what was stored.
        accepting = asyncio.create_task(self._accept(principal, job))
        self._accepting.add(accepting)
        accepting.add_done_callback(self._accepting.discard)
        done, _ = await asyncio.wait([accepting], timeout=wanted.timeout)
        if not done:
            accepting.add_done_callback(_seen)
            raise RequestError("not_ready", "The database did not answer in time. Try again in a moment.")
        return Started(
            run_id=run.id,
            session_id=session_id,
            agent=agent.name,
            agent_version=agent.version,
            feed=accepting.result(),
            timeout=wanted.timeout,
        )

    async def _accept(self, principal: Principal, birth: Birth) -> Feed:
        """Store the run, and begin it where it was born running. Its feed."""
        run = birth.run
        slot = self._worker.reserve()
        # Before the run is stored: a worker may claim it, and even end it, before this call hears that it was.
        feed = self._feeds.hold(run.id)
        try:
            accepted = await self._store.start(principal, run, slot=slot)
            if accepted is None:
                raise RequestError("not_found", f"There is no session {run.session_id!r}.")
            if feed.first_seq is None:
                feed.publish([ev.StoredEvent(seq=1, name="run.created", payload=run.created)])
            if accepted.status == "running":
                feed.publish([ev.StoredEvent(seq=2, name="run.started", payload=_FIRST_ATTEMPT)])
                self._worker.begin(birth.job(principal, accepted))
            else:
                self._worker.queued(run.id)
                if run.timeout is not None:
                    self._expire_later(feed, run.timeout)
        except BaseException as error:
            if feed.first_seq is None:
                feed.held = False
                self._feeds.leave(feed)
            if not isinstance(error, RequestError):
                self._worker.outage()
            raise
        finally:
            if slot:
                self._worker.release()
        return feed

    def _expire_later(self, feed: Feed, timeout: float) -> None:
        """End the run when its caller stops waiting, should it be queued still."""
        expiry = asyncio.create_task(self._expiry(feed, timeout))
        self._accepting.add(expiry)
        expiry.add_done_callback(self._accepting.discard)

    async def _expiry(self, feed: Feed, timeout: float) -> None:
        done, _ = await asyncio.wait([feed.ended], timeout=timeout)
        try:
            if not done and not self._worker.stop(feed.run_id, "timeout"):
                await self._end_queued(feed.run_id, "timeout")
        except DatabaseUnavailable as error:  # who claims it will see that it is late
            log.warning("a late run could not be ended yet", extra={"run_id": feed.run_id, "reason": str(error)})

    async def aclose(self) -> None:
        """What was begun here and has not ended is waited for; the worker has been drained before."""
        if self._accepting:
            await asyncio.wait(set(self._accepting))

    async def result(self, started: Started) -> ev.RunFinished:
        """The end of a run, however it ended. A run that is still queued when its caller's time is over ends there.

        Raises `RequestError` not_ready where this process ends before the run.
        """
        ended = started.feed.ended
        limit = None if started.timeout is None else started.timeout + ANSWER_GRACE
        done, _ = await asyncio.wait([ended], timeout=limit)
        if not done:
            return record.finished(stopped("timeout"), None)
        end = ended.result()
        if end is None:
            detail = f"The service is shutting down; run {started.run_id} is kept. Ask for its outcome in a moment."
            raise RequestError("not_ready", detail)
        return end

    def follow(self, started: Started) -> AsyncGenerator[list[Item], None]:
        """The whole stream of a run that was just started, as `Reader.batches` gives it."""
        return self._read(started.run_id, Cursor(), started.feed)

    async def events(self, principal: Principal, run_id: str, cursor: Cursor) -> AsyncGenerator[list[Item], None]:
        """The stream of any run from a cursor on. Raises `RequestError` before the first frame: not_found, invalid_cursor."""
        feed = self._feeds.open(run_id)
        try:
            head = await self._head(principal, run_id)
            cursor = await check_cursor(self._store, feed, cursor, head)
        finally:
            self._feeds.leave(feed)
        return self._read(run_id, cursor, Feed(run_id) if head.status in TERMINAL else None)

    async def _read(self, run_id: str, cursor: Cursor, feed: Feed | None) -> AsyncGenerator[list[Item], None]:
        if feed is None:
            feed = self._feeds.open(run_id)
        feed.readers += 1
        batches = Reader(
            store=self._store, feeds=self._feeds, feed=feed, cursor=cursor, keep_alive=self._keep_alive
        ).batches()
        try:
            async for batch in batches:
                yield batch
        finally:
            await batches.aclose()
            feed.readers -= 1
            self._feeds.leave(feed)

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
        return steps(await self._all_events(run_id))

    async def _all_events(self, run_id: str) -> list[ev.StoredEvent]:
        events: list[ev.StoredEvent] = []
        while page := await self._store.events(run_id, events[-1].seq if events else 0, PAGE):
            events += page
        return events

    async def run(self, principal: Principal, run_id: str) -> Run:
        """A run. Raises `RequestError` not_found."""
        run = await self._store.run(principal, run_id)
        if run is None:
            raise RequestError("not_found", f"There is no run {run_id!r}.")
        return run

    async def runs(self, principal: Principal, wanted: RunFilter) -> list[Run]:
        """A page of runs, newest first."""
        return await self._store.runs(principal, wanted)

    async def session(self, principal: Principal, session_id: str) -> Session:
        """A session. Raises `RequestError` not_found."""
        session, _ = await self._session(principal, session_id)
        return session

    async def sessions(self, principal: Principal, before: tuple[datetime, str] | None, limit: int) -> list[Session]:
        """A page of sessions, latest used first."""
        return await self._store.sessions(principal, before, limit)

    async def messages(self, principal: Principal, session_id: str) -> list[tuple[str, Message]]:
        """The session's messages since its last reset, each with its run's id, also those of a run that is going on."""
        _, epoch = await self._session(principal, session_id)
        messages: list[tuple[str, Message]] = []
        for events in await self._store.history(principal.tenant, session_id, epoch, _EVERY_TURN):
            conversation = Conversation()
            run_id = ""
            for stored in events:
                event = ev.decode(stored)
                if isinstance(event, ev.RunCreated):
                    run_id = event.run_id
                conversation.apply(event, stored.private)
            messages += [(run_id, m) for m in conversation.messages if m.id not in conversation.rejected]
        return messages

    async def reset(self, principal: Principal, session_id: str) -> None:
        """Begin the session anew: its history is empty, its live runs are cancelled and have ended (a tool may take some seconds more)."""
        live = await self._store.reset(principal, session_id)
        if live is None:
            raise RequestError("not_found", f"There is no session {session_id!r}.")
        endings = [feed.ended for run_id in live if (feed := self._feeds.get(run_id)) is not None]
        for run_id in reversed(live):  # the last turn first: none may begin because the one before it ended
            if not self._worker.stop(run_id, "reset"):
                await self._end_queued(run_id, "reset")
        if endings:
            await asyncio.wait(endings, timeout=ANSWER_GRACE)

    async def interrupt(self, principal: Principal, run_id: str) -> None:
        """Stop a live run; its end says `interrupted`. One that has ended stays as it is. Raises `RequestError` not_found."""
        await self._head(principal, run_id)
        if not self._worker.stop(run_id, "interrupted"):
            await self._end_queued(run_id, "interrupted")

    async def _end_queued(self, run_id: str, cause: StopCause) -> None:
        finished = record.finished(stopped(cause), None)
        payload = msgspec.json.encode(finished)
        ended = await self._store.finish_queued(run_id, payload, finished)
        if ended is None:
            await self._worker.stop_claimed(run_id, cause)
            return
        seq, run = ended
        self._feeds.open(run_id).publish([ev.StoredEvent(seq=seq, name="run.finished", payload=payload)])
        self._observer.unstarted(run, finished)
        self._feeds.end(run_id, finished)

    async def _head(self, principal: Principal, run_id: str) -> Head:
        head = await self._store.head(principal, run_id)
        if head is None:
            raise RequestError("not_found", f"There is no run {run_id!r}.")
        return head

    async def _session(self, principal: Principal, session_id: str) -> tuple[Session, int]:
        found = await self._store.session(principal, session_id)
        if found is None:
            raise RequestError("not_found", f"There is no session {session_id!r}.")
        return found


def _seen(task: asyncio.Task[Feed]) -> None:
    """Nobody waits for it any more: its error was told to the log by whoever raised it."""
    if not task.cancelled() and (error := task.exception()) is not None:
        log.warning("a run that its caller gave up on was not accepted", extra={"reason": str(error)})
