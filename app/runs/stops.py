"""Stopping runs from outside, wherever they are: the wish is stored first, so that no crash can undo it."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import uuid4

import msgspec

from app.agent.endings import stopped
from app.domain import events as ev
from app.domain.agents import Agent
from app.domain.errors import StopCause
from app.domain.fold import RunState
from app.domain.hints import Hints
from app.domain.observers import RunObserver
from app.domain.runs import Cancellation, RunStatus
from app.domain.stores import NewEvent, RunStore
from app.runs import record

NOBODY = Cancellation()
UNENDED = "This call did not end: the run was stopped before."
PAGE = 200


class Stops:
    """Stops runs of every process."""

    def __init__(self, *, store: RunStore, observer: RunObserver, broadcast: Hints) -> None:
        self._store = store
        self._observer = observer
        self._broadcast = broadcast

    async def stop(self, run_id: str, cause: StopCause, cancellation: Cancellation = NOBODY) -> bool:
        """The run has ended, or its owner ends it. False: it had ended before."""
        status = await self._store.post_stop(run_id, cause, cancellation)
        if status is None:
            return False
        if status == "running" or not await self.end_unowned(run_id, cause, cancellation):
            self._broadcast.posted(run_id)
        return True

    async def end_unowned(
        self,
        run_id: str,
        cause: StopCause,
        cancellation: Cancellation = NOBODY,
        statuses: Sequence[RunStatus] = ("queued", "waiting"),
    ) -> bool:
        """End the run if nobody owns it: no call is left without an outcome. False: it does not have one of those statuses (any more)."""
        while True:
            head = (await self._store.heads([run_id])).get(run_id)
            if head is None or head.status not in statuses:
                return False
            state = await self._state(run_id)
            finished = record.finished(stopped(cause, cancellation), state, cancellation=cancellation)
            ended = await self._store.end_unowned(run_id, _numbered(state, finished, head.last_seq), finished, statuses)
            if ended is not None:
                self._observer.unstarted(ended, finished)
                self._broadcast.wrote(run_id)
                self._broadcast.queued()
                return True

    async def _state(self, run_id: str) -> RunState:
        """How far the run got, as far as its end needs it."""
        state = RunState(agent=Agent(name="", description="", kind="chat", instructions=""), system="", history=())
        after = 0
        while page := await self._store.events(run_id, after, PAGE):
            for stored in page:
                state.apply(ev.decode(stored), stored.private)
            after = page[-1].seq
        return state


def _numbered(state: RunState, finished: ev.RunFinished, last_seq: int) -> list[NewEvent]:
    """The run's last events: an outcome for every open call, then its end."""
    open_calls: list[ev.Event] = [
        ev.ToolFinished(
            call_id=call.id, name=call.name, status="cancelled", result=record.raw_text(UNENDED), trust="trusted"
        )
        for call in state.open_calls.values()
    ]
    return [
        NewEvent(seq=seq, id=uuid4(), name=ev.NAMES[type(event)], payload=msgspec.json.encode(event))
        for seq, event in enumerate([*open_calls, finished], last_seq + 1)
    ]
