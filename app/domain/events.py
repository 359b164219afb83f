"""The events of a run's journal. Structs here only ever grow: a field is never renamed, retyped or removed.

`EVENTS` maps the public names to the Structs; a stored event is its name, its `seq` and the Struct as JSON. Deltas
(`DELTAS`) are published while a message grows and are not stored: the `message.completed` after them holds the whole text.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from app.domain.approvals import Decision, PendingApproval
from app.domain.changes import Change
from app.domain.messages import Message, ToolCall, Trust, Usage
from app.domain.models import Outcome, Purpose
from app.domain.numbers import number
from app.domain.runs import Cancellation, RunFailure, RunStatus, StopReason
from app.domain.tiers import Tier, TierDecision
from app.domain.tools import ToolStatus


class RunCreated(msgspec.Struct, frozen=True, kw_only=True):
    """The run was accepted. `input` and `context` are the caller's JSON; `preface` is what the model reads of the context.
    What there is none of is absent: `tags` of the caller; `experiments`: its variants, by experiment; `granted`: the scopes that its
    agent's tools ask for and its caller has. `shadow_of`: the run that it repeats. `actor` and `by`: who asked (key or token), and its user.
    """

    run_id: str
    session_id: str
    agent: str
    agent_version: str
    message_id: str
    input: Any
    context: dict[str, Any] | None = None
    preface: str | None = None
    user_id: str | None = None
    resumed_from: str | None = None
    tags: dict[str, str] | msgspec.UnsetType = msgspec.UNSET
    experiments: dict[str, str] | msgspec.UnsetType = msgspec.UNSET
    shadow_of: str | msgspec.UnsetType = msgspec.UNSET
    granted: tuple[str, ...] | msgspec.UnsetType = msgspec.UNSET
    actor: str | msgspec.UnsetType = msgspec.UNSET
    by: str | msgspec.UnsetType | None = msgspec.UNSET

    @property
    def exposure(self) -> dict[str, str]:
        """The variants by experiment."""
        return {} if self.experiments is msgspec.UNSET else self.experiments


class RunStarted(msgspec.Struct, frozen=True, kw_only=True):
    """An owner began to execute it; `attempt` counts from 1."""

    attempt: int


class VisibleMessage(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A message as clients see it: without the provider's own items. `trust`: only where it is not what its role says."""

    id: str
    role: str
    content: str
    tool_calls: tuple[ToolCall, ...] = ()
    stop: str | None = None
    trust: Trust | None = None


class MessageCompleted(msgspec.Struct, frozen=True, kw_only=True):
    """A message is whole: a model's, or (role `user`) one that steers the run on its way."""

    message: VisibleMessage


class MessageReset(msgspec.Struct, frozen=True, kw_only=True):
    """That message does not count: forget its text."""

    message_id: str


class ToolStarted(msgspec.Struct, frozen=True, kw_only=True):
    """The intent, written before the tool runs. `arguments`: the JSON object, or the model's text where it does not parse.

    `key` names run, step, call and arguments: a repetition after a crash runs under the same one.
    """

    call_id: str
    name: str
    arguments: Any
    key: str | None = None


class ToolProgress(msgspec.Struct, frozen=True, kw_only=True):
    """What the tool said of itself on the way."""

    call_id: str
    name: str
    data: Any


class ToolFinished(msgspec.Struct, frozen=True, kw_only=True):
    """The outcome of one call. `trust` absent: its words are somebody's outside; `signals`: what the detector saw in them, by name."""

    call_id: str
    name: str
    status: ToolStatus
    result: msgspec.Raw
    duration_ms: float = 0.0
    trust: Trust | msgspec.UnsetType = msgspec.UNSET
    signals: tuple[str, ...] | msgspec.UnsetType = msgspec.UNSET


class ApprovalRequested(msgspec.Struct, frozen=True, kw_only=True):
    """A call that a person must decide on. `digest` is that of its arguments: the approval is for them and no others."""

    approval: PendingApproval
    digest: str


