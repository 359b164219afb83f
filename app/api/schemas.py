"""What comes out of the HTTP edge. The docs here are the API's documentation."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

import msgspec

from app.domain.agents import Variable
from app.domain.approvals import Approval as Approval
from app.domain.approvals import PendingApproval
from app.domain.audit import AuditEntry
from app.domain.breakers import BreakerStateName
from app.domain.errors import FieldError
from app.domain.messages import ToolCall, Usage
from app.domain.runs import Run as Run
from app.domain.runs import RunStatus, StopReason
from app.domain.sessions import Session as Session
from app.domain.sessions import SessionState as SessionState
from app.domain.tiers import Tier
from app.domain.usage import UsageReport as UsageReport
from app.runs.steps import Step


class Metadata(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=False):
    """How an answer came about. Times in milliseconds; `usage` and `cost_usd` null: not known. `tier`: of the route's models that
    were asked last, where it has tiers. `experiments`: the variants that it was exposed to, where it is in an experiment."""

    agent_version: str
    model: str | None
    iterations: int
    duration_ms: float
    queue_ms: float
    cached: bool
    degraded: bool
    stop_reason: StopReason
    usage: Usage | None
    cost_usd: float | None
    tier: Tier | msgspec.UnsetType = msgspec.UNSET
    experiments: dict[str, str] | msgspec.UnsetType = msgspec.UNSET
    steps: list[Step] | msgspec.UnsetType = msgspec.UNSET


class RunAgentResponse(msgspec.Struct, frozen=True, kw_only=True):
    """The agent's result: a string, or the object of its output schema."""

    result: Any
    run_id: str
    session_id: str
    duration_ms: float
    metadata: Metadata


class ChatResponse(msgspec.Struct, frozen=True, kw_only=True):
    """The agent's answer: a string, or the object of its output schema."""

    response: Any
    session_id: str
    run_id: str
    metadata: Metadata


class AnswerResponse(msgspec.Struct, frozen=True, kw_only=True):
    """The answer to a question; `duration` in seconds."""

    answer: Any
    iterations: int
    duration: float
    cached: bool
    session_id: str
    run_id: str


class Waiting(msgspec.Struct, frozen=True, kw_only=True):
    """The run has no answer yet: it waits for a person's word on those calls, or for a resume after its `stop_after`."""

    run_id: str
    session_id: str
    status: Literal["waiting"]
    approvals: tuple[PendingApproval, ...]
    metadata: Metadata


class Dropped(msgspec.Struct, frozen=True, kw_only=True):
    """How many cached answers were dropped: where replicas share them in Redis all of them, else those of the replica that was asked."""

    dropped: int


class Task(msgspec.Struct, frozen=True, kw_only=True):
    """A run that was accepted; `task_id` is its id."""

    task_id: str
    status: RunStatus
    session_id: str


