"""What the life of a run needs from storage; sessions and approvals have stores of their own. Every method may raise `DatabaseUnavailable`.

Reads and creations are within one `Principal`: what belongs to another tenant or, for a principal with a user, to another
user is not there.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Literal, Protocol
from uuid import UUID

import msgspec

from app.domain.agents import Agent
from app.domain.errors import StopCause
from app.domain.events import RunFinished, RunWaiting, StoredEvent
from app.domain.idempotency import IdempotencyKey
from app.domain.messages import JsonObject
from app.domain.observers import EndedRun
from app.domain.principals import Principal
from app.domain.runs import Cancellation, OnBusy, Run, RunStatus
from app.domain.usage import Crossing, Settlement


class NewRun(msgspec.Struct, frozen=True, kw_only=True):
    """A run to be accepted. `created` is the payload of its first event; `timeout`: seconds until its caller stops waiting.

    `delay`: seconds before it takes its place in its session's line; `priority`: higher goes first. `resumed_from` names a
    failed run of the same session whose finished steps are copied into the new journal. `needs_usd`: what
    its first call costs at least, None: it needs no budget.
    `experiments` are the variants by experiment; `shadow_of` names the run that it repeats.
    """

    id: str
    session_id: str
    user_id: str | None
    agent: str
    agent_version: str
    tags: JsonObject
    created: bytes
    timeout: float | None = None
    traceparent: str | None = None
    on_busy: OnBusy = "enqueue"
    stop_after: str | None = None
    delay: float | None = None
    priority: int = 0
    callback_url: str | None = None
    resumed_from: str | None = None
    needs_usd: Decimal | None = None
    experiments: dict[str, str] = {}
    shadow_of: str | None = None
    key: IdempotencyKey | None = None


class Accepted(msgspec.Struct, frozen=True, kw_only=True):
    """A run that was stored, as `running` (leased to us under `epoch`) or `queued`."""

    status: RunStatus
    turn: int
    session_epoch: int
    epoch: int
    last_seq: int
    user_id: str | None


class Replayed(msgspec.Struct, frozen=True):
    """The key was used before: by the same request, which made that run, or (`same` False) by another one."""

    run_id: str | None
    same: bool


Refusal = Literal["not_found", "session_busy", "resumed", "tenant_budget", "user_budget"]
"""Why no run was made: the session is another user's, or busy and the caller said `reject`, the failed run was resumed before, or the
month's budget has nothing left."""


class Owned(msgspec.Struct, frozen=True, kw_only=True):
    """A run that this process owns under `epoch`.

    `remaining`: seconds until its caller stops waiting; `queued`: seconds it waited; `failures`: how many owners died;
    `inbox`: rows that its inbox ever had.
    """

    run_id: str
    tenant: str
    user_id: str | None
    session_id: str
    session_epoch: int
    turn: int
    agent: str
    agent_version: str
    epoch: int
    attempt: int
    last_seq: int
    traceparent: str | None
    remaining: float | None
    queued: float
    failures: int = 0
    inbox: int = 0
    stop_after: str | None = None
    resumed_from: str | None = None


class NewEvent(msgspec.Struct, frozen=True, kw_only=True):
    """An event on its way into the journal. `id` lets a writer that lost its connection see whether the write arrived.

    `settles`: the attempt that the event is about, which is settled by the same write.
    """

    seq: int
    id: UUID
    name: str
    payload: bytes
    private: bytes | None = None
    settles: Settlement | None = None


class Appended(msgspec.Struct, frozen=True):
    """What a write found: how many rows the run's inbox ever had, and the levels that budgets have come to by it."""

    inbox: int
    crossed: tuple[Crossing, ...] = ()


class Post(msgspec.Struct, frozen=True, kw_only=True):
    """A row of a run's inbox: a user's message that steers it (`id`, `content`), or a wish to stop it, `age` seconds old."""

    n: int
    id: str
    kind: Literal["stop", "message"]
    content: str = ""
    cause: StopCause = "cancelled"
    cancellation: Cancellation = Cancellation()
    age: float = 0.0


class Held(msgspec.Struct, frozen=True, kw_only=True):
    """What a heartbeat found: a run that is still ours, and how many rows its inbox ever had."""

    run_id: str
    inbox: int


class RunFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Which runs to list, newest first; `before` is (created_at, id) of the last one already seen.

    `shadow_of`: the shadows of that run; None: those that are no shadows.
    """

    agent: str | None = None
    status: RunStatus | None = None
    session_id: str | None = None
    user_id: str | None = None
    shadow_of: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    before: tuple[datetime, str] | None = None
    limit: int = 50


class Head(msgspec.Struct, frozen=True, kw_only=True):
    """Where a run stands: enough to read its journal. `inbox`: rows that its inbox ever had."""

    status: RunStatus
    last_seq: int
    inbox: int = 0


class RunStore(Protocol):
    """Runs, their queue and their journal. Every write is one transaction."""

    async def save_agent(self, tenant: str, agent: Agent) -> None:
        """Keep a definition under its version, once."""
        ...

    async def agent(self, tenant: str, name: str, version: str) -> Agent | None:
        """A definition that was kept."""
        ...

    async def start(self, principal: Principal, run: NewRun, *, slot: bool) -> Accepted | Replayed | Refusal:
        """Store run, session turn, first event and key. Born `running`, leased to us, if `slot` and nothing of its session is live."""
        ...

    async def claim(self, at_once: Mapping[str, int]) -> tuple[Owned, bytes] | Literal["full"] | None:
        """Take over the queued run whose turn it is; with it the payload of its `run.created`. Its `run.started` is written.

        `at_once`: how many runs of an agent may be executed at a time, by all processes together; never one too many, where all claim
        with the same numbers. `full`: all that wait belong to tenants or agents that have as many runs as they may.
        """
        ...

    async def recover(self, max_attempts: int, spared: Sequence[str]) -> tuple[Owned, bytes] | None:
        """Take over a run whose lease has run out, none of the `spared` ones, as `claim` does.

        One with as many `failures` gets no `run.started` any more.
        """
        ...

    async def shadows_welcome(self, most: int) -> bool:
        """Whether nobody waits for an owner, and fewer than `most` shadows are not over yet. An estimate: nothing is locked."""
        ...

    async def due(self) -> int:
        """Give delayed runs whose time has come their turn. How many."""
        ...

    async def revive(self, limited: Collection[str]) -> int:
        """Put sessions back into the queue that fell out of it; those that wait for one of the `limited` agents have not. How many: none, if all is well."""
        ...

    async def owners(self) -> list[str]:
        """The names of the processes that hold leases."""
        ...

    async def orphan(self, owners: Sequence[str]) -> int:
        """End the leases of processes that are dead. How many there were."""
        ...

    async def extend(self, epochs: Sequence[tuple[str, int]]) -> list[Held]:
        """Extend the leases of those (run, epoch) that are still ours, and say which they are."""
        ...

    async def append(self, run_id: str, epoch: int, events: Sequence[NewEvent]) -> Appended:
        """Store consecutive events of a run that we own, settle what they settle, and extend its lease. Raises `Fenced`.

        Levels of budgets that are crossed by that count as told; `finish` and `park` settle, too, but tell nobody.
        """
        ...

    async def finish(
        self, run_id: str, epoch: int, events: Sequence[NewEvent], finished: RunFinished, inbox: int | None
    ) -> bool:
        """Store the last events and the terminal status in one transaction. Whether its session has later turns.

        Raises `Fenced`, and `UnreadInbox` where the inbox had more rows than `inbox` (None: whatever it had).
        """
        ...

    async def park(
        self,
        run_id: str,
        epoch: int,
        events: Sequence[NewEvent],
        waiting: RunWaiting,
        inbox: int,
    ) -> None:
        """Store the last events; the run waits, owned by nobody; its new approvals wait for people.

        Raises `Fenced` and `UnreadInbox`.
        """
        ...

    async def release(self, run_id: str, epoch: int) -> None:
        """Hand the run back to the queue. Raises `Fenced`."""
        ...

    async def end_unowned(
        self, run_id: str, events: Sequence[NewEvent], finished: RunFinished, statuses: Sequence[RunStatus]
    ) -> EndedRun | None:
        """End a run that nobody owns, if it has one of those statuses; its open approvals are cancelled.

        None: it has another status by now, or its journal has grown since those events were numbered.
        """
        ...

    async def used(self, principal: Principal, key: IdempotencyKey) -> Replayed | None:
        """What that key was used for, if it was."""
        ...

    async def requeue(
        self, principal: Principal, run_id: str, stop_after: str | None, key: IdempotencyKey | None
    ) -> bool:
        """Queue a run that waits after its `stop_after`, with another one, and keep the key. Whether it waited for that."""
        ...

    async def stored_ids(self, run_id: str, seqs: Sequence[int]) -> list[UUID]:
        """The ids of stored events: lets a writer find out what arrived before its connection broke."""
        ...

    async def post_message(self, run_id: str, message_id: str, content: str) -> bool:
        """Put a user's message into a live run's inbox, once per id. False: the run is not live."""
        ...

    async def post_stop(self, run_id: str, cause: StopCause, cancellation: Cancellation) -> RunStatus | None:
        """Put a wish to stop into a live run's inbox, once; the run's status then. None: it is not live."""
        ...

    async def inbox(self, run_id: str, after: int) -> list[Post]:
        """The rows of a run's inbox after that one, in order."""
        ...

    async def events(self, run_id: str, after: int, limit: int) -> list[StoredEvent]:
        """Events with a greater seq, in order."""
        ...

    async def head(self, principal: Principal, run_id: str) -> Head | None: ...

    async def heads(self, run_ids: Sequence[str]) -> dict[str, Head]:
        """Where those runs stand, whosesoever they are; one that is gone is missing."""
        ...

    async def run(self, principal: Principal, run_id: str) -> Run | None: ...

    async def runs(self, principal: Principal, wanted: RunFilter) -> list[Run]: ...

    async def queue(self) -> tuple[int, float, dict[str, int]]:
        """How many runs are queued and due, the age of the oldest in seconds, and for each tenant how many are stored as queued at all."""
        ...
