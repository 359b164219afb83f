"""The API's description as it is published: what litestar reads off the handlers, made valid, and told by example."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import msgspec

from app.api.schemas import (
    AgentView,
    Alive,
    AnswerResponse,
    ChatRequest,
    ChatResponse,
    Check,
    EventPage,
    EventView,
    Health,
    History,
    MessagePage,
    MessageView,
    Metadata,
    Problem,
    QuestionRequest,
    Readiness,
    ResetRequest,
    Run,
    RunAgentRequest,
    RunAgentResponse,
    RunPage,
    Session,
    SessionPage,
    StepList,
)
from app.domain.messages import Usage
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
_CHAT = {"message": "What is 12 * 7?", "session_id": "support-4711"}
_INPUT = {"input": "What is 12 * 7?", "tags": {"team": "support"}, "timeout": 30}

REQUESTS: dict[str, Any] = {
    "chat": _CHAT,
    "stream_chat": _CHAT,
    "run_agent": _INPUT,
    "stream_agent": _INPUT,
    "question": {"question": "What is 12 * 7?"},
    "reset": {"session_id": "support-4711"},
}
"""An example body of every operation that takes one."""

ANSWERS: dict[str, Any] = {
    "list_agents": [_AGENT],
    "get_agent": _AGENT,
    "run_agent": RunAgentResponse(
        result="12 * 7 = 84.", run_id="run_1", session_id="ses_1", duration_ms=812.4, metadata=_METADATA
    ),
    "chat": ChatResponse(response="12 * 7 = 84.", session_id="support-4711", run_id="run_1", metadata=_METADATA),
    "question": AnswerResponse(
        answer="12 * 7 = 84.", iterations=2, duration=0.8124, cached=False, session_id="ses_1", run_id="run_1"
    ),
    "history": History(messages=_MESSAGES),
    "list_runs": RunPage(data=[_RUN], next_cursor=None),
    "get_run": _RUN,
    "get_steps": StepList(data=[_STEP]),
    "get_events": EventPage(
        data=[EventView(id="2", event="run.started", at=_AT, data={"attempt": 1})],
        next="2",
    ),
    "list_sessions": SessionPage(data=[_SESSION], next_cursor=None),
    "get_session": _SESSION,
    "list_messages": MessagePage(data=_MESSAGES, next_cursor=None),
    "health": Health(status="healthy", version="0.1.0"),
    "healthz": Alive(status="ok"),
    "readiness": Readiness(status="ready", checks={"database": Check(status="ok", latency_ms=0.8)}, timestamp=_AT),
    "metrics_page": 'http_requests_total{method="POST",route="/chat",status="200"} 1.0\n',
}
"""An example of what every operation answers with 200, but for those that only stream."""


SHAPES = (
    ChatRequest, RunAgentRequest, QuestionRequest, ResetRequest, AgentView, RunAgentResponse, ChatResponse, AnswerResponse,
    History, RunPage, StepList, EventPage, SessionPage, MessagePage, Health, Alive, Readiness, Problem,
)  # fmt: skip
"""Everything that goes in and out."""


def published(document: dict[str, Any]) -> dict[str, Any]:
    """`document` itself, complete: valid OpenAPI 3.1, with an example of everything that goes in and out."""
    document["security"] = []
    # msgspec describes what it decodes and encodes exactly; litestar leaves out bounds and `additionalProperties`.
    _, schemas = msgspec.json.schema_components(SHAPES, ref_template="#/components/schemas/{name}")
    document["components"]["schemas"] = schemas
    for path in document["paths"].values():
        for operation in path.values():
            _complete(operation)
    _tidy(document)
    return document


def _complete(operation: dict[str, Any]) -> None:
    name, responses = operation["operationId"], operation["responses"]
    # Litestar adds a 400 of its own shape wherever there are parameters; none of ours looks like that.
    if "application/json" in responses.get("400", {}).get("content", {}):
        del responses["400"]
    if name in REQUESTS:
        operation["requestBody"]["content"]["application/json"]["example"] = REQUESTS[name]
    if name == "get_events":
        page = {"schema": {"$ref": "#/components/schemas/EventPage"}}
        responses["200"]["content"]["application/json"] = page
    if name in ANSWERS:
        media_type = "text/plain" if name == "metrics_page" else "application/json"
        responses["200"]["content"][media_type]["example"] = msgspec.to_builtins(ANSWERS[name])


def _tidy(node: Any) -> None:
    """Without what litestar writes and OpenAPI does not know: ids of examples."""
    if isinstance(node, list):
        for item in node:
            _tidy(item)
    elif isinstance(node, dict):
        if isinstance(examples := node.get("examples"), dict):
            for example in examples.values():
                example.pop("id", None)
        for item in node.values():
            _tidy(item)
