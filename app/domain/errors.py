"""The error tree. A failure that the model can repair is data (`ToolResult`), never one of these.

SteadyhandError
├── ConfigError             the operator must change a file or a variable; stops the start
├── RequestError            the caller must change the request; carries a stable `code`
├── DatabaseUnavailable     PostgreSQL cannot be reached or went away
├── Fenced                  another owner holds the run: this one must stop writing
├── UnreadInbox             the run has news to read before it may end
├── RunStopped              the run was stopped on purpose; says by what
├── BudgetExhausted         a model call would cost more than there is left; nothing was asked
└── ProviderError           a model provider failed; `kind` says how
    └── ProvidersUnavailable    every target of a route failed
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import msgspec

from app.domain.limits import Standing
from app.domain.text import clean


class SteadyhandError(Exception):
    """Root of every error that this project raises on purpose."""


class ConfigProblem(msgspec.Struct, frozen=True):
    """One thing that is wrong: where it stands (file and line, or variable), what it is, and why."""

    where: str
    what: str
    why: str

    def __str__(self) -> str:
        return f"{self.where}: {self.what}: {self.why}"


class ConfigError(SteadyhandError):
    """Settings or workspace files that cannot be used. `problems` is never empty."""

    def __init__(self, problems: Sequence[ConfigProblem]) -> None:
        super().__init__("\n".join(str(problem) for problem in problems))
        self.problems = tuple(problems)


class FieldError(msgspec.Struct, frozen=True):
    """One field of a request that is wrong. `path` is a JSON path without the `$.` (empty: the body itself)."""

    path: str
    message: str


RequestCode = Literal[
    "malformed_json",
    "invalid_encoding",
    "invalid_cursor",
    "unauthenticated",
    "forbidden",
    "disabled",
    "not_found",
    "request_timeout",
    "session_busy",
    "run_finished",
    "run_cancelled",
    "approval_resolved",
    "agent_changed",
    "state_conflict",
    "body_too_large",
    "unsupported_media_type",
    "validation_error",
    "idempotency_key_reused",
    "rate_limited",
    "queue_full",
    "budget_exhausted",
    "not_ready",
]


class RequestError(SteadyhandError):
    """The request cannot be served as it is; `detail` tells the caller what to do about it. `retry_after`: seconds, where they are known.

    `standing`: how its limits stand, where the caller is to be told.
    """

    def __init__(
        self,
        code: RequestCode,
        detail: str,
        errors: Sequence[FieldError] = (),
        *,
        retry_after: float | None = None,
        standing: Standing | None = None,
    ) -> None:
        super().__init__(detail)
        self.code: RequestCode = code
        self.detail = detail
        self.errors = tuple(errors)
        self.retry_after = retry_after
        self.standing = standing


class DatabaseUnavailable(SteadyhandError):
    """PostgreSQL refused, dropped or did not answer a connection. Retrying later may succeed."""


class Fenced(SteadyhandError):
    """A write came from a stale owner and nothing of it was stored."""


class UnreadInbox(SteadyhandError):
    """The run cannot end yet: something came for it that its owner has not read. Nothing was stored."""


StopCause = Literal["timeout", "cancelled", "superseded", "reset", "interrupted", "handover", "lease"]


class RunStopped(SteadyhandError):
    """Thrown into a run's effects to stop them.

    `timeout`: its deadline; `cancelled`: a call to stop it; `superseded`: a newer turn of its session; `reset`: the session was
    reset or deleted. The run goes on elsewhere after `handover` (this process ends) and `lease` (it may be another's already).
    `interrupted`: nothing could execute it any more.
    """

    def __init__(self, cause: StopCause) -> None:
        super().__init__(cause)
        self.cause: StopCause = cause


class BudgetExhausted(SteadyhandError):
    """No model may be asked: the budget of that scope has not enough left for it."""

    def __init__(self, scope: Literal["run", "user", "tenant"]) -> None:
        super().__init__(scope)
        self.scope: Literal["run", "user", "tenant"] = scope


FailureKind = Literal[
    "connect",  # no connection, or it broke before an answer
    "connect_timeout",
    "first_token_timeout",
    "idle_timeout",  # between chunks
    "total_timeout",  # the route's time for one model call is used up
    "conflict",  # 408, 409: the provider gave the request up, it may be sent again
    "rate_limited",  # 429
    "quota",  # money is gone: 402, insufficient_quota
    "auth",  # 401, or no credentials
    "permission",  # 403: the account may not do this
    "unknown_model",  # 404 or a code that says so
    "bad_request",  # 400, 413, 422: the request itself
    "context_window",  # 400: more tokens than the model can read
    "content_policy",  # 400: the provider does not serve this content
    "tool_schema",  # 400: a tool's schema is not to its taste
    "overloaded",  # 503 and 529 of a busy provider
    "server_error",  # other 5xx
    "stream_broken",  # not JSON, cut, or ended early without its terminal event
    "stream_error",  # an error event inside a 200
    "circuit_open",  # not asked at all: it failed too often lately
]
"""How a model provider failed. What follows from each is in `app.llm.taxonomy`."""

REFUSALS: frozenset[FailureKind] = frozenset({"bad_request", "context_window", "content_policy", "tool_schema"})
"""Kinds that are the request's own fault."""


HIDDEN = "***"
"""In the place of a secret."""
IN_ITS_WORDS = " – "
"""Stands in a ProviderError's message before what the provider itself said, which may repeat what it was asked."""


class ProviderError(SteadyhandError):
    """A model provider did not answer as asked.

    `status` is the HTTP status where there was one; `retry_after` is seconds; `should_retry` is what the provider advised,
    None where it did not; `code` and `parameter` are its own words for what is wrong and where, empty where it has none.
    `unsent`: whatever broke, the request itself was not sent. The message never holds a credential or the request's content.
    """

    def __init__(
        self,
        kind: FailureKind,
        message: str,
        *,
        provider: str = "",
        model: str = "",
        status: int | None = None,
        retry_after: float | None = None,
        should_retry: bool | None = None,
        code: str = "",
        parameter: str = "",
    ) -> None:
        super().__init__(clean(message)[:500])
        self.kind: FailureKind = kind
        self.provider = provider
        self.model = model
        self.status = status
        self.retry_after = retry_after
        self.should_retry = should_retry
        self.code = code
        self.parameter = parameter
        self.unsent = False

    def hide(self, secret: str) -> None:
        """That text is not in it any more, whoever repeated it."""
        self.args = (str(self).replace(secret, HIDDEN),)
        self.code = self.code.replace(secret, HIDDEN)
        self.parameter = self.parameter.replace(secret, HIDDEN)

    @property
    def refuses_request(self) -> bool:
        """True when the fault is in the request itself: the same would be asked in vain."""
        return self.kind in REFUSALS


class ProvidersUnavailable(ProviderError):
    """No target of the route answered. `attempts` holds each target's failure, in the order tried."""

    def __init__(self, route: str, attempts: Sequence[ProviderError]) -> None:
        last = attempts[-1]
        tried = "; ".join(f"{e.provider}/{e.model}: {e}" for e in attempts)
        super().__init__(
            last.kind,
            f"route {route}: {tried}",
            provider=last.provider,
            model=last.model,
            status=last.status,
            retry_after=last.retry_after,
        )
        self.route = route
        self.attempts = tuple(attempts)