class ApprovalResolved(msgspec.Struct, frozen=True, kw_only=True):
    """What became of it. `by` is the user who decided, `actor` their key or token, `system` where nobody did.

    `arguments`: what the person put in the place of the model's, as JSON text; `changes`: where the two differ. `digest` is that of
    what the word is about, with the person's arguments where there are some: for anything else the call does not run.
    """

    approval_id: str
    call_id: str
    decision: Decision
    by: str | None = None
    comment: str | None = None
    arguments: str | None = None
    actor: str | None = None
    digest: str | None = None
    changes: tuple[Change, ...] = ()


class StateChanged(msgspec.Struct, frozen=True, kw_only=True):
    """A tool changed the session's state."""

    version: int
    state: dict[str, Any]


class ContextCompacted(msgspec.Struct, frozen=True, kw_only=True):
    """From now on the model reads `summary` in the place of the session's first `messages` messages; `upto` is the id of the one after them.

    `summary` None: none could be written, and they are left out. `saved_tokens` is an estimate.
    """

    upto: str
    messages: int
    summary: str | None
    saved_tokens: int = 0


class ContextRedacted(msgspec.Struct, frozen=True, kw_only=True):
    """Models read placeholders for more of the conversation's values: how many of each kind. Which value each one is only we read."""

    entities: dict[str, int]


class RunWaiting(msgspec.Struct, frozen=True, kw_only=True):
    """The run waits for a person, or for a resume after its `stop_after`: nothing holds it. The stream stays open.

    The numbers are as in `RunFinished`, so far.
    """

    stop_reason: StopReason
    approvals: tuple[PendingApproval, ...] = ()
    usage: Usage | None = None
    cost_usd: float | None = None
    iterations: int = 0
    model: str | None = None
    duration_ms: float = 0.0
    queue_ms: float = 0.0
    outcome_unknown: bool = False
    tier: Tier | msgspec.UnsetType = msgspec.UNSET


class UsageRecorded(msgspec.Struct, frozen=True, kw_only=True):
    """One attempt at one model, whatever its end. `usage`, `cost_usd` None: unknown. `service_tier` as the provider names it.

    `cost_usd` is exact to 15 digits, more than any attempt needs. `basis` says what it rests on; older journals have none, or
    `partial` and `unknown` for what is `estimated` now.
    `trimmed_tokens`: what the request left out of the conversation, an estimate; absent where it left out nothing.
    `tier`: why it was this route, where the agent's own has tiers. `purpose`: what for, where it was not the run's own answer.
    `dropped_parameters`: what the model was not told because it refuses it, by the names of its API; absent where that is nothing.
    """

    attempt: int
    route: str
    provider: str
    model: str
    outcome: Outcome | Literal["abandoned"]
    usage: Usage | None
    cost_usd: float | None
    duration_ms: float
    time_to_first_token_ms: float | None
    finish: str | None = None
    basis: Literal["provider", "estimated", "abandoned", "partial", "unknown"] | None = None
    service_tier: str | None = None
    trimmed_tokens: int | msgspec.UnsetType = msgspec.UNSET
    purpose: Purpose | msgspec.UnsetType = msgspec.UNSET
    dropped_parameters: tuple[str, ...] | msgspec.UnsetType = msgspec.UNSET
    tier: TierDecision | msgspec.UnsetType = msgspec.UNSET


LoopKind = Literal["repeated", "cycle", "no_progress", "refused", "fan_out"]
"""The same step again and again; several in turn; other words with the same outcome, or failures only; calls that are never run; too
many calls."""


class LoopDetected(msgspec.Struct, frozen=True, kw_only=True):
    """The run goes round in circles with these tools: the model is asked for the last time, and has to answer from what is known."""

    kind: LoopKind
    tools: tuple[str, ...] = ()


