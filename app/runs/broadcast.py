"""Who is told what: this process at once, and all others by hints."""

from __future__ import annotations

from collections.abc import Sequence

from app.domain.hints import Hints
from app.runs.answers import Answers
from app.runs.follow import Follower
from app.runs.switches import Switches
from app.runs.worker import Worker


class Here:
    """What happened elsewhere, as this process takes it in."""

    def __init__(self, *, worker: Worker, follower: Follower, answers: Answers, switches: Switches) -> None:
        self._worker = worker
        self._follower = follower
        self._answers = answers
        self._switches = switches

    def queued(self) -> None:
        """A run is queued: the worker may claim it."""
        self._worker.queued()

    def wrote(self, run_id: str) -> None:
        """A journal grew: whoever follows it reads on."""
        self._follower.wrote(run_id)

    def posted(self, run_id: str) -> None:
        """An inbox has news, or the run is gone: the worker looks, if it is its owner."""
        self._worker.posted(run_id)

    def dropped(self, labels: Sequence[str]) -> None:
        """Answers with all those labels are not given any more: not from this process's memory either."""
        self._answers.dropped(labels)

    def switched(self) -> None:
        """Something was switched off or on: look."""
        self._switches.changed()


class Broadcast:
    """The `Hints` that reach every one of `receivers`, in that order."""

    def __init__(self, *, receivers: Sequence[Hints]) -> None:
        self._receivers = tuple(receivers)

    def queued(self) -> None:
        """A run is queued: who has a slot may claim it."""
        for receiver in self._receivers:
            receiver.queued()

    def wrote(self, run_id: str) -> None:
        """The run's journal grew, and no owner wrote that."""
        for receiver in self._receivers:
            receiver.wrote(run_id)

    def posted(self, run_id: str) -> None:
        """Its inbox has news for its owner, or the run is gone."""
        for receiver in self._receivers:
            receiver.posted(run_id)
