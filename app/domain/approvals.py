"""Approvals: a person's word on one call of one run, with exactly its arguments."""

from __future__ import annotations

import hashlib
from datetime import datetime
from typing import Any, Literal

import msgspec

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
