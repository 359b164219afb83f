"""Everything that goes wrong, as `application/problem+json` (RFC 9457): one table from what happened to what is said."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

import msgspec
from litestar import Request, Response
from litestar.connection import ASGIConnection
from litestar.exceptions import HTTPException
from litestar.openapi import ResponseSpec
from litestar.openapi.spec import Example
from litestar.params import ParameterKwarg

from app.api.limits import limit_headers, seconds
from app.api.schemas import Problem
from app.domain.errors import DatabaseUnavailable, FieldError, RequestError
from app.domain.events import RunFinished

log = logging.getLogger(__name__)

MEDIA_TYPE = "application/problem+json"
RETRY_AFTER = "1"
CHALLENGE = 'Bearer realm="steadyhand"'
"""How to authenticate (RFC 6750 section 3)."""
MAX_TOLD = 1000
"""Characters of one text of a problem."""
UNREACHABLE = "The database cannot be reached. Try again in a moment."

STATUS: dict[str, int] = {
    "malformed_request": 400,
    "malformed_json": 400,
    "invalid_encoding": 400,
    "invalid_cursor": 400,
    "unauthenticated": 401,
    "forbidden": 403,
    "disabled": 403,
    "not_found": 404,
    "method_not_allowed": 405,
    "request_timeout": 408,
    "session_busy": 409,
    "run_finished": 409,
    "run_cancelled": 409,
    "approval_resolved": 409,
    "agent_changed": 409,
    "state_conflict": 409,
    "body_too_large": 413,
    "unsupported_media_type": 415,
    "validation_error": 422,
    "idempotency_key_reused": 422,
    "rate_limited": 429,
    "queue_full": 429,
    "budget_exhausted": 429,
    "internal": 500,
    "provider_error": 502,
    "invalid_output": 502,
    "not_ready": 503,
    "providers_unavailable": 503,
    "timeout": 504,
}
"""The HTTP status of each `code`."""

TITLES: dict[str, str] = {
    "malformed_request": "Malformed request",
    "malformed_json": "Malformed JSON",
    "invalid_encoding": "Invalid encoding",
    "invalid_cursor": "Invalid cursor",
    "unauthenticated": "Unauthenticated",
    "forbidden": "Forbidden",
    "disabled": "Switched off",
    "not_found": "Not found",
    "method_not_allowed": "Method not allowed",
    "request_timeout": "Request timeout",
    "session_busy": "Session busy",
    "run_finished": "Run finished",
    "run_cancelled": "Run cancelled",
    "approval_resolved": "Approval resolved",
    "agent_changed": "Agent changed",
    "state_conflict": "State conflict",
    "body_too_large": "Body too large",
    "unsupported_media_type": "Unsupported media type",
    "validation_error": "Validation error",
    "idempotency_key_reused": "Idempotency key reused",
    "rate_limited": "Rate limit reached",
    "queue_full": "Too much is waiting already",
    "budget_exhausted": "Budget exhausted",
    "internal": "Internal error",
    "provider_error": "The model provider refused the request",
    "invalid_output": "The model's answer was never valid",
    "not_ready": "Not ready",
    "providers_unavailable": "No model answered",
    "timeout": "Timeout",
}

_BY_STATUS = {
    400: "malformed_json",
    404: "not_found",
    405: "method_not_allowed",
    413: "body_too_large",
    415: "unsupported_media_type",
}


class RunFailed(Exception):
    """A run that has no answer for its caller; becomes the problem of its error code. `headers` go with it."""

    def __init__(self, run_id: str, finished: RunFinished, headers: Mapping[str, str]) -> None:
        super().__init__(run_id)
        self.run_id = run_id
        self.finished = finished
        self.headers = headers


def problem(
    request_id: str, code: str, detail: str, *, errors: Sequence[FieldError] = (), run_id: str | None = None
) -> Problem:
    """The problem of that code. What callers wrote is repeated in it, but not at any length."""
    return Problem(
        type=f"urn:steadyhand:problem:{code.replace('_', '-')}",
        title=TITLES[code],
        status=STATUS[code],
        detail=_short(detail),
        code=code,
        request_id=request_id,
        errors=tuple(FieldError(_short(error.path), _short(error.message)) for error in errors),
        run_id=run_id,
    )


def _short(text: str) -> str:
    return text if len(text) <= MAX_TOLD else text[:MAX_TOLD] + "…"


def run_problem(request_id: str, run_id: str, finished: RunFinished) -> Problem:
    """The problem of a run that failed or was cancelled."""
    error = finished.error
    code = error.code if error is not None and error.code in STATUS else "internal"
    return problem(request_id, code, error.detail if error is not None else "The run failed.", run_id=run_id)


def request_id(request: ASGIConnection[Any, Any, Any, Any]) -> str:
    """The id that the telemetry layer gave the request."""
    return str(request.scope.get("steadyhand.request_id", ""))


def _respond(told: Problem, more: Mapping[str, str] | None = None) -> Response[bytes]:
    headers = dict(more or ())
    if told.status in (429, 503):
        headers.setdefault("Retry-After", RETRY_AFTER)
    if told.status in (408, 413):
        headers["Connection"] = "close"  # the rest of the body is never read, so no other request can follow it
    if told.status == 401:
        headers["WWW-Authenticate"] = CHALLENGE
    return Response(msgspec.json.encode(told), status_code=told.status, media_type=MEDIA_TYPE, headers=headers)


def on_request_error(request: Request[Any, Any, Any], error: RequestError) -> Response[bytes]:
    """The caller's mistakes."""
    told = problem(request_id(request), error.code, error.detail, errors=error.errors)
    headers = limit_headers(error.standing)
    if error.retry_after is not None:
        headers["Retry-After"] = str(seconds(error.retry_after))
    return _respond(told, headers)


