"""Approvals: a person's word on one call of one run, with exactly its arguments."""

from __future__ import annotations

import hashlib
from datetime import datetime
from typing import Any, Literal, Protocol

import msgspec

from app.domain.principals import Principal
from app.domain.tools import Risk

Decision = Literal["approved", "denied", "expired", "cancelled"]
ApprovalStatus = Literal["pending", "approved", "denied", "expired", "cancelled"]


class PendingApproval(msgspec.Struct, frozen=True, kw_only=True):
    """A call that waits for a person. `arguments` as in `tool.started`; `expires_at` UTC: from then on it counts as denied."""

    id: str
    call_id: str
    name: str
    arguments: Any
    risk: Risk
    expires_at: datetime


class Approval(msgspec.Struct, frozen=True, kw_only=True):
    """An approval as clients see it. `edited`: the arguments that the person gave instead of `arguments`."""

    id: str
    run_id: str
    session_id: str
    agent: str
    user_id: str | None
    call_id: str
    tool: str
    arguments: Any
    risk: Risk
    status: ApprovalStatus
    created_at: datetime
    expires_at: datetime
    resolved_at: datetime | None
    resolved_by: str | None
    comment: str | None
    edited: Any


def digest(name: str, arguments: str) -> str:
    """SHA-256 over a tool's name and the JSON text of its arguments, in hex."""
    return hashlib.sha256(f"{name}\n{arguments}".encode()).hexdigest()


class ApprovalStore(Protocol):
    """People's inbox. Every method may raise `DatabaseUnavailable`; see `stores` for principals."""

    async def approvals(
        self,
        principal: Principal,
        status: ApprovalStatus | None,
        run_id: str | None,
        before: tuple[datetime, str] | None,
        limit: int,
    ) -> list[Approval]:
        """A page of approvals, newest first."""
        ...

    async def approval(self, principal: Principal, approval_id: str) -> Approval | None: ...

    async def resolve(
        self,
        approval_id: str,
        status: ApprovalStatus,
        by: str | None,
        comment: str | None,
        edited: bytes | None,
        event: bytes,
    ) -> tuple[str, int, bool] | None:
        """Decide a pending approval of a waiting run, once: its event joins the journal, the run is queued when none is left open.

        (run id, the event's seq, whether the run was queued); None: it is not pending any more.
        """
        ...

    async def expired(self, limit: int) -> list[tuple[str, PendingApproval]]:
        """Pending approvals whose time is over, with their runs."""
        ...
