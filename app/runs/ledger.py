"""What one execution knows, and what of it is not yet written: intents are written before their effects, outcomes after."""

from __future__ import annotations

import logging

from app.domain import events as ev
from app.domain.fold import RunState
from app.domain.usage import Crossing, Settlement
from app.runs.journal import Entry, Journal

log = logging.getLogger(__name__)


class Ledger:
    """A run's state, and its journal with the events that go out with the next write."""

    def __init__(self, *, state: RunState, journal: Journal) -> None:
        self.state = state
        self.journal = journal
        self._pending: list[Entry] = []
        self._near = False

    def add(self, event: ev.Event, private: bytes | None = None) -> None:
        """Take an event into the state; it is stored with the next write."""
        self.state.apply(event, private)
        self._pending.append(Entry(event, private))

    def used(self, event: ev.UsageRecorded, settles: Settlement | None, *, near: bool = False) -> None:
        """As `add`, for an attempt: the write that stores the event settles its row. `near`: that may bring a budget to a level."""
        self.state.apply(event)
        self._pending.append(Entry(event, settles=settles))
        self._near |= near

    def write_in(self, event: ev.Event, private: bytes | None = None) -> None:
        """As `add`, for an event that the state has taken in already."""
        self._pending.append(Entry(event, private))

    async def flush(self) -> None:
        """Everything so far is stored. Levels that budgets have come to by that go out with the next write."""
        if self._pending:
            await self.journal.append(self._pending)
            self._pending = []
            self._near = False
            self._tell()

    async def finish(self, finished: ev.RunFinished, *, read: int) -> bool:
        """Everything so far is stored, and the run's end. Whether a later turn may begin now. Raises `UnreadInbox`."""
        await self._tell_first()
        more = await self.journal.finish(self._pending, finished, read=read)
        self._pending = []
        return more

    async def park(self, waiting: ev.RunWaiting, *, read: int) -> None:
        """Everything so far is stored, and the run waits. Raises `UnreadInbox`."""
        await self._tell_first()
        await self.journal.park(self._pending, waiting, read=read)
        self._pending = []

    async def _tell_first(self) -> None:
        """After an end nothing can be told: what may bring a budget to a level is settled before it."""
        if self._near:
            await self.flush()

    def _tell(self) -> None:
        for crossing in self.journal.crossed:
            told(crossing)
            own = crossing.scope == "user"
            self.add(
                ev.BudgetCrossed(
                    scope=crossing.scope,
                    level=float(crossing.level),
                    spent_usd=float(crossing.spent_usd) if own else None,
                    cap_usd=float(crossing.cap_usd) if own else None,
                )
            )
        self.journal.crossed = []


def told(crossing: Crossing) -> None:
    """The log has it: a notice, or from all of the budget on an error."""
    log.log(
        logging.ERROR if crossing.level >= 1 else logging.WARNING,
        "budget_crossed",
        extra={
            "tenant": crossing.tenant,
            "scope": crossing.scope,
            "user": crossing.key or None,
            "month": f"{crossing.month:%Y-%m}",
            "level": float(crossing.level),
            "spent_usd": float(crossing.spent_usd),
            "cap_usd": float(crossing.cap_usd),
        },
    )
