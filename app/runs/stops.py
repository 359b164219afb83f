"""Stopping runs from outside, wherever they are: the wish is stored first, so that no crash can undo it."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from app.agent.endings import stopped
from app.domain.errors import StopCause
from app.domain.hints import Hints
from app.domain.observers import RunObserver
from app.domain.runs import Cancellation, RunStatus
from app.domain.stores import RunStore
from app.runs import record

NOBODY = Cancellation()


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
        """End the run if nobody owns it. False: it does not have one of those statuses (any more)."""
        finished = record.finished(stopped(cause, cancellation), None, cancellation=cancellation)
        ended = await self._store.end_unowned(run_id, msgspec.json.encode(finished), finished, statuses)
        if ended is None:
            return False
        self._observer.unstarted(ended[1], finished)
        self._broadcast.wrote(run_id)
        self._broadcast.queued()
        return True
