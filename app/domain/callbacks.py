"""Callbacks: what is told, once a run has ended, to the URL that its caller named.

A delivery is sent at least once and always under the same id, so that a receiver can tell a repetition from news.
"""

from __future__ import annotations

from datetime import datetime
from typing import Literal, Protocol

import msgspec

from app.domain.principals import Principal
from app.domain.runs import Run

CallbackStatus = Literal["waiting", "due", "delivered", "failed"]
"""waiting: for the run's end; due: being sent, or to be sent at `next_at`; failed: given up, or the receiver wants no more."""


class CallbackAttempt(msgspec.Struct, frozen=True, kw_only=True):
    """One time that it was sent. `status` is the HTTP status of the answer, null where there was none; `error` says what failed."""

    number: int
    at: datetime
    duration_ms: float
    status: int | None
    error: str | None


class Callback(msgspec.Struct, frozen=True, kw_only=True):
    """A run's callback as clients see it, attempts oldest first. `next_at`: when it is sent at the latest; null where it is not."""

    url: str
    status: CallbackStatus
    next_at: datetime | None
    data: tuple[CallbackAttempt, ...]


class Delivery(msgspec.Struct, frozen=True, kw_only=True):
    """A callback that this process may send until `claim`, when it is anybody's again; `claim` also is the proof of that right.

    `attempt` counts from 1 since the run's end or the last replay, attempts of senders that died included.
    """

    run_id: str
    tenant: str
    url: str
    attempt: int
    claim: datetime


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """How an attempt ended. Milliseconds; `retry_after`: seconds that the receiver asked for."""

    duration_ms: float
    status: int | None = None
    error: str | None = None
    retry_after: float | None = None


class CallbackStore(Protocol):
    """Callbacks and the log of their attempts. Every method may raise `DatabaseUnavailable`."""

    async def claim(self, seconds: float, spared: list[str]) -> Delivery | None:
        """The delivery that is due longest, nobody else's for so many seconds; none to those hosts (`host` or `host:port`)."""
        ...

    async def record(
        self, delivery: Delivery, outcome: Outcome | None, status: CallbackStatus, pause: float | None
    ) -> bool:
        """Log the attempt (None: there was none), and what follows: that status, `due` again after so many seconds.

        False where the claim had run out or a replay came between: the attempt is logged, and what follows is another's.
        """
        ...

    async def give_back(self, delivery: Delivery) -> None:
        """As if it had not been claimed."""
        ...

    async def callback(self, principal: Principal, run_id: str) -> Callback | None: ...

    async def replay(self, principal: Principal, run_id: str) -> bool:
        """Make it due now, with all its attempts before it again. False: its run has not ended, or it has none."""
        ...

    async def secret(self, name: str, fresh: str) -> str:
        """The secret of that name, which all replicas share: `fresh` where there was none yet."""
        ...


class Runs(Protocol):
    """Where a callback's content comes from."""

    async def run(self, principal: Principal, run_id: str) -> Run | None: ...
