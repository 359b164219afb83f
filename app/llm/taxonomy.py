"""What a provider can do wrong, and what follows: two tables, from the wire to a kind of failure, and from the kind to what is done.

Seconds everywhere. A refusal or a content filter that comes with HTTP 200 is no failure: it is an answer whose `stop` says so, the
attempt's outcome is `ok`, its breaker sees a success, and it is charged like any other. It is never asked again.
"""

from __future__ import annotations

import re
from typing import Literal

import msgspec

from app.domain.errors import FailureKind

Retry = Literal["yes", "last", "no"]
Next = Literal["any", "other_account", "larger", "nobody"]
Effect = Literal["counts", "opens"]
Charge = Literal["nothing", "if_begun", "always"]

LONGEST_HINT = 30.0
"""The longest pause that a provider may ask for while another target is left; a longer one also opens its breaker at once."""


class Policy(msgspec.Struct, frozen=True, kw_only=True):
    """What follows from one failed attempt.

    `retry`: whether the same target is asked again, `last`: only where no other is left. Not before the pause that the provider
    asked for, and at once the next target instead where that pause is longer than the time of the call, or while another target
    is left longer than `patience`. What the provider advised (`x-should-retry`) goes before `retry`, except for `quota`.
    `next`: which later target may be asked after it: `any`; one of another provider; one with a larger context window by the
    route's `windows`; `nobody`: the failure is the call's.
    `breaker`: whether the failure counts against the target, opens its breaker, or (None) says nothing about it.
    `charge`: what an attempt has cost that the provider itself did not report: nothing; an estimate where its answer had begun;
    an estimate in any case, since the provider was at work. An attempt that was cancelled is charged `always`.
    """

    retry: Retry = "no"
    patience: float = LONGEST_HINT
    next: Next = "any"
    breaker: Effect | None = None
    charge: Charge = "nothing"


_DOWN = Policy(retry="yes", breaker="counts", charge="if_begun")
_SILENT = Policy(retry="last", breaker="counts", charge="always")
_BROKEN = Policy(retry="yes", breaker="counts", charge="always")
_SHUT = Policy(breaker="opens")
_REFUSED = Policy(next="nobody")

POLICIES: dict[FailureKind, Policy] = {
    # Nobody was reached.
    "connect": Policy(retry="yes", breaker="counts"),
    "connect_timeout": Policy(retry="last", breaker="counts"),
    # The provider is slow: another try would take as long, so the next target goes first.
    "first_token_timeout": _SILENT,
    "idle_timeout": _SILENT,
    "total_timeout": Policy(charge="always"),  # the call's time is over, which may be another target's fault
    # The provider cannot now.
    "conflict": Policy(retry="yes", breaker="counts"),
    "rate_limited": Policy(retry="yes", patience=1.0, breaker="counts", charge="if_begun"),
    "overloaded": _DOWN,
    "server_error": _DOWN,
    # The answer is none.
    "stream_broken": _BROKEN,
    "stream_error": _BROKEN,
    # The target is of no use until somebody changes something.
    "quota": Policy(next="other_account", breaker="opens", charge="if_begun"),
    "auth": _SHUT,
    "unknown_model": _SHUT,
    "permission": Policy(breaker="counts"),  # perhaps for this one request only
    # The request is the caller's mistake, and would be one everywhere.
    "bad_request": _REFUSED,
    "content_policy": _REFUSED,
    "tool_schema": _REFUSED,
    "context_window": Policy(next="larger"),
    # The breaker is open: no attempt was made.
    "circuit_open": Policy(),
}
"""From a kind of failure to what is done. A rate limit that asks for more than a second sends the call to the next target at once."""

BY_CODE: dict[str, FailureKind] = {
    "insufficient_quota": "quota",
    "credit_balance_exhausted": "quota",
    "billing_error": "quota",
    "billing_not_active": "quota",
    "billing_hard_limit_reached": "quota",
    "enforced_spend_limit_reached": "quota",
    "contract_spend_limit_reached": "quota",
    "linked_organization_spend_limit_reached": "quota",
    "linked_organization_billing_unavailable": "quota",
    "project_spend_limit_exceeded": "quota",
    "organization_spend_limit_exceeded": "quota",
    "invalid_api_key": "auth",
    "authentication_error": "auth",
    "permission_error": "permission",
    "organization_on_hold": "permission",
    "model_not_found": "unknown_model",
    "rate_limit_exceeded": "rate_limited",
    "rate_limit_error": "rate_limited",
    "slow_down": "rate_limited",
    "overloaded_error": "overloaded",
    "server_is_overloaded": "overloaded",
    "server_overloaded": "overloaded",
    "service_unavailable_error": "overloaded",
    "context_length_exceeded": "context_window",
    "request_too_large": "bad_request",
    "content_policy_violation": "content_policy",
    "image_content_policy_violation": "content_policy",
    "misalignment_policy_violation": "content_policy",
    "bio_policy": "content_policy",
    "cyber_policy": "content_policy",
    "content_filter": "content_policy",
    "invalid_prompt": "content_policy",
    "invalid_function_parameters": "tool_schema",
}
"""An error's `code`, `details.error_code` or `type` that says more than the HTTP status."""

BY_STATUS: dict[int, FailureKind] = {
    400: "bad_request",
    401: "auth",
    402: "quota",
    403: "permission",
    404: "unknown_model",
    408: "conflict",
    409: "conflict",
    413: "bad_request",
    422: "bad_request",
    429: "rate_limited",
    503: "overloaded",
    529: "overloaded",
}
"""HTTP statuses; any other below 500 is `bad_request`, any other from 500 on `server_error`."""

BY_TYPE: dict[str, FailureKind] = {
    "invalid_request_error": "bad_request",
    "not_found_error": "unknown_model",
    "conflict_error": "conflict",
    "api_error": "server_error",
    "server_error": "server_error",
    "timeout_error": "server_error",
}
"""Types too general to overrule a status; read where there is none, in an error event inside a 200. Any other: `stream_error`."""

BY_WORDS: tuple[tuple[re.Pattern[str], FailureKind], ...] = (
    (
        re.compile(r"prompt is too long|exceeds? (the )?context (limit|window)|maximum context length", re.I),
        "context_window",
    ),
    (re.compile(r"^tools\.\d+\.(custom\.)?input_schema", re.I), "tool_schema"),
)
"""What some vendors (Anthropic, vLLM) say of a `bad_request` in words only. Where they change them it is a `bad_request` again."""

REFUSAL_CODES: dict[str, Literal["parameter", "value"]] = {
    "unsupported_parameter": "parameter",
    "unknown_parameter": "parameter",
    "unsupported_value": "value",
}
"""Codes of a `bad_request` that is about one parameter which the model does not take, or not with that value."""

REFUSAL_STATUSES = (400, 422)

REFUSAL_WORDS = re.compile(
    r"extra inputs are not permitted|not supported|does(n't| not) support|unsupported|unrecognized|deprecated|not allowed"
    r"|unknown (name|parameter|argument|field)|unexpected (keyword|parameter|argument|field)|may only be set",
    re.I,
)
"""The same in words, of vendors without such codes (Anthropic, vLLM, Groq, Gemini): a value out of range is none of these."""
