"""Approvals: a person's word on one call of one run, with exactly its arguments."""

from __future__ import annotations

import hashlib
from datetime import datetime
from typing import Any, Literal, Protocol

import msgspec

from app.domain.changes import Change
from app.domain.messages import Trust
from app.domain.principals import Principal
from app.domain.tools import Risk

Decision = Literal["approved", "denied", "expired", "cancelled"]
ApprovalStatus = Literal["pending", "approved", "denied", "expired", "cancelled"]


class Source(msgspec.Struct, frozen=True, kw_only=True):
    """A tool result that the model had read when it asked for the call: how far it is trusted, and what the detector saw in it."""

    call_id: str
    tool: str
    trust: Trust | msgspec.UnsetType = msgspec.UNSET
    signals: tuple[str, ...] | msgspec.UnsetType = msgspec.UNSET


class Grounds(msgspec.Struct, frozen=True, kw_only=True):
    """Why a person is asked, and where the wish comes from.

    `reason` is a sentence for that person; `auto_approve` the highest risk that the agent runs without one. `message_id` is the
    user's message that the run answers, `results` the tool results that it had read by then, of earlier turns too, oldest
    first; `more` before those are left out.
    """

    reason: str
    auto_approve: Risk
    message_id: str
    results: tuple[Source, ...] = ()
    more: int = 0


class PendingApproval(msgspec.Struct, frozen=True, kw_only=True):
    """A call that waits for a person. `arguments` as in `tool.started`; `digest` is theirs, and the tool's; `expires_at` UTC: from then on it
    counts as denied. An older release said neither a digest nor its grounds.
    """

    id: str
    call_id: str
    name: str
    arguments: Any
    risk: Risk
    expires_at: datetime
    digest: str | msgspec.UnsetType = msgspec.UNSET
    grounds: Grounds | msgspec.UnsetType = msgspec.UNSET


class Approval(msgspec.Struct, frozen=True, kw_only=True):
    """An approval as clients see it.

    `digest`: the SHA-256 that binds the word to the tool and its arguments; null where an older release asked, as `grounds` is.
    `edited`: the arguments that the person gave instead of `arguments`; `changes`: where the two differ. `resolved_by` is the user who
    decided, `resolved_actor` the key or token that was used.
    """

    id: str
    run_id: str
    session_id: str
    agent: str
    user_id: str | None
    call_id: str
    tool: str
    arguments: Any
    digest: str | None
    risk: Risk
    grounds: Grounds | None
    status: ApprovalStatus
    created_at: datetime
    expires_at: datetime
    resolved_at: datetime | None
    resolved_by: str | None
    resolved_actor: str | None
    comment: str | None
    edited: Any
    changes: tuple[Change, ...] = ()


class ApprovalFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Which approvals; None: whichever. `before`: older than the one with that (created_at, id)."""

    status: ApprovalStatus | None = None
    run_id: str | None = None
    agent: str | None = None
    tool: str | None = None
    risk: Risk | None = None
    before: tuple[datetime, str] | None = None
    limit: int = 50


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """What becomes of a pending approval. `by` is a user, `actor` as in `Principal`, `system` where nobody decided.

    `edited` are the arguments as JSON that the call gets instead of its own; `digest` binds to those that it gets; `event` is the
    `approval.resolved` of the run's journal.
    """

    approval_id: str
    status: Decision
    actor: str
    by: str | None = None
    comment: str | None = None
    edited: bytes | None = None
    digest: str | None = None
    event: bytes


class Resolved(msgspec.Struct, frozen=True, kw_only=True):
    """An approval was decided. `queued`: none of its run's is open any more. `age`: seconds since it was asked for."""

    run_id: str
    queued: bool
    risk: Risk
    age: float


SYSTEM = "system"
"""The actor of what nobody decided."""


def digest(name: str, arguments: str) -> str:
    """SHA-256 over a tool's name and the JSON text of its arguments, in hex."""
    return hashlib.sha256(f"{name}\n{arguments}".encode()).hexdigest()


class ApprovalStore(Protocol):
    """People's inbox. Every method may raise `DatabaseUnavailable`; see `stores` for principals."""

    async def approvals(self, principal: Principal, wanted: ApprovalFilter) -> list[Approval]:
        """A page of approvals, newest first."""
        ...

    async def approval(self, principal: Principal, approval_id: str) -> Approval | None: ...

    async def resolve(self, verdict: Verdict) -> Resolved | None:
        """Decide a pending approval of a waiting run, once: its event joins the journal, the audit log has the decision, the run is queued
        when none is left open. None: it is not pending any more, or (unless it is to expire) its time is over.
        """
        ...

    async def expired(self, limit: int) -> list[PendingApproval]:
        """Pending approvals whose time is over."""
        ...

    async def pending(self) -> tuple[int, float]:
        """How many approvals of all tenants wait for a person, and the age of the oldest in seconds."""
        ...
