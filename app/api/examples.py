"""Examples of everything that goes in and out, for the API's description."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from app.api.batch_shapes import Batch, BatchPage, BatchResult, BatchResultPage
from app.api.control_shapes import Control, ControlList
from app.api.schemas import (
    AgentView,
    Alive,
    AnswerResponse,
    Approval,
    ApprovalPage,
    AuditPage,
    ChatResponse,
    Check,
    Dropped,
    EventPage,
    EventView,
    Health,
    History,
    MessagePage,
    MessageView,
    Metadata,
    ModelList,
    ModelRoute,
    ModelTarget,
    PromptList,
    PromptVersionView,
    PromptView,
    Readiness,
    Run,
    RunAgentResponse,
    RunPage,
    Session,
    SessionPage,
    SessionState,
    Steered,
    StepList,
    Task,
    UsageReport,
    Waiting,
)
from app.domain.agents import Variable
from app.domain.approvals import Grounds, PendingApproval, Source, digest
from app.domain.audit import AuditEntry
from app.domain.batches import ItemCounts
from app.domain.callbacks import Callback, CallbackAttempt
from app.domain.messages import Usage
from app.domain.usage import UsageAverage, UsageGroup
from app.runs.steps import Step

_AT = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
_VERSION = "3f9a1c27d0be"
_USAGE = Usage(
    input_tokens=310, cached_input_tokens=0, cache_write_tokens=None, output_tokens=42, reasoning_tokens=None
)
_METADATA = Metadata(
    agent_version=_VERSION,
    model="offline",
    iterations=2,
    duration_ms=812.4,
    queue_ms=0.0,
    cached=False,
    degraded=False,
    stop_reason="completed",
    usage=_USAGE,
    cost_usd=None,
)
_DAY = UsageGroup(
    key="2026-11-21",
    requests=2,
    attempts=3,
    usage=_USAGE,
    cost_usd=0.00134,
    unpriced=0,
    estimated=1,
    abandoned=0,
    average=UsageAverage(input_tokens=155.0, output_tokens=21.0, cost_usd=0.00067),
)
_MODELS = ModelList(
    data=[
        ModelRoute(
            route="default",
            targets=[
                ModelTarget(provider="openai", model="gpt-x", breaker="open", retry_in_seconds=12.4),
                ModelTarget(provider="anthropic", model="claude-x", breaker="closed", retry_in_seconds=None),
            ],
        )
    ]
)
_PROMPTS = PromptList(
    data=[
        PromptView(
            name="assistant",
            latest="v2",
            versions=[
                PromptVersionView(version="v1", changelog="", variables={}, model=None, temperature=None),
                PromptVersionView(
                    version="v2",
                    changelog="Names the customer's shop.",
                    variables={"shop": Variable(description="Its name, as customers know it", default="our shop")},
                    model="default",
                    temperature=0.2,
                ),
            ],
            agents={"assistant": "v2"},
        )
    ]
)
_AGENT = AgentView(
    name="assistant",
    description="General assistant with tools",
    kind="react",
    status="ready",
    version=_VERSION,
    tools=["calculator", "clock"],
)
_MESSAGES = [
    MessageView(id="msg_1", role="user", content="What is 12 * 7?", run_id="run_1"),
    MessageView(id="msg_2", role="assistant", content="12 * 7 = 84.", run_id="run_1"),
]
_RUN = Run(
    id="run_1",
    session_id="support-4711",
    agent="assistant",
    agent_version=_VERSION,
    user_id=None,
    tags={"team": "support"},
    status="succeeded",
    stop_reason="completed",
    output="12 * 7 = 84.",
    error=None,
    degraded=False,
    cached=False,
    iterations=2,
    usage=_USAGE,
    cost_usd=None,
    resumed_from=None,
    outcome_unknown=False,
    created_at=_AT,
    started_at=_AT,
    finished_at=_AT,
)
_SESSION = Session(id="support-4711", user_id=None, created_at=_AT, updated_at=_AT)
_STEP = Step(
    index=0,
    kind="tool",
    name="calculator",
    status="ok",
    started_at=_AT,
    duration_ms=1.2,
    input={"expression": "12 * 7"},
    output="84",
)
_DIGEST = digest("cancel_order", '{"order_id": "4711"}')
_GROUNDS = Grounds(
    reason="The risk of this call is high; the agent assistant runs calls up to low without a person.",
    auto_approve="low",
    message_id="msg_1",
    results=(Source(call_id="call_0", tool="find_order"),),
)
_APPROVAL = Approval(
    id="apr_1",
    run_id="run_1",
    session_id="support-4711",
    agent="assistant",
    user_id=None,
    call_id="call_1",
    tool="cancel_order",
    arguments={"order_id": "4711"},
    digest=_DIGEST,
    risk="high",
    grounds=_GROUNDS,
    status="pending",
    created_at=_AT,
    expires_at=_AT + timedelta(days=1),
    resolved_at=None,
    resolved_by=None,
    resolved_actor=None,
    comment=None,
    edited=None,
)
_ENTRY = AuditEntry(
    id=17,
    at=_AT,
    actor="key:key_1",
    user_id="ann",
    action="approval.approved",
    target="apr_1",
    detail={"run_id": "run_1", "tool": "cancel_order", "risk": "high", "digest": _DIGEST, "edited": False},
)
_WAITING = Waiting(
    run_id="run_1",
    session_id="support-4711",
    status="waiting",
    approvals=(
        PendingApproval(
            id="apr_1",
            call_id="call_1",
            name="cancel_order",
            arguments={"order_id": "4711"},
            risk="high",
            expires_at=_AT + timedelta(days=1),
            digest=_DIGEST,
            grounds=_GROUNDS,
        ),
    ),
    metadata=msgspec.structs.replace(_METADATA, iterations=1, stop_reason="approval_required"),
)
_CALLBACK = Callback(
    url="https://example.com/hooks/runs",
    status="delivered",
    next_at=None,
    data=(CallbackAttempt(number=1, at=_AT, duration_ms=31.0, status=204, error=None),),
)
_BATCH = Batch(
    id="batch_1",
    agent="tagger",
    agent_version=_VERSION,
    user_id=None,
    provider="anthropic",
    model="claude-x",
    status="ended",
    tags={"team": "support"},
    counts=ItemCounts(pending=0, succeeded=1, errored=0, expired=0, cancelled=0),
    usage=_USAGE,
    cost_usd=0.00026,
    error=None,
    created_at=_AT,
    expires_at=_AT + timedelta(days=2),
    cancelled_at=None,
    finished_at=_AT + timedelta(hours=1),
)
_NEW_BATCH = msgspec.structs.replace(
    _BATCH,
    status="queued",
    counts=ItemCounts(pending=1, succeeded=0, errored=0, expired=0, cancelled=0),
    usage=None,
    cost_usd=0.0,
    finished_at=None,
)
_RESULT = BatchResult(
    custom_id="ticket-4711",
    status="succeeded",
    output="shipping",
    stop="stop",
    error=None,
    usage=_USAGE,
    cost_usd=0.00026,
)
_CONTROL = Control(kind="agent", name="assistant", reach="tenant", reason="wrong answers", by="key:1", at=_AT)
_STATE = SessionState(state={"cart": ["4711"]}, version=3)
_TASK = Task(task_id="run_1", status="running", session_id="support-4711")
_CHAT = {"message": "What is 12 * 7?", "session_id": "support-4711"}
_INPUT = {"input": "What is 12 * 7?", "tags": {"team": "support"}, "timeout": 30}

REQUESTS: dict[str, Any] = {
    "chat": _CHAT,
    "stream_chat": _CHAT,
    "run_agent": _INPUT,
    "stream_agent": _INPUT,
    "question": {"question": "What is 12 * 7?"},
    "reset": {"session_id": "support-4711"},
    "chat_async": _CHAT | {"callback_url": "https://example.com/hooks/runs"},
    "create_run": {"agent": "assistant"} | _INPUT | {"background": True, "priority": 5},
    "resume_run": {"background": True},
    "cancel_run": {"reason": "The customer has left."},
    "steer_run": {"content": "Only orders of this year."},
    "create_batch": {
        "agent": "tagger",
        "items": [{"custom_id": "ticket-4711", "input": "My parcel is late."}],
        "tags": {"team": "support"},
    },
    "decide": {"decision": "approve", "comment": "Checked with the customer."},
    "put_state": {"state": {"cart": ["4711"]}, "version": 2},
    "fork_session": {"after_run": "run_1"},
    "disable_control": {"reason": "wrong answers"},
}
"""An example body of every operation that takes one."""

ANSWERS: dict[str, Any] = {
    "list_agents": [_AGENT],
    "get_agent": _AGENT,
    "list_models": _MODELS,
    "list_prompts": _PROMPTS,
    "run_agent": RunAgentResponse(
        result="12 * 7 = 84.", run_id="run_1", session_id="ses_1", duration_ms=812.4, metadata=_METADATA
    ),
    "chat": ChatResponse(response="12 * 7 = 84.", session_id="support-4711", run_id="run_1", metadata=_METADATA),
    "question": AnswerResponse(
        answer="12 * 7 = 84.", iterations=2, duration=0.8124, cached=False, session_id="ses_1", run_id="run_1"
    ),
    "chat_async": _TASK,
    "create_run": _RUN,
    "resume_run": _RUN,
    "cancel_run": _RUN,
    "steer_run": Steered(message_id="msg_3", run_id="run_1"),
    "get_callbacks": _CALLBACK,
    "replay_callback": _CALLBACK,
    "create_batch": _NEW_BATCH,
    "list_batches": BatchPage(data=[_BATCH], next_cursor=None),
    "get_batch": _BATCH,
    "get_batch_results": BatchResultPage(data=[_RESULT], next_cursor=None),
    "cancel_batch": msgspec.structs.replace(_NEW_BATCH, status="cancelling", cancelled_at=_AT),
    "drop_answers": Dropped(dropped=17),
    "list_controls": ControlList(data=[_CONTROL]),
    "disable_control": _CONTROL,
    "list_approvals": ApprovalPage(data=[_APPROVAL], next_cursor=None),
    "get_approval": _APPROVAL,
    "list_audit": AuditPage(data=[_ENTRY], next_cursor=None),
    "decide": msgspec.structs.replace(
        _APPROVAL, status="approved", resolved_at=_AT, comment="Checked with the customer."
    ),
    "get_state": _STATE,
    "put_state": _STATE,
    "fork_session": msgspec.structs.replace(_SESSION, id="ses_2"),
    "history": History(messages=_MESSAGES),
    "list_runs": RunPage(data=[_RUN], next_cursor=None),
    "get_run": _RUN,
    "get_steps": StepList(data=[_STEP]),
    "get_events": EventPage(
        data=[EventView(id="2", event="run.started", at=_AT, data={"attempt": 1})],
        next="2",
    ),
    "get_usage": UsageReport(data=[_DAY], total=msgspec.structs.replace(_DAY, key=None)),
    "list_sessions": SessionPage(data=[_SESSION], next_cursor=None),
    "get_session": _SESSION,
    "list_messages": MessagePage(data=_MESSAGES, next_cursor=None),
    "health": Health(status="healthy", version="0.1.0"),
    "healthz": Alive(status="ok"),
    "readiness": Readiness(status="ready", checks={"database": Check(status="ok", latency_ms=0.8)}, timestamp=_AT),
    "metrics_page": 'http_requests_total{method="POST",route="/chat",status="200"} 1.0\n',
}
"""An example of what every operation answers when all went well, but for those that only stream or say nothing."""

MORE: dict[str, dict[int, Any]] = {
    "chat": {202: _WAITING},
    "run_agent": {202: _WAITING},
    "question": {202: _WAITING},
    "create_run": {202: msgspec.structs.replace(_RUN, status="queued", stop_reason=None, output=None, iterations=0)},
    "resume_run": {202: msgspec.structs.replace(_RUN, status="queued", stop_reason=None, output=None)},
    "cancel_run": {200: _RUN},
    "cancel_batch": {200: _BATCH},
}
"""Examples of an operation's other good answers, by status."""