class BudgetCrossed(msgspec.Struct, frozen=True, kw_only=True):
    """With this run the month's budget of its tenant or user came to a `level`: a part of it, 1 for all. Told once for each.

    The dollars are those of the user's own budget; None for the tenant's, which is not every reader's business.
    """

    scope: Literal["tenant", "user"]
    level: float
    spent_usd: float | None = None
    cap_usd: float | None = None


class RunFinished(msgspec.Struct, frozen=True, kw_only=True):
    """The one terminal event. `model` is the last that answered; `duration_ms` counts execution, `queue_ms` the wait before it.

    `tier` is the last that was asked, where the agent's route has tiers.
    """

    status: RunStatus
    stop_reason: StopReason
    output: Any
    usage: Usage | None
    cost_usd: float | None
    iterations: int
    error: RunFailure | None = None
    model: str | None = None
    duration_ms: float = 0.0
    queue_ms: float = 0.0
    cached: bool = False
    degraded: bool = False
    outcome_unknown: bool = False
    cancellation: Cancellation | None = None
    tier: Tier | msgspec.UnsetType = msgspec.UNSET


Event = (
    RunCreated
    | RunStarted
    | MessageCompleted
    | MessageReset
    | ToolStarted
    | ToolProgress
    | ToolFinished
    | ApprovalRequested
    | ApprovalResolved
    | StateChanged
    | ContextCompacted
    | LoopDetected
    | ContextRedacted
    | UsageRecorded
    | BudgetCrossed
    | RunWaiting
    | RunFinished
)

EVENTS: dict[str, type[Event]] = {
    "run.created": RunCreated,
    "run.started": RunStarted,
    "message.completed": MessageCompleted,
    "message.reset": MessageReset,
    "tool.started": ToolStarted,
    "tool.progress": ToolProgress,
    "tool.finished": ToolFinished,
    "approval.requested": ApprovalRequested,
    "approval.resolved": ApprovalResolved,
    "state.changed": StateChanged,
    "context.compacted": ContextCompacted,
    "loop.detected": LoopDetected,
    "context.redacted": ContextRedacted,
    "usage.recorded": UsageRecorded,
    "budget.crossed": BudgetCrossed,
    "run.waiting": RunWaiting,
    "run.finished": RunFinished,
}
NAMES: dict[type[Event], str] = {struct: name for name, struct in EVENTS.items()}


class MessageDelta(msgspec.Struct, frozen=True, kw_only=True):
    """More text of a message that is being written. `offset`: Unicode code points before `text`."""

    message_id: str
    offset: int
    text: str


class ReasoningText(msgspec.Struct, frozen=True, kw_only=True):
    """More of the model's readable reasoning; has no id and is not replayed."""

    message_id: str
    text: str


DELTAS: dict[str, type[MessageDelta] | type[ReasoningText]] = {
    "message.delta": MessageDelta,
    "reasoning.delta": ReasoningText,
}


class StoredEvent(msgspec.Struct, frozen=True, kw_only=True):
    """An event of the journal. `seq` counts from 1 without gaps; `payload` is the event's JSON, the same bytes everywhere.

    `private` is JSON that only we read (a message's `Native` items); `at` is Unix seconds.
    """

    seq: int
    name: str
    payload: bytes
    private: bytes | None = None
    at: float = 0.0


_DECODERS = {name: msgspec.json.Decoder(struct, float_hook=number) for name, struct in EVENTS.items()}


def decode(stored: StoredEvent) -> Event | None:
    """The Struct of a stored event; None for a name that only a later release knows."""
    decoder = _DECODERS.get(stored.name)
    return None if decoder is None else decoder.decode(stored.payload)


def visible(message: Message) -> VisibleMessage:
    """What clients see of a message."""
    return VisibleMessage(
        id=message.id,
        role=message.role,
        content=message.content,
        tool_calls=message.tool_calls,
        stop=message.stop,
        trust=message.trust,
    )
