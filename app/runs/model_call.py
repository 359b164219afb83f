"""One call of the model: its text goes live as it comes, its message and what it cost into the ledger.

Where the answer begins anew the message that grew is reset, and another one begins: only one is ever completed.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import aclosing

import msgspec

from app.agent import compaction, context
from app.agent.compaction import Compact
from app.agent.decide import CallModel
from app.domain import events as ev
from app.domain.errors import BudgetExhausted, ProviderError
from app.domain.messages import Message, Trust
from app.domain.models import (
    Attempt,
    Completed,
    ModelRequest,
    Opener,
    Provider,
    ReasoningDelta,
    Recorder,
    TextDelta,
)
from app.runs import record
from app.runs.ids import message_id
from app.runs.ledger import Ledger
from app.runs.live import Feed
from app.runs.screened import Answer, Screened
from app.runs.stop import HANDED_ON, Stop
from app.runs.tiers import Effects, Tiering

log = logging.getLogger(__name__)


class ModelCalls:
    """Performs `CallModel` and `Compact` for one run."""

    def __init__(
        self,
        *,
        run_id: str,
        session_id: str,
        ledger: Ledger,
        feed: Feed,
        provider: Provider,
        attempts: Opener,
        tiering: Tiering,
        screened: Screened,
        stop: Stop,
    ) -> None:
        self._run_id = run_id
        self._session_id = session_id
        self._ledger = ledger
        self._feed = feed
        self._provider = provider
        self._attempts = attempts
        self._tiering = tiering
        self._screened = screened
        self._stop = stop
        self._effects = Effects(stop, lambda: Recorder(attempts), self._used)
        self._open: str | None = None

    async def perform(self, decision: CallModel) -> None:
        """The ledger has the model's message and every attempt, also where a stop came in between. Raises
        `RunStopped`, `ProviderError` and `BudgetExhausted`.
        """
        ledger = self._ledger
        if decision.rejects is not None:
            ledger.add(ev.MessageReset(message_id=decision.rejects))
        if decision.loop is not None:
            ledger.add(decision.loop)
        request = context.build(ledger.state, decision.tools, affinity=self._session_id)
        await ledger.flush()  # also before a classifier reads a placeholder
        request = await self._tiering.settle(request, ledger.state, self._effects)
        new_id = await self._begin()
        recorder = Recorder(self._attempts)
        written = 0
        completed: Completed | None = None
        text, reasoning = self._screened.answer(), self._screened.answer()
        try:
            async with aclosing(self._provider.stream(request, recorder)) as chunks:
                while True:
                    async with self._stop:
                        async for chunk in chunks:
                            if isinstance(chunk, TextDelta):
                                self._say(chunk.text, text)
                            elif isinstance(chunk, ReasoningDelta):
                                self._reason(chunk.text, reasoning)
                            elif isinstance(chunk, Completed):
                                completed = self._completed(chunk, text, reasoning)
                            else:
                                break  # it begins anew
                        else:
                            assert completed is not None, "a provider ended without Completed"
                            break
                    self._reset()
                    self._used(recorder.attempts[written:], request)
                    written = len(recorder.attempts)
                    new_id = await self._begin()
                    text, reasoning = self._screened.answer(), self._screened.answer()
        finally:
            if completed is not None:  # also where a stop came just after: what was answered and paid counts
                self._answered(new_id, completed, may_call=decision.tools == "auto")
            elif self._stop.cause in HANDED_ON:
                self._reset()
            self._used(recorder.attempts[written:], request)

    def _say(self, text: str, through: Answer | None) -> None:
        shown = text if through is None else through.push(text)
        if shown:
            self._feed.text(shown)

    def _reason(self, text: str, through: Answer | None) -> None:
        shown = text if through is None else through.push(text)
        if shown:
            self._feed.reason(shown)

    def _completed(self, completed: Completed, text: Answer | None, reasoning: Answer | None) -> Completed:
        """The answer as it is stored. What was held back of it is shown now."""
        if reasoning is not None and (rest := reasoning.end()):
            self._feed.reason(rest)
        if text is not None:
            self._say(text.missing(completed.content), text)
            if rest := text.end():
                self._feed.text(rest)
        return self._screened.completed(completed, text)

    def _used(self, attempts: Sequence[Attempt], request: ModelRequest) -> None:
        for attempt in attempts:
            self._ledger.used(record.usage(attempt, request), record.settlement(attempt), near=attempt.near)

    async def compact(self, decision: Compact) -> None:
        """The ledger has the summary, or that there is none, and every attempt. Nothing of it is shown. Raises `RunStopped`."""
        ledger = self._ledger
        request = compaction.request(ledger.state, decision, affinity=self._session_id)
        await ledger.flush()
        recorder = Recorder(self._attempts)
        text: str | None = None
        try:
            async with aclosing(self._provider.stream(request, recorder)) as chunks, self._stop:
                async for chunk in chunks:
                    if isinstance(chunk, Completed):
                        text = chunk.content if chunk.stop in ("stop", "length") else ""
        except (ProviderError, BudgetExhausted) as error:
            text = ""
            log.warning("context_not_summed_up", extra={"route": request.route, "reason": str(error)})
        finally:
            self._used(recorder.attempts, request)
            if text is not None:  # also where a stop came just after
                ledger.add(compaction.compacted(decision, text, ledger.state.agent.budget))
        await ledger.flush()

    async def _begin(self) -> str:
        """Everything so far is stored, and a new message begins after it: its id."""
        await self._ledger.flush()
        new_id = message_id(self._run_id, self._ledger.journal.last_seq)
        self._feed.begin(new_id)
        self._open = new_id
        return new_id

    def _reset(self) -> None:
        assert self._open is not None
        self._ledger.add(ev.MessageReset(message_id=self._open))
        self._open = None

    def withdraw(self) -> None:
        """What was shown of a message that was never completed does not count: another one is to follow. Before anything is stored."""
        if self._open is not None and (self._feed.length or self._feed.reasoned):
            self._reset()

    async def say(self, text: str, *, trust: Trust | None = None) -> None:
        """The text in the model's place: shown, and in the ledger. It is no call: it counts as no iteration.

        `trust`: how far it may be followed, where that is not what the run has read itself.
        """
        new_id = await self._begin()
        self._feed.text(text)
        message = Message(id=new_id, role="assistant", content=text, stop="stop", trust=trust)
        self._ledger.state.messages.append(message)
        self._ledger.write_in(ev.MessageCompleted(message=ev.visible(message)))
        self._open = None

    def _answered(self, new_id: str, completed: Completed, *, may_call: bool) -> None:
        self._open = None
        state = self._ledger.state
        message = record.message(new_id, completed, may_call=may_call, taken=state.call_ids)
        private = msgspec.json.encode(message.native) if message.native is not None else None
        state.add(message)
        self._ledger.write_in(ev.MessageCompleted(message=ev.visible(message)), private)
