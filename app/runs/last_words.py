"""What a run says when its time is up, or when no model answers: one plain call in the time that was kept, then the agent's own reply."""

from __future__ import annotations

import msgspec

from app.agent.decide import Finish, hurry, out_of_budget
from app.agent.endings import ending, excused, late, late_failure, stopped
from app.domain import events as ev
from app.domain.errors import ProviderError, ProvidersUnavailable, RunStopped
from app.runs import record
from app.runs.ledger import Ledger
from app.runs.model_call import ModelCalls
from app.runs.stop import Stop
from app.runs.stops import UNENDED


class LastWords:
    """Those of one run. `due`: its time is up, and the reserve is being used. `end`: what ends it, once that is said."""

    def __init__(self, *, ledger: Ledger, models: ModelCalls, stop: Stop) -> None:
        self._ledger = ledger
        self._models = models
        self._stop = stop
        self.due = False
        self.end: Finish | None = None

    def begin(self, error: RunStopped | ProviderError) -> bool:
        """Whether the run goes on with its last words after that. What was under way has its outcome then."""
        if not isinstance(error, RunStopped) or error.cause != "timeout" or not self._stop.use_reserve():
            return False
        self.due = True
        self._settle()
        return True

    async def answered(self) -> None:
        """The plain call gave a message: it ends the run, whatever comes for it now. One that is no answer gives way to the agent's reply."""
        state = self._ledger.state
        end = late(hurry(state), state.agent)
        if excused(end, state.agent) is not None:
            self._ledger.add(ev.MessageReset(message_id=state.messages[-1].id))
        self.end = await self._excuse(end)

    async def ending(self, error: RunStopped | ProviderError) -> Finish:
        """The end of a run that this ended. A route that is to fail once its answer broke is not excused."""
        if isinstance(error, RunStopped):
            if error.cause == "timeout" and self.end is not None:
                return self.end
            if error.cause == "timeout" and self.due:
                return await self._excuse(late(hurry(self._ledger.state), self._ledger.state.agent))
            return await self._excuse(stopped(error.cause, self._stop.cancellation))
        if self.due:
            return await self._excuse(late_failure(error))
        end = ending(error)
        return await self._excuse(end) if isinstance(error, ProvidersUnavailable) else end

    async def say(self, end: Finish) -> Finish:
        """That end, once what it says in the place of an answer is said."""
        if end.says is not None:
            self._settle()
            await self._models.say(end.says)
            self.end = end = msgspec.structs.replace(end, says=None)
        return end

    async def out_of_budget(self) -> Finish:
        """The end of a run whose next call would have cost more than there is left, its own budget or that of a month."""
        self._settle()
        self.end = await self.say(out_of_budget(self._ledger.state, "cost_budget"))
        return self.end

    def close_calls(self) -> None:
        """No call is left without an outcome."""
        state = self._ledger.state
        for call in list(state.open_calls.values()):
            spec = state.agent.tool(call.name)
            began = call.id in state.started
            self._ledger.add(record.unseen_end(call, spec.effect if spec and began else "read", UNENDED))

    async def _excuse(self, end: Finish) -> Finish:
        """That end, or the agent's own reply in its place: said once, and what ends the run then."""
        agent = self._ledger.state.agent
        excuse = excused(end, agent)
        if excuse is None:
            return end
        assert isinstance(agent.fallback_reply, str)
        self._settle()
        await self._models.say(agent.fallback_reply)
        self.end = excuse
        return excuse

    def _settle(self) -> None:
        self._models.withdraw()
        self.close_calls()
