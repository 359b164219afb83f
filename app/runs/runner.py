"""Executes runs: each from where its journal ends, to where it ends, waits or is handed on."""

from __future__ import annotations

import logging
import time

from app.domain import events as ev
from app.domain.errors import Fenced
from app.domain.observers import RunTimes, RunWatch
from app.domain.sessions import Base
from app.runs.execution import Execution, Means
from app.runs.histories import Histories
from app.runs.job import Job as Job
from app.runs.job import info
from app.runs.live import Feeds
from app.runs.shadows import Shadows
from app.runs.stop import HANDED_ON, Stop

log = logging.getLogger(__name__)


class Runner:
    """Executes runs, any number at once."""

    def __init__(self, *, means: Means, feeds: Feeds, shadows: Shadows) -> None:
        self._means = means
        self._observer = means.observer
        self._feeds = feeds
        self._shadows = shadows
        self._histories = Histories(store=means.sessions)

    async def execute(self, job: Job, stop: Stop) -> bool:
        """Bring the run to its end, or to where it waits or is handed on. Returns when that is stored, or when it turned out not to be ours.

        Whether a run may be claimed now that could not before: this one, or the next of its session.
        """
        began = time.monotonic()
        feed = self._feeds.open(job.owned.run_id)
        execution = Execution(means=self._means, job=job, stop=stop, feed=feed, began=began)
        try:
            return await self._executed(execution, job, stop, began)
        finally:
            if execution.cached is not None:
                execution.cached.leave()

    async def _executed(self, execution: Execution, job: Job, stop: Stop, began: float) -> bool:
        owned = job.owned
        with self._observer.running(info(job)) as watch:
            try:
                try:
                    await execution.restore(self._histories)
                    state = execution.state
                    begins = Base(state.history, dict(state.placeholders.values))
                    self._shadows.consider(owned, job.created, begins)
                    end = await execution.run()
                except Fenced:
                    raise
                except Exception as error:  # noqa: BLE001  # the run must end, whatever the fault
                    watch.failed(error)
                    end = await execution.fail()
            except Fenced:
                self._observer.fenced()
                log.warning("another owner has the run; stopped writing")
                watch.left()
                self._feeds.release(owned.run_id)
                return False
            self._tell(watch, end, stop, RunTimes(total=time.monotonic() - began, effects=stop.effects))
        if isinstance(end, ev.RunFinished):
            if execution.restored and not job.shadow:
                self._histories.keep(owned, execution.state)
            self._feeds.end(owned.run_id, end)
            if execution.cached is not None:
                await execution.cached.keep(end)
            return execution.more
        self._feeds.release(owned.run_id)
        return end is None

    def _tell(self, watch: RunWatch, end: ev.RunFinished | ev.RunWaiting | None, stop: Stop, times: RunTimes) -> None:
        if end is None:
            watch.left()
        elif isinstance(end, ev.RunWaiting):
            watch.waiting(end, times)
        else:
            if stop.called_at is not None and stop.cause not in HANDED_ON:
                self._observer.stopped(time.monotonic() - stop.called_at)
            watch.finished(end, end.model, times)