class TaskOutcome(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One of several: a run that was accepted, or (`status` refused) the problem why there is none."""

    task_id: str | None = None
    status: RunStatus | Literal["refused"]
    session_id: str | None = None
    problem: Problem | None = None


class TaskList(msgspec.Struct, frozen=True):
    """What became of each item, in their order."""

    tasks: list[TaskOutcome]


class Steered(msgspec.Struct, frozen=True, kw_only=True):
    """The message is on its way to the run."""

    message_id: str
    run_id: str


class AgentView(msgspec.Struct, frozen=True, kw_only=True):
    """An agent. `status`: ready (its first model target is usable), degraded (only a later one is, or one is being tried again),
    unavailable."""

    name: str
    description: str
    kind: str
    status: Literal["ready", "degraded", "unavailable"]
    version: str
    tools: list[str]


class ModelTarget(msgspec.Struct, frozen=True, kw_only=True):
    """One model of one provider. `breaker`: closed (it may be asked), open (it failed, and is left alone for `retry_in_seconds`),
    half_open (one call at a time tries it). `refused_parameters`: what it was found to refuse, so that it is not sent any more."""

    provider: str
    model: str
    breaker: BreakerStateName
    retry_in_seconds: float | None
    refused_parameters: list[str] = []


class ModelTiers(msgspec.Struct, frozen=True, kw_only=True):
    """The routes of a route's tiers. A score below `cheap_below` means cheap, one from `premium_from` on premium; anything between
    is for the `classifier`, a route, to say, or it is `default`."""

    cheap: str
    mid: str
    premium: str
    default: Tier
    cheap_below: float
    premium_from: float
    classifier: str | None


class ModelRoute(msgspec.Struct, frozen=True, kw_only=True):
    """A route: its targets in the order they are asked, or (`tiers`) the routes that it chooses from."""

    route: str
    targets: list[ModelTarget]
    tiers: ModelTiers | msgspec.UnsetType = msgspec.UNSET


class ModelList(msgspec.Struct, frozen=True):
    """Every route, by name."""

    data: list[ModelRoute]


class PromptVersionView(msgspec.Struct, frozen=True, kw_only=True):
    """One version of a prompt. `variables` are what it takes from a request's `context`; one without a default must be there.
    `model` (a route) and `temperature` null: the agent's own."""

    version: str
    changelog: str
    variables: dict[str, Variable]
    model: str | None
    temperature: float | None


class PromptView(msgspec.Struct, frozen=True, kw_only=True):
    """A prompt. `latest` is the version that an agent gets that names none; `agents` are those that use it now, with the version."""

    name: str
    latest: str
    versions: list[PromptVersionView]
    agents: dict[str, str]


class PromptList(msgspec.Struct, frozen=True):
    """Every prompt, by name."""

    data: list[PromptView]


class MessageView(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A message of a session. `tool` messages answer the call `call_id`."""

    id: str
    role: str
    content: str
    run_id: str
    tool_calls: tuple[ToolCall, ...] = ()
    call_id: str | None = None
    name: str | None = None
    is_error: bool = False


class History(msgspec.Struct, frozen=True):
    """The messages of a session since its last reset, oldest first."""

    messages: list[MessageView]


class RunPage(msgspec.Struct, frozen=True):
    """Runs, newest first. `next_cursor` null: that was the last page."""

    data: list[Run]
    next_cursor: str | None


class ApprovalPage(msgspec.Struct, frozen=True):
    """Approvals, newest first."""

    data: list[Approval]
    next_cursor: str | None


class AuditPage(msgspec.Struct, frozen=True):
    """Entries of the audit log, newest first."""

    data: list[AuditEntry]
    next_cursor: str | None


class SessionPage(msgspec.Struct, frozen=True):
    """Sessions, latest used first."""

    data: list[Session]
    next_cursor: str | None


class MessagePage(msgspec.Struct, frozen=True):
    """Messages, oldest first."""

    data: list[MessageView]
    next_cursor: str | None


class StepList(msgspec.Struct, frozen=True):
    """The steps of a run in the order they ended."""

    data: list[Step]


class EventView(msgspec.Struct, frozen=True):
    """A stored event of a run's log."""

    id: str
    event: str
    at: datetime
    data: Any


class EventPage(msgspec.Struct, frozen=True):
    """Events of a run's log; go on with `?after=next`."""

    data: list[EventView]
    next: str


class Health(msgspec.Struct, frozen=True):
    """The process answers."""

    status: Literal["healthy"]
    version: str


class Alive(msgspec.Struct, frozen=True):
    """The process answers; nothing else was asked."""

    status: Literal["ok"]


CheckStatus = Literal["ok", "degraded", "failed"]


class Check(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One dependency. `latency_ms` null: nothing was asked."""

    status: CheckStatus
    latency_ms: float | None
    detail: str | None = None


class Readiness(msgspec.Struct, frozen=True, kw_only=True):
    """Whether requests should be sent here: 503 where `status` is `not_ready`."""

    status: Literal["ready", "degraded", "not_ready"]
    checks: dict[str, Check]
    timestamp: datetime


class Problem(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What went wrong (RFC 9457). `detail` says what to do about it; `code` is stable."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    request_id: str
    errors: tuple[FieldError, ...] = ()
    run_id: str | None = None


def run_status_error(status: RunStatus) -> bool:
    """Whether a run of that status has no answer to give."""
    return status in ("failed", "cancelled")
