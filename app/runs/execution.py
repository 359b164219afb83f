"""One run, executed: write down, do, write down, decide again.

Effects run inside `async with stop`, writes outside of it: a deadline or a stop ends what the run is doing, never the
record of what it did.
"""

from __future__ import annotations

import logging
import time
from datetime import UTC, datetime, timedelta

import msgspec

from app.agent.compaction import Compact
from app.agent.decide import AskApproval, CallModel, CallTools, Decision, Finish, decide, hurry
from app.agent.endings import FAULT
from app.agent.grounds import grounds
from app.domain import events as ev
from app.domain.approvals import PendingApproval, digest
from app.domain.errors import BudgetExhausted, ProviderError, RunStopped, UnreadInbox
from app.domain.fold import RunState
from app.domain.models import Provider
from app.domain.observers import RunObserver
from app.domain.screening import Screen
from app.domain.sessions import SessionStore
from app.domain.stores import Post, RunStore
from app.domain.tools import Toolbox
from app.domain.usage import Quotes, UsageLedger
from app.runs import record
from app.runs.answers import Answers
from app.runs.attempts import Attempts
from app.runs.cached_turn import CachedTurn
from app.runs.histories import Histories
from app.runs.ids import new_id
from app.runs.job import Job as Job
from app.runs.journal import Journal
from app.runs.last_words import LastWords
from app.runs.ledger import Ledger
from app.runs.live import Feed
from app.runs.model_call import ModelCalls
from app.runs.patience import patiently
from app.runs.screened import Screened
from app.runs.session_state import RunSessionState
from app.runs.shadows import rehearsed
from app.runs.stop import HANDED_ON, Stop
from app.runs.tiers import Tiering
from app.runs.tool_calls import ToolCalls

log = logging.getLogger(__name__)

PAGE = 200
BORN = 2
"""Events that a run has when its first execution begins: anything more is of an earlier one."""


class Means(msgspec.Struct, frozen=True, kw_only=True):
    """What the executions of a process work with. `approval_ttl`: seconds that a person has to decide."""

    store: RunStore
    sessions: SessionStore
    provider: Provider
    tiering: Tiering
    toolbox: Toolbox
    usage: UsageLedger
    quotes: Quotes
    answers: Answers
    observer: RunObserver
    screen: Screen
    approval_ttl: float


