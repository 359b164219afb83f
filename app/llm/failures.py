"""From what a vendor said to a `ProviderError`. Judged by types and codes: the vendors change their messages at will."""

from __future__ import annotations

import email.utils
import time
from collections.abc import Mapping
from typing import Any

import msgspec

from app.domain.errors import IN_ITS_WORDS, REFUSALS, FailureKind, ProviderError
from app.llm.taxonomy import BY_CODE, BY_STATUS, BY_TYPE, BY_WORDS

_EXPLAINED: frozenset[FailureKind] = REFUSALS | {"unknown_model"}
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
    if isinstance(inner.get("detail"), list):
        return _first_detail(inner["detail"])
    code = inner.get("code") or (details.get("error_code") if isinstance(details, Mapping) else None)
    return ErrorBody(
        type=_word(inner.get("type")),
        code=_word(code),
        param=_word(inner.get("param")),
        message=_word(inner.get("message")),
    )


def _first_detail(details: list[Any]) -> ErrorBody:
    """The first complaint of a server that checks requests with pydantic, where it names a place."""
    first = details[0] if details else None
    if not isinstance(first, Mapping):
        return ErrorBody()
    place = first.get("loc")
    names = [str(key) for key in place if key != "body"] if isinstance(place, list) else []
    return ErrorBody(type=_word(first.get("type")), param=".".join(names), message=_word(first.get("msg")))


def _word(value: Any) -> str:
    return "" if value is None else str(value)


def classify(error: ErrorBody, status: int | None) -> FailureKind:
    """The kind of a failure, from the most telling of code, type and status."""
    kind = _named(error, status)
    if kind == "bad_request" and status in (None, 400):
        return next((found for words, found in BY_WORDS if words.search(error.message)), kind)
    return kind


def _named(error: ErrorBody, status: int | None) -> FailureKind:
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
    return ProviderError(
        kind,
        text,
        status=status,
        retry_after=retry_after(headers),
        should_retry=should_retry(headers),
        code=error.code,
        parameter=error.param,
    )


def event_failure(body: object) -> ProviderError:
    """The failure that an error event inside a 200 stands for."""
    error = error_body(body)
    kind = classify(error, None)
    return ProviderError(kind, f"error inside the stream: {_told(error, kind) or 'not explained'}", status=200)


def _told(error: ErrorBody, kind: FailureKind) -> str:
    words = " ".join(word for word in (error.type, error.code, error.param) if word)
    return f"{words}{IN_ITS_WORDS}{error.message[:200]}" if error.message and kind in _EXPLAINED else words


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


def should_retry(headers: Mapping[str, str]) -> bool | None:
    """What `x-should-retry` advises; None where it says neither yes nor no."""
    return {"true": True, "false": False}.get(headers.get("x-should-retry", "").strip().lower())


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
