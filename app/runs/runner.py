"""Performs what `decide` says, for one run at a time: write down, do, write down, decide again.

Effects run inside `async with stop`, writes outside of it: a deadline or a stop ends what the run is doing, never the
record of what it did.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping
from contextlib import aclosing
from functools import partial
from typing import Any

import msgspec

from app.agent import context
from app.agent.decide import CallModel, CallTools, Finish, decide
from app.agent.endings import FAULT, ending
from app.domain import events as ev
from app.domain.agents import Agent
from app.domain.errors import Fenced, ProviderError, RunStopped
from app.domain.fold import RunState
from app.domain.messages import Message, ToolCall
from app.domain.models import Completed, Provider, Recorder, TextDelta
from app.domain.observers import RunInfo, RunObserver, RunTimes
from app.domain.stores import Owned, RunStore
from app.domain.tools import Toolbox, ToolContext, ToolResult
from app.runs import record
from app.runs.histories import Histories
from app.runs.ids import new_id
from app.runs.journal import Entry, Journal
from app.runs.live import Feed, Feeds
from app.runs.stop import Stop

log = logging.getLogger(__name__)

TOOL_GRACE = 5.0
"""Seconds that a stopped tool has to end before its outcome is written without it."""


STOPPED = "The run was stopped while this tool was running."


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """A run that is ours to execute: who owns it, its resolved agent and system text, and the event it began with."""

    owned: Owned
    agent: Agent
    system: str
    created: ev.RunCreated


class Runner:
    """Executes runs, any number at once."""

    def __init__(
        self, *, store: RunStore, provider: Provider, toolbox: Toolbox, observer: RunObserver, feeds: Feeds
    ) -> None:
        self._store = store
        self._provider = provider
        self._toolbox = toolbox
        self._observer = observer
        self._feeds = feeds
        self._histories = Histories(store=store)

    async def execute(self, job: Job, stop: Stop) -> None:
        """Bring the run to its end. Returns when its terminal event is stored, or when it turned out not to be ours."""
        owned = job.owned
        feed = self._feeds.open(owned.run_id)
        journal = Journal(store=self._store, feed=feed, run_id=owned.run_id, epoch=owned.epoch, last_seq=owned.last_seq)
        info = RunInfo(
            run_id=owned.run_id,
            session_id=owned.session_id,
            tenant=owned.tenant,
            user_id=owned.user_id,
            agent=owned.agent,
            agent_version=owned.agent_version,
            route=job.agent.model,
            attempt=owned.attempt,
            traceparent=owned.traceparent,
            queued=owned.queued,
        )
        began = time.monotonic()
        with self._observer.running(info) as watch:
            execution = _Execution(
                job=job,
                stop=stop,
                journal=journal,
                feed=feed,
                provider=self._provider,
                toolbox=self._toolbox,
                observer=self._observer,
                began=began,
                history=await self._histories.before(owned),
            )
            try:
                try:
                    await execution.run()
                    self._histories.keep(owned, execution.state)
                except Fenced:
                    raise
                except Exception as error:  # noqa: BLE001  # the run must end, whatever the fault
                    watch.failed(error)
                    await execution.finish(FAULT)
            except Fenced:
                self._observer.fenced()
                log.warning("another owner has the run; stopped writing")
                self._feeds.release(owned.run_id)
                return
            assert execution.finished is not None
            if stop.called_at is not None:
                self._observer.stopped(time.monotonic() - stop.called_at)
            times = RunTimes(total=time.monotonic() - began, effects=stop.effects)
            watch.finished(execution.finished, execution.finished.model, times)
        self._feeds.end(owned.run_id, execution.finished)


class _Execution:
    """One run being executed: its state, and what is done but not yet written."""

    def __init__(
        self,
        *,
        job: Job,
        stop: Stop,
        journal: Journal,
        feed: Feed,
        provider: Provider,
        toolbox: Toolbox,
        observer: RunObserver,
        began: float,
        history: tuple[Message, ...],
    ) -> None:
        self._job = job
        self._stop = stop
        self._journal = journal
        self._feed = feed
        self._provider = provider
        self._toolbox = toolbox
        self._observer = observer
        self._began = began
        self.state = RunState(agent=job.agent, system=job.system, history=history)
        self.state.apply(job.created)
        self._pending: list[Entry] = []
        self.finished: ev.RunFinished | None = None

    async def run(self) -> None:
        """Perform what `decide` says until the run's end is stored."""
        while True:
            decision = decide(self.state)
            if isinstance(decision, Finish):
                break
            try:
                if isinstance(decision, CallModel):
                    await self._call_model(decision)
                else:
                    await self._call_tools(decision)
            except (RunStopped, ProviderError) as error:
                decision = ending(error)
                break
        await self.finish(decision)

    async def finish(self, end: Finish) -> None:
        """Write the run's end, and with it whatever was not written yet."""
        duration = time.monotonic() - self._began
        finished = record.finished(end, self.state, duration=duration, queued=self._job.owned.queued)
        await self._journal.append(self._pending, finished)
        self._pending = []
        self.finished = finished

    def _add(self, event: ev.Event, private: bytes | None = None) -> None:
        """Take an event into the state; it is written with the next flush."""
        self.state.apply(event, private)
        self._pending.append(Entry(event, private))

    async def _flush(self) -> None:
        if self._pending:
            await self._journal.append(self._pending)
            self._pending = []

    async def _call_model(self, decision: CallModel) -> None:
        if decision.rejects is not None:
            self._add(ev.MessageReset(message_id=decision.rejects))
        request = context.build(self.state, decision.tools)
        await self._flush()
        message_id = new_id("msg")
        feed = self._feed
        feed.begin(message_id)
        recorder = Recorder()
        completed: Completed | None = None
        try:
            async with self._stop, aclosing(self._provider.stream(request, recorder)) as chunks:
                async for chunk in chunks:
                    if isinstance(chunk, TextDelta):
                        feed.text(chunk.text)
                    elif isinstance(chunk, Completed):
                        completed = chunk
                    else:
                        feed.reason(chunk.text)
            assert completed is not None, "a provider ended without Completed"
        finally:
            if completed is not None:  # also where a stop came just after: what was answered and paid counts
                self._answered(message_id, completed, may_call=decision.tools == "auto")
            for attempt in recorder.attempts:
                self._add(record.usage(attempt, request.route))

    def _answered(self, message_id: str, completed: Completed, *, may_call: bool) -> None:
        message = record.message(message_id, completed, may_call=may_call, taken=self.state.call_ids)
        private = msgspec.json.encode(message.native) if message.native is not None else None
        self.state.add(message)
        self._pending.append(Entry(ev.MessageCompleted(message=ev.visible(message)), private))

    async def _call_tools(self, decision: CallTools) -> None:
        agent = self._job.agent
        for call in (*decision.calls, *(call for call, _ in decision.denied)):
            started = ev.ToolStarted(call_id=call.id, name=call.name, arguments=record.arguments(call.arguments))
            self._pending.append(Entry(started))
        for call, reason in decision.denied:
            self._observer.denied(call.name)
            result = ToolResult(call_id=call.id, name=call.name, status="denied", result=record.raw_text(reason))
            self._add(record.tool_finished(result, 0.0))
        await self._flush()
        began = time.monotonic()
        running = {
            asyncio.create_task(self._toolbox.run(agent.tool(call.name), call, self._tool_context(call))): call
            for call in decision.calls
        }
        try:
            while running:
                async with self._stop:
                    done, _ = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
                for task in [task for task in running if task in done]:
                    del running[task]
                    self._add(record.tool_finished(task.result(), time.monotonic() - began))
                await self._flush()
        except BaseException:
            await self._abandon(running, began)
            raise

    async def _abandon(self, running: Mapping[asyncio.Task[ToolResult], ToolCall], began: float) -> None:
        """Stop the tools and write down how each ended; a `write` that was under way may have taken effect."""
        for task in running:
            task.cancel()
        if running:
            await asyncio.wait(running, timeout=TOOL_GRACE)
        for task, call in running.items():
            if task.done() and not task.cancelled() and task.exception() is None:
                self._add(record.tool_finished(task.result(), time.monotonic() - began))
            else:
                spec = self._job.agent.tool(call.name)
                self._add(record.unseen_end(call, spec.effect if spec else "read", STOPPED))

    def _tool_context(self, call: ToolCall) -> ToolContext:
        owned = self._job.owned
        return ToolContext(
            run_id=owned.run_id,
            session_id=owned.session_id,
            tenant=owned.tenant,
            user_id=owned.user_id,
            call_id=call.id,
            idempotency_key=f"{owned.run_id}:{call.id}",
            deadline=self._stop.deadline,
            emit=partial(self._progress, call.id),
        )

    async def _progress(self, call_id: str, name: str, data: Any) -> None:
        await self._journal.append([Entry(ev.ToolProgress(call_id=call_id, name=name, data=data))])
