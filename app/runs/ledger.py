"""What one execution knows, and what of it is not yet written: intents are written before their effects, outcomes after."""

from __future__ import annotations

from app.domain import events as ev
from app.domain.fold import RunState
from app.runs.journal import Entry, Journal


class Ledger:
    """A run's state, and its journal with the events that go out with the next write."""

    def __init__(self, *, state: RunState, journal: Journal) -> None:
        self.state = state
        self.journal = journal
        self._pending: list[Entry] = []

    def add(self, event: ev.Event, private: bytes | None = None) -> None:
        """Take an event into the state; it is stored with the next write."""
        self.state.apply(event, private)
        self._pending.append(Entry(event, private))

    def write_in(self, event: ev.Event, private: bytes | None = None) -> None:
        """As `add`, for an event that the state has taken in already."""
        self._pending.append(Entry(event, private))

    async def flush(self) -> None:
        """Everything so far is stored."""
        if self._pending:
            await self.journal.append(self._pending)
            self._pending = []

    async def finish(self, finished: ev.RunFinished, *, read: int) -> bool:
        """Everything so far is stored, and the run's end. Whether a later turn may begin now. Raises `UnreadInbox`."""
        more = await self.journal.finish(self._pending, finished, read=read)
        self._pending = []
        return more

    async def park(self, waiting: ev.RunWaiting, *, read: int) -> None:
        """Everything so far is stored, and the run waits. Raises `UnreadInbox`."""
        await self.journal.park(self._pending, waiting, read=read)
        self._pending = []
