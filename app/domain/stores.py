"""What the life of a run needs from storage. Every method may raise `DatabaseUnavailable`.

Reads and creations are within one `Principal`: what belongs to another tenant or, for a principal with a user, to another
user is not there.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol
from uuid import UUID

import msgspec

from app.domain.agents import Agent
from app.domain.events import RunFinished, StoredEvent
from app.domain.messages import JsonObject
from app.domain.observers import EndedRun
from app.domain.principals import Principal
from app.domain.runs import Run, RunStatus


class NewRun(msgspec.Struct, frozen=True, kw_only=True):
    """A run to be accepted. `created` is the payload of its first event; `timeout`: seconds until its caller stops waiting."""

    id: str
    session_id: str
    user_id: str | None
    agent: str
    agent_version: str
    tags: JsonObject
    created: bytes
    timeout: float | None
    traceparent: str | None


class Accepted(msgspec.Struct, frozen=True, kw_only=True):
    """A run that was stored, as `running` (leased to us under `epoch`) or `queued`."""

    status: RunStatus
    turn: int
    session_epoch: int
    epoch: int
    last_seq: int
    user_id: str | None


class Owned(msgspec.Struct, frozen=True, kw_only=True):
    """A run that this process owns under `epoch`. `remaining`: seconds until its caller stops waiting; `queued`: seconds it waited."""

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


class NewEvent(msgspec.Struct, frozen=True, kw_only=True):
    """An event on its way into the journal. `id` lets a writer that lost its connection see whether the write arrived."""

    seq: int
    id: UUID
    name: str
    payload: bytes
    private: bytes | None = None


class Session(msgspec.Struct, frozen=True, kw_only=True):
    """A session as clients see it."""

    id: str
    user_id: str | None
    created_at: datetime
    updated_at: datetime


class RunFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Which runs to list, newest first; `before` is (created_at, id) of the last one already seen."""

    agent: str | None = None
    status: RunStatus | None = None
    session_id: str | None = None
    user_id: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    before: tuple[datetime, str] | None = None
    limit: int = 50


class Head(msgspec.Struct, frozen=True, kw_only=True):
    """Where a run stands: enough to read its journal."""

    status: RunStatus
    last_seq: int


class RunStore(Protocol):
    """Runs, sessions and their journal. Every write is one transaction."""

    async def save_agent(self, tenant: str, agent: Agent) -> None:
        """Keep a definition under its version, once."""
        ...

    async def agent(self, tenant: str, name: str, version: str) -> Agent | None:
        """A definition that was kept."""
        ...

    async def start(self, principal: Principal, run: NewRun, *, slot: bool) -> Accepted | None:
        """Store run, session turn and first event. Born `running` if `slot` and nothing of its session is live.

        None: the session is another user's.
        """
        ...

    async def claim(self) -> tuple[Owned, bytes] | None:
        """Take over the oldest queued run that is at the head of its session; with it the payload of its `run.created`."""
        ...

    async def take_over_running(self, spared: Sequence[str], age: float) -> list[Owned]:
        """Make every run that is `running` for `age` seconds ours under a new epoch, but not the spared ones."""
        ...

    async def append(self, run_id: str, epoch: int, events: Sequence[NewEvent]) -> None:
        """Store consecutive events of a run that we own. Raises `Fenced` when we do not."""
        ...

    async def finish(self, run_id: str, epoch: int, events: Sequence[NewEvent], finished: RunFinished) -> None:
        """Store the last events and the terminal status in one transaction. Raises `Fenced`."""
        ...

    async def finish_queued(self, run_id: str, payload: bytes, finished: RunFinished) -> tuple[int, EndedRun] | None:
        """End a run that nobody owns; its event gets the next seq, which is returned with what the run was.

        None: it is not queued any more.
        """
        ...

    async def stored_ids(self, run_id: str, seqs: Sequence[int]) -> list[UUID]:
        """The ids of stored events: lets a writer find out what arrived before its connection broke."""
        ...

    async def history(self, tenant: str, session_id: str, epoch: int, before_turn: int) -> list[list[StoredEvent]]:
        """The events that make the messages of the session's earlier runs, one list a run, in turn order."""
        ...

    async def events(self, run_id: str, after: int, limit: int) -> list[StoredEvent]:
        """Events with a greater seq, in order."""
        ...

    async def head(self, principal: Principal, run_id: str) -> Head | None: ...

    async def run(self, principal: Principal, run_id: str) -> Run | None: ...

    async def runs(self, principal: Principal, wanted: RunFilter) -> list[Run]: ...

    async def session(self, principal: Principal, session_id: str) -> tuple[Session, int] | None:
        """The session and its epoch."""
        ...

    async def sessions(
        self, principal: Principal, before: tuple[datetime, str] | None, limit: int
    ) -> list[Session]: ...

    async def reset(self, principal: Principal, session_id: str) -> list[str] | None:
        """Begin the session's next epoch. The ids of the live runs of the one before, or None: no such session."""
        ...

    async def queue(self) -> tuple[int, float]:
        """How many runs are queued, and the age of the oldest in seconds."""
        ...
