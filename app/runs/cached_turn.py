"""The cache's part in one run: its turn is answered by an earlier one, or its answer is for later ones, or neither."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import msgspec

from app.agent.decide import Finish
from app.domain import events as ev
from app.domain.cache import MOST_BYTES, Kept
from app.domain.fold import RunState
from app.domain.messages import ToolCall
from app.domain.stores import Owned
from app.runs.answers import Answers, Hit, Lead
from app.runs.model_call import ModelCalls
from app.runs.questions import question
from app.runs.session_state import RunSessionState
from app.runs.stop import Stop

log = logging.getLogger(__name__)


class CachedTurn:
    """That of one execution of a run whose agent has `cache`. `begun`: earlier owners of the run have done something already."""

    def __init__(
        self,
        *,
        answers: Answers,
        owned: Owned,
        created: ev.RunCreated,
        state: RunState,
        session_state: RunSessionState,
        models: ModelCalls,
        stop: Stop,
    ) -> None:
        self.begun = False
        self._answers = answers
        self._owned = owned
        self._created = created
        self._state = state
        self._session_state = session_state
        self._models = models
        self._stop = stop
        self._looked = False
        self._hit: Hit | None = None
        self._lead: Lead | None = None

    async def answered(self) -> bool:
        """Before a model is asked: whether an earlier answer is said in its place. Looks once. Raises `RunStopped`."""
        if self._looked:
            return False
        self._looked = True
        if (
            self.begun
            or self._owned.resumed_from is not None
            or self._owned.stop_after is not None
            or self._state.steered
            or self._state.placeholders.values  # an answer with somebody's data is nobody else's
        ):
            self._answers.bypass()
            return False
        tags = self._created.tags
        asked = question(self._owned, self._state, {} if tags is msgspec.UNSET else tags)
        async with self._stop:
            found = await self._answers.look(asked)
            if isinstance(found, Lead):
                self._lead = found
        if not isinstance(found, Hit):
            return False
        self._hit = found
        self._state.model = found.kept.model
        log.info("cache_hit", extra={"agent": self._owned.agent, "cache": found.level})
        await self._models.say(found.kept.content, trust="untrusted" if found.kept.tainted else None)
        return True

    def calls(self, calls: Sequence[ToolCall]) -> None:
        """Those are about to run. Where one may do more than read the answer is of this run alone, and nobody waits for it any more."""
        specs = [self._state.agent.tool(call.name) for call in calls]
        if any(spec is None or spec.effect != "read" for spec in specs):
            self.withdraw()

    def withdraw(self) -> None:
        """The answer will be of this run alone."""
        if self._lead is not None:
            self._answers.withdraw(self._lead)
            self._lead = None

    def answers_with(self, end: Finish) -> bool:
        """Whether that end is an earlier turn's answer, and no model was asked."""
        return self._hit is not None and self._state.iterations == 0 and end.status == "succeeded" and not end.degraded

    async def keep(self, finished: ev.RunFinished) -> None:
        """The run ended so, and that is stored: its answer is for others where it is anybody's."""
        if self._lead is None:
            return
        lead, self._lead = self._lead, None
        if finished.status != "succeeded" or finished.degraded:
            self._answers.resign(lead)  # somebody else may have more luck
            return
        kept = self._kept(finished, lead)
        if kept is None:
            self._answers.withdraw(lead)
        else:
            await self._answers.settle(lead, kept)

    def _kept(self, finished: ev.RunFinished, lead: Lead) -> Kept | None:
        """None: the answer is of this run alone. It was steered, a tool failed or looked at the session's state, it is not whole, or
        the detector saw something in what the model had read.
        """
        state = self._state
        last = state.messages[-1]
        whole = finished.stop_reason == "completed" and last.role == "assistant" and last.stop == "stop"
        if (
            not whole
            or state.steered
            or state.placeholders.values
            or self._session_state.used
            or len(last.content.encode()) > MOST_BYTES
        ):
            return None
        if any(message.is_error for message in state.messages):
            return None
        read = state.taint
        if read == "suspect":
            return None
        return Kept(last.content, state.model, lead.question.labels, tainted=read == "tainted")

    def leave(self) -> None:
        """The execution is over: a lead that it still has is another run's."""
        if self._lead is not None:
            self._answers.resign(self._lead)
            self._lead = None