class Execution:
    """One run being executed by one owner.

    A shadow of another run has no part in the cache, and its tools only read.
    """

    def __init__(self, *, means: Means, job: Job, stop: Stop, feed: Feed, began: float) -> None:
        owned, toolbox = job.owned, means.toolbox
        if job.shadow:
            agent, toolbox = rehearsed(job.agent, toolbox, lambda: self.state.taint)
            job = msgspec.structs.replace(job, agent=agent)
        self._job = job
        self._stop = stop
        self._store = means.store
        self._usage = means.usage
        self._approval_ttl = means.approval_ttl
        self._began = began
        self._read = 0
        self._steering: list[Post] = []
        self._reached = False
        self.restored = False
        self.more = False
        self.state = RunState(agent=job.agent, system=job.system, history=())
        self._journal = Journal(
            store=means.store,
            feed=feed,
            run_id=owned.run_id,
            epoch=owned.epoch,
            last_seq=owned.last_seq,
            inbox=owned.inbox,
        )
        self._ledger = Ledger(state=self.state, journal=self._journal)
        self._screened = Screened(screen=means.screen, ledger=self._ledger, observer=means.observer)
        self._models = ModelCalls(
            run_id=owned.run_id,
            session_id=owned.session_id,
            ledger=self._ledger,
            feed=feed,
            provider=means.provider,
            attempts=Attempts(ledger=means.usage, quotes=means.quotes, run_id=owned.run_id, epoch=owned.epoch),
            tiering=means.tiering,
            screened=self._screened,
            stop=stop,
        )
        self._last_words = LastWords(ledger=self._ledger, models=self._models, stop=stop)
        session_state = RunSessionState(store=means.sessions, journal=self._journal, owned=owned)
        self._tools = ToolCalls(
            owned=owned,
            ledger=self._ledger,
            toolbox=toolbox,
            observer=means.observer,
            stop=stop,
            session_state=session_state,
        )
        self.cached: CachedTurn | None = None
        if job.agent.cache is not msgspec.UNSET and not job.shadow:
            self.cached = CachedTurn(
                answers=means.answers,
                owned=owned,
                created=job.created,
                state=self.state,
                session_state=session_state,
                models=self._models,
                stop=stop,
            )

    async def restore(self, histories: Histories) -> None:
        """The state is what the session had said before, and what earlier owners of the run had done."""
        owned = self._job.owned
        history = await histories.before(owned)
        self.state.history, self.state.compacted = history.messages, history.compacted
        self.state.placeholders.learn(history.placeholders)
        if self._job.agent.screening.pii != "off":
            self.state.hidden = dict(history.hidden)
        if owned.last_seq <= BORN:
            self.state.apply(self._job.created)
            self.restored = True
            return
        stored: list[ev.StoredEvent] = []
        while not stored or stored[-1].seq < owned.last_seq:
            after = stored[-1].seq if stored else 0
            stored += await patiently(lambda after=after: self._store.events(owned.run_id, after, PAGE))  # type: ignore[misc]
        self.state.restore(stored)
        lost = await patiently(lambda: self._usage.lost(owned.run_id, owned.epoch))
        for attempt in lost:
            self._ledger.used(*record.abandoned(attempt))
        await self._ledger.flush()
        self.restored = True
        if self.cached is not None:
            self.cached.begun = bool(lost) or any(event.name not in ("run.created", "run.started") for event in stored)
        left = self._job.agent.limits.timeout - self.state.executed
        self._stop.end = min(self._stop.end, self._began + left)

    async def run(self) -> ev.RunFinished | ev.RunWaiting | None:
        """Perform what `decide` says until the run ends, waits, or is handed on (None), and that is stored."""
        while True:
            try:
                await self._read_inbox()
                if self._stop.cause is not None and self._stop.cause not in HANDED_ON:
                    raise RunStopped(self._stop.cause)
                await self._screened.look()
                decision = self._last_words.end or (hurry if self._last_words.due else decide)(self.state)
                if isinstance(decision, Finish):
                    return await self._finish(await self._last_words.say(decision))
                if self._stop.leaving or self._stop.cause is not None:
                    await self._hand_on()
                    return None
                if isinstance(decision, AskApproval):
                    return await self._ask(decision)
                if self._reached:
                    return await self._park("stopped_after_step")
                await self._perform(decision)
            except UnreadInbox:
                continue
            except BudgetExhausted as error:
                log.info("budget_exhausted", extra={"scope": error.scope})
                await self._last_words.out_of_budget()
            except (RunStopped, ProviderError) as error:
                if isinstance(error, RunStopped) and (self._stop.cause or error.cause) in HANDED_ON:
                    await self._hand_on()
                    return None
                if self._last_words.begin(error):
                    continue
                try:
                    return await self._finish(await self._last_words.ending(error))
                except UnreadInbox:
                    continue

    async def fail(self) -> ev.RunFinished:
        """A fault of ours ended it: so the journal says, whatever came for the run."""
        while True:
            try:
                return await self._finish(FAULT)
            except UnreadInbox:
                self._read = self._journal.inbox

    async def _perform(self, decision: Decision) -> None:
        if isinstance(decision, CallModel | Compact) and self.cached is not None and await self.cached.answered():
            return
        if isinstance(decision, CallModel):
            await self._models.perform(decision)
            done = {"model"}
            if self._last_words.due:
                await self._last_words.answered()
        elif isinstance(decision, Compact):
            await self._models.compact(decision)
            done = set()
        else:
            assert isinstance(decision, CallTools)
            if self.cached is not None:
                self.cached.calls(decision.calls)
            await self._tools.perform(decision)
            done = {"tool", *(call.name for call in decision.calls)}
        self._reached = self._job.owned.stop_after in done

    async def _read_inbox(self) -> None:
        """What came for the run: a stop takes effect, what the user says joins the conversation once no call is open."""
        if self._journal.inbox > self._read:
            for post in await patiently(lambda: self._store.inbox(self._job.owned.run_id, self._read)):
                self._read = post.n
                if post.kind == "stop":
                    self._stop.call(post.cause, post.cancellation, age=post.age)
                elif post.id not in self.state.steered:
                    self._steering.append(post)
        if self._steering and not self.state.open_calls:
            for post in self._steering:
                said = ev.VisibleMessage(id=post.id, role="user", content=post.content)
                self._ledger.add(ev.MessageCompleted(message=said))
            self._steering = []
            await self._ledger.flush()

    async def _finish(self, end: Finish) -> ev.RunFinished:
        """Write the run's end, and with it whatever was not written yet; no call is left without an outcome."""
        self._last_words.close_calls()
        finished = record.finished(
            end,
            self.state,
            duration=self._executed(),
            queued=self._job.owned.queued,
            cancellation=self._stop.cancellation if end.status == "cancelled" else None,
            cached=self.cached is not None and self.cached.answers_with(end),
        )
        self.more = await self._ledger.finish(finished, read=self._read)
        return finished

    async def _hand_on(self) -> None:
        if self._stop.cause == "lease":
            log.warning("the lease was lost, or could not be extended in time")
        await self._ledger.flush()
        await self._journal.release()

    async def _ask(self, decision: AskApproval) -> ev.RunWaiting:
        """Ask people about the calls that they were not asked about yet, and wait."""
        expires = datetime.now(UTC) + timedelta(seconds=self._approval_ttl)
        for call, risk in decision.calls:
            approval = PendingApproval(
                id=new_id("apr"),
                call_id=call.id,
                name=call.name,
                arguments=record.arguments(call.arguments),
                risk=risk,
                expires_at=expires,
                digest=digest(call.name, call.arguments),
                grounds=grounds(self.state, call, risk),
            )
            self._ledger.add(ev.ApprovalRequested(approval=approval, digest=digest(call.name, call.arguments)))
        return await self._park("approval_required")

    async def _park(self, reason: record.WaitReason) -> ev.RunWaiting:
        if self.cached is not None:
            self.cached.withdraw()
        waiting = record.waiting(reason, self.state, duration=self._executed(), queued=self._job.owned.queued)
        await self._ledger.park(waiting, read=self._read)
        return waiting

    def _executed(self) -> float:
        """Seconds of execution, earlier owners' too."""
        return self.state.executed + time.monotonic() - self._began
