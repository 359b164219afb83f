"""A run and the one table of its transitions."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

import msgspec

from app.domain.messages import JsonObject, Usage

RunStatus = Literal["queued", "running", "waiting", "succeeded", "failed", "cancelled"]
StopReason = Literal[
    "completed",
    "max_iterations",
    "refused",
    "timeout",
    "providers_unavailable",
    "invalid_output",
    "error",
    "cancelled",
]

TRANSITIONS: dict[RunStatus, frozenset[RunStatus]] = {
    "queued": frozenset({"running", "failed", "cancelled"}),
    "running": frozenset({"queued", "waiting", "succeeded", "failed", "cancelled"}),
    "waiting": frozenset({"queued", "running", "failed", "cancelled"}),
    "succeeded": frozenset(),
    "failed": frozenset(),
    "cancelled": frozenset(),
}
"""Which status may follow which. A terminal run is never reopened."""

TERMINAL: frozenset[RunStatus] = frozenset(status for status, after in TRANSITIONS.items() if not after)


class RunFailure(msgspec.Struct, frozen=True):
    """Why a run failed or was cancelled: a stable `code`, and what to do about it."""

    code: str
    detail: str


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """A run as clients see it. Times are UTC; `output` is JSON (a string, or the structured answer)."""

    id: str
    session_id: str
    agent: str
    agent_version: str
    user_id: str | None
    tags: JsonObject
    status: RunStatus
    stop_reason: StopReason | None
    output: Any
    error: RunFailure | None
    degraded: bool
    cached: bool
    iterations: int
    usage: Usage | None
    cost_usd: float | None
    resumed_from: str | None
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
