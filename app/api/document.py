"""The API's description as it is published: what litestar reads off the handlers, made valid, and told by example."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from app.api.authentication import ANY_KEY, METRICS, PUBLIC
from app.api.batch_shapes import Batch, BatchPage, BatchRequest, BatchResultPage
from app.api.bodies import (
    AsyncChatRequest,
    CancelRequest,
    ChatRequest,
    DecisionRequest,
    ForkRequest,
    QuestionRequest,
    ResetRequest,
    ResumeRequest,
    RunAgentRequest,
    RunRequest,
    StateRequest,
    SteerRequest,
)
from app.api.control_shapes import Control, ControlList, DisableRequest
from app.api.examples import ANSWERS, MORE, REQUESTS
from app.api.problems import MEDIA_TYPE, STATUS, TITLES, problem
from app.api.schemas import (
    AgentView,
    Alive,
    AnswerResponse,
    ApprovalPage,
    AuditPage,
    ChatResponse,
    Dropped,
    EventPage,
    Health,
    History,
    MessagePage,
    ModelList,
    Problem,
    PromptList,
    Readiness,
    RunAgentResponse,
    RunPage,
    SessionPage,
    SessionState,
    Steered,
    StepList,
    Task,
    TaskList,
    UsageReport,
    Waiting,
)
from app.domain.callbacks import Callback
from app.domain.errors import RequestCode

SHAPES = (
    ChatRequest, RunAgentRequest, QuestionRequest, ResetRequest, AsyncChatRequest, RunRequest, CancelRequest, ResumeRequest,
    SteerRequest, DecisionRequest, StateRequest, ForkRequest, AgentView, RunAgentResponse, ChatResponse, AnswerResponse,
    Waiting, Task, TaskList, History, RunPage, Steered, StepList, EventPage, ApprovalPage, AuditPage, SessionPage, SessionState,
    MessagePage, ModelList, PromptList, UsageReport, Callback, BatchRequest, Batch, BatchPage, BatchResultPage, Dropped, Control,
    ControlList, DisableRequest, Health,
    Alive, Readiness, Problem,
)  # fmt: skip
"""Everything that goes in and out."""

KEY = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "schema": {"type": "string", "minLength": 1, "maxLength": 255},
    "description": "The same request sent again under the same key, within a day, is done once and answered alike.",
}
HEADERS = {
    "Idempotency-Replayed": "`true`: this is the answer of an earlier request with the key.",
    "Location": "Where the new one is.",
    "ETag": "The version of the state, for `If-Match`.",
    "RateLimit-Limit": "Runs that the caller's narrowest limit allows in its window; none of these where it has no limits.",
    "RateLimit-Remaining": "How many of them are left.",
    "RateLimit-Reset": "Seconds until more are left than now.",
    "Retry-After": "Seconds after which the request may be sent again.",
}
WITH_LOCATION = frozenset({"create_run", "resume_run", "chat_async", "create_batch", "fork_session"})
WITH_TAG = frozenset({"get_state", "put_state"})
LIMITS = ("RateLimit-Limit", "RateLimit-Remaining", "RateLimit-Reset")
OPTIONAL_BODIES = {
    "resume_run": ResumeRequest,
    "cancel_run": CancelRequest,
    "fork_session": ForkRequest,
    "disable_control": DisableRequest,
}


SCHEMES = {
    "bearer": {
        "type": "http",
        "scheme": "bearer",
        "description": "A key (`steadyhand keys create`), or a token of the issuer that the service trusts.",
    },
    "api_key": {"type": "apiKey", "in": "header", "name": "X-API-Key", "description": "The same key."},
}
SECURED: list[dict[str, list[str]]] = [{"bearer": []}, {"api_key": []}]


def published(document: dict[str, Any], scopes: Mapping[str, str | None]) -> dict[str, Any]:
    """`document` itself, complete: valid OpenAPI 3.1, with an example of everything that goes in and out.

    `scopes` say what each operation needs, by its id.
    """
    document["security"] = SECURED
    document["components"]["securitySchemes"] = SCHEMES
    # msgspec describes what it decodes and encodes exactly; litestar leaves out bounds and `additionalProperties`.
    _, schemas = msgspec.json.schema_components(SHAPES, ref_template="#/components/schemas/{name}")
    schemas["AsyncChatRequest"]["oneOf"] = [{"required": ["message"]}, {"required": ["items"]}]
    document["components"]["schemas"] = schemas
    for path in document["paths"].values():
        for method, operation in path.items():
            _complete(operation)
            _secure(operation, scopes[operation["operationId"]])
            if method != "get":
                _keyed(operation)
    _tidy(document)
    return document


def _complete(operation: dict[str, Any]) -> None:
    name, responses = operation["operationId"], operation["responses"]
    # Litestar adds a 400 of its own shape wherever there are parameters; none of ours looks like that.
    if "application/json" in responses.get("400", {}).get("content", {}):
        del responses["400"]
    if name in REQUESTS:
        described = operation["requestBody"]["content"]["application/json"]
        described["example"] = REQUESTS[name]
        if name in OPTIONAL_BODIES:
            operation["requestBody"]["required"] = False
            described["schema"] = {"anyOf": [_ref(OPTIONAL_BODIES[name]), {"type": "null"}]}
    good = [status for status in responses if status.startswith("2")]
    if "204" in good:
        responses["204"].pop("content", None)
    if name == "get_events":
        responses["200"]["content"]["application/json"] = {"schema": _ref(EventPage)}
    elif name == "chat_async":
        responses["202"]["content"]["application/json"]["schema"] = {"anyOf": [_ref(Task), _ref(TaskList)]}
    examples = dict(MORE.get(name, {}))
    if name in ANSWERS:
        examples |= {int(status): ANSWERS[name] for status in good if int(status) not in examples}
    for status, example in examples.items():
        media_type = "text/plain" if name == "metrics_page" else "application/json"
        responses[str(status)]["content"][media_type]["example"] = msgspec.json.decode(msgspec.json.encode(example))
    for status in good:
        if name in WITH_LOCATION:
            _header(responses[status], "Location")
        if name in WITH_TAG:
            _header(responses[status], "ETag")
    if "429" in responses:
        for header in LIMITS:
            for status in [*good, "429"]:
                _header(responses[status], header)
        _header(responses["429"], "Retry-After")


def _secure(operation: dict[str, Any], scope: str | None) -> None:
    """What a caller needs, and how one is refused who has not got it."""
    if scope == PUBLIC:
        operation["security"] = []
        return
    if scope == METRICS:
        operation["security"] = [{}, *SECURED]
    refusals: tuple[RequestCode, ...] = ("unauthenticated",)
    if scope not in (ANY_KEY, METRICS):
        operation["x-scope"] = scope
        refusals = ("unauthenticated", "forbidden")
    for code in refusals:
        example = {"summary": TITLES[code], "value": msgspec.to_builtins(problem("req_1", code, TITLES[code] + "."))}
        known = operation["responses"].setdefault(
            str(STATUS[code]),
            {"description": TITLES[code], "content": {MEDIA_TYPE: {"schema": _ref(Problem), "examples": {}}}},
        )
        known["content"][MEDIA_TYPE].setdefault("examples", {})[code] = example


def _keyed(operation: dict[str, Any]) -> None:
    """The key that every request may have that changes something."""
    operation["parameters"] = [*operation.get("parameters", ()), KEY]
    for status, response in operation["responses"].items():
        if status.startswith("2"):
            _header(response, "Idempotency-Replayed")


def _header(response: dict[str, Any], name: str) -> None:
    described = {"schema": {"type": "string"}, "description": HEADERS[name], "required": False}
    response.setdefault("headers", {})[name] = described


def _ref(shape: type[Any]) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{shape.__name__}"}


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