def on_run_failed(request: Request[Any, Any, Any], error: RunFailed) -> Response[bytes]:
    """Runs without an answer."""
    return _respond(run_problem(request_id(request), error.run_id, error.finished), error.headers)


def on_database(request: Request[Any, Any, Any], error: DatabaseUnavailable) -> Response[bytes]:
    """The database is away."""
    log.warning("the database is away", extra={"reason": str(error)})
    return _respond(problem(request_id(request), "not_ready", UNREACHABLE))


def on_http_error(request: Request[Any, Any, Any], error: HTTPException) -> Response[bytes]:
    """What litestar itself refuses: unknown paths and methods, large bodies, parameters of a wrong type."""
    code = _BY_STATUS.get(error.status_code)
    if error.status_code == 400 and isinstance(error.extra, list):
        errors = tuple(
            FieldError(_public(request, str(e.get("key", ""))), str(e.get("message", ""))) for e in error.extra
        )
        named = "; ".join(f"`{e.path}`: {e.message}" for e in errors) or error.detail
        return _respond(problem(request_id(request), "validation_error", named, errors=errors))
    if code is None:
        return on_fault(request, error)
    detail = _DETAILS.get(code) or error.detail
    response = _respond(problem(request_id(request), code, detail))
    if error.status_code == 405 and error.headers:
        response.headers.update(error.headers)
    return response


def _public(request: Request[Any, Any, Any], key: str) -> str:
    """The name under which callers know a handler's parameter."""
    field = request.route_handler.parsed_fn_signature.parameters.get(key)
    given = field.kwarg_definition if field is not None else None
    return (given.name or key) if isinstance(given, ParameterKwarg) else key


_DETAILS = {
    "not_found": "There is nothing at this path; /docs lists what there is.",
    "method_not_allowed": "This path takes other methods; the Allow header names them.",
    "body_too_large": "The body is larger than this call takes: server.max_body bytes, and 8,000,000 for a batch.",
}


def on_fault(request: Request[Any, Any, Any], error: Exception) -> Response[bytes]:
    """A fault of ours: the log has it whole, the caller only its request id."""
    log.error("a request failed", exc_info=error)
    detail = "The service failed; its log has the reason under this request id."
    return _respond(problem(request_id(request), "internal", detail))


def responses(*codes: str) -> dict[int, ResponseSpec]:
    """The error responses of a route for the API's description, with an example for each code."""
    by_status: dict[int, list[str]] = {}
    for code in codes:
        by_status.setdefault(STATUS[code], []).append(code)
    return {status: _spec(status, of) for status, of in by_status.items()}


def _spec(status: int, codes: Sequence[str]) -> ResponseSpec:
    examples = [
        Example(summary=TITLES[code], value=msgspec.to_builtins(problem("req_1", code, TITLES[code] + ".")), id=code)
        for code in codes
    ]
    return ResponseSpec(
        data_container=Problem,
        generate_examples=False,
        description=HTTPStatus(status).phrase,
        media_type=MEDIA_TYPE,
        examples=examples,
    )


HANDLERS: dict[Any, Any] = {
    RequestError: on_request_error,
    RunFailed: on_run_failed,
    DatabaseUnavailable: on_database,
    HTTPException: on_http_error,
    Exception: on_fault,
}
