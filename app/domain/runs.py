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
    "token_budget",
    "cost_budget",
    "loop_detected",
    "refused",
    "timeout",
    "providers_unavailable",
    "invalid_output",
    "error",
    "cancelled",
    "approval_required",
    "stopped_after_step",
]
"""Why a run ended, or waits (the last two)."""

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

OnBusy = Literal["enqueue", "reject", "interrupt"]
"""What becomes of a turn whose session has a live one: it waits, it is refused, or the live ones are cancelled for it."""


class RunFailure(msgspec.Struct, frozen=True):
    """Why a run failed or was cancelled: a stable `code`, and what to do about it."""

    code: str
    detail: str


class Cancellation(msgspec.Struct, frozen=True, kw_only=True):
    """Who stopped a run, and why. `by` is the user of the caller's key, None where it had none."""

    by: str | None = None
    reason: str | None = None


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """A run as clients see it. Times are UTC; `output` is JSON (a string, or the structured answer).

    `experiments`: the variants that it was exposed to, by experiment; `shadow_of`: the run that it repeats with another variant,
    for the record only.
    `outcome_unknown`: a tool that writes was under way when its process died or it was stopped, and nobody saw its end.
    """

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
    outcome_unknown: bool
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    experiments: dict[str, str] = {}
    shadow_of: str | None = None
