"""What a provider's failure means, as data. Branch on types and codes: the vendors change their messages at will."""

from __future__ import annotations

import email.utils
import time
from collections.abc import Mapping
from typing import Any

import msgspec

from app.domain.errors import FailureKind, ProviderError

BY_CODE: dict[str, FailureKind] = {
    "insufficient_quota": "quota",
    "credit_balance_exhausted": "quota",
    "billing_error": "quota",
    "billing_hard_limit_reached": "quota",
    "enforced_spend_limit_reached": "quota",
    "invalid_api_key": "auth",
    "authentication_error": "auth",
    "permission_error": "auth",
    "model_not_found": "unknown_model",
    "rate_limit_exceeded": "rate_limited",
    "rate_limit_error": "rate_limited",
    "slow_down": "rate_limited",
    "overloaded_error": "overloaded",
    "server_is_overloaded": "overloaded",
    "service_unavailable_error": "overloaded",
    "context_length_exceeded": "bad_request",
    "request_too_large": "bad_request",
}
"""An error's `code`, `details.error_code` or `type` that says more than the HTTP status."""

BY_STATUS: dict[int, FailureKind] = {
    400: "bad_request",
    401: "auth",
    402: "quota",
    403: "auth",
    404: "unknown_model",
    408: "rate_limited",
    409: "rate_limited",
    413: "bad_request",
    422: "bad_request",
    429: "rate_limited",
    503: "overloaded",
    529: "overloaded",
}
"""HTTP statuses; any other below 500 is `bad_request`, any other from 500 on `server_error`."""

BY_TYPE: dict[str, FailureKind] = {
    "invalid_request_error": "bad_request",
    "invalid_prompt": "bad_request",
    "not_found_error": "unknown_model",
    "conflict_error": "rate_limited",
    "api_error": "server_error",
    "server_error": "server_error",
    "timeout_error": "server_error",
}
"""Types too general to overrule a status; read where there is none, in an error event inside a 200. Any other: `stream_error`."""

_EXPLAINED: frozenset[FailureKind] = frozenset({"bad_request", "unknown_model"})
"""Kinds whose vendor message is passed on: it names the field to change. Others echo keys or account names."""


class ErrorBody(msgspec.Struct, frozen=True, kw_only=True):
    """The vendor's words for one failure; empty where it did not say."""

    type: str = ""
    code: str = ""
    param: str = ""
    message: str = ""


def error_body(body: object) -> ErrorBody:
    """Read an error in any of the vendors' shapes: flat, under `error`, or `error` as a bare string."""
    if not isinstance(body, Mapping):
        return ErrorBody(message=body if isinstance(body, str) else "")
    inner = body.get("error", body)
    if not isinstance(inner, Mapping):
        return ErrorBody(message=str(inner or ""))
    details = inner.get("details")
    code = inner.get("code") or (details.get("error_code") if isinstance(details, Mapping) else None)
    return ErrorBody(
        type=_word(inner.get("type")),
        code=_word(code),
        param=_word(inner.get("param")),
        message=_word(inner.get("message")),
    )


def _word(value: Any) -> str:
    return "" if value is None else str(value)


def classify(error: ErrorBody, status: int | None) -> FailureKind:
    """The kind of a failure, from the most telling of code, type and status."""
    for word in (error.code, error.type):
        if word in BY_CODE:
            return BY_CODE[word]
    if status is not None and status >= 400:
        return BY_STATUS.get(status) or ("server_error" if status >= 500 else "bad_request")
    for word in (error.code, error.type):
        if word in BY_TYPE:
            return BY_TYPE[word]
    return "stream_error"


def http_failure(status: int, headers: Mapping[str, str], body: object) -> ProviderError:
    """The failure that an HTTP error answer stands for."""
    error = error_body(body)
    kind = classify(error, status)
    request_id = headers.get("request-id") or headers.get("x-request-id")
    text = f"HTTP {status} {_told(error, kind)}".strip() + (f" (request {request_id})" if request_id else "")
    return ProviderError(kind, text, status=status, retry_after=retry_after(headers))


def event_failure(body: object) -> ProviderError:
    """The failure that an error event inside a 200 stands for."""
    error = error_body(body)
    kind = classify(error, None)
    return ProviderError(kind, f"error inside the stream: {_told(error, kind) or 'not explained'}", status=200)


def _told(error: ErrorBody, kind: FailureKind) -> str:
    words = [word for word in (error.type, error.code, error.param) if word]
    if error.message and kind in _EXPLAINED:
        words.append(f"– {error.message[:200]}")
    return " ".join(words)


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds to wait, of `retry-after-ms` or `retry-after` (seconds or a date); None where neither says."""
    for name, scale in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        value = headers.get(name)
        if value is None:
            continue
        try:
            return max(0.0, float(value) * scale)
        except ValueError:
            date = email.utils.parsedate_tz(value)
            if date is not None:
                return max(0.0, email.utils.mktime_tz(date) - time.time())
    return None


def connection_failure(error: BaseException) -> ProviderError:
    """The failure that an SDK's connection error stands for, told by what caused it."""
    root = error
    while root.__cause__ is not None:
        root = root.__cause__
    timed_out = isinstance(root, TimeoutError) or "Timeout" in type(root).__name__
    kind: FailureKind = "connect_timeout" if timed_out else "connect"
    return ProviderError(kind, f"no connection to the provider: {type(root).__name__}")


def unusable_client(error: BaseException) -> ProviderError:
    """The failure of an SDK that cannot send at all, which is for want of credentials."""
    return ProviderError("auth", f"the provider's client cannot be used: {error}")
