"""Asking a model: the request, the chunks of its answer, and who answers.

Two Protocols of the same shape. A `Target` is one model of one provider: the SDK adapters, and wrappers that belong to one
attempt (tracing). A `Provider` answers for a whole route and is all that the runner sees: the router, and wrappers around it.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from decimal import Decimal
from typing import Literal, Protocol
from uuid import UUID

import msgspec

from app.domain.errors import FailureKind
from app.domain.messages import JsonObject, Message, ModelStop, Native, ToolCall, Usage
from app.domain.tools import ToolSpec

Reasoning = Literal["low", "medium", "high"]


class ModelRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Everything a model is given. `tool_choice` "none" keeps the tools in the request (the prefix stays byte-stable) but forbids calls.

    `affinity`: requests that share it get the same choice where a route chooses by weight, and the same cache; no model sees it.
    `trimmed_tokens`: an estimate of what the conversation has more than `messages`; no model sees it.
    `usd_left`: dollars that the whole call may cost, None: nobody bounds it; no model sees it.
    """

    route: str
    system: str
    messages: tuple[Message, ...]
    tools: tuple[ToolSpec, ...] = ()
    tool_choice: Literal["auto", "none"] = "auto"
    temperature: float | None = None
    max_output_tokens: int | None = None
    reasoning: Reasoning | None = None
    output_schema: JsonObject | None = None
    affinity: str = ""
    trimmed_tokens: int = 0
    usd_left: Decimal | None = None


class TextDelta(msgspec.Struct, frozen=True):
    """More text of the answer; never empty, never with a NUL."""

    text: str


class ReasoningDelta(msgspec.Struct, frozen=True):
    """More of the model's readable reasoning; shown live, never stored."""

    text: str


class Completed(msgspec.Struct, frozen=True, kw_only=True):
    """The whole answer; always the last chunk, exactly once. The text deltas since the last `Restarted` spell `content`."""

    content: str
    tool_calls: tuple[ToolCall, ...] = ()
    stop: ModelStop
    native: Native | None = None
    usage: Usage | None = None
    response_model: str = ""
    response_id: str = ""


class Restarted(msgspec.Struct, frozen=True):
    """The text so far does not count: the answer begins anew. Only a `Provider` says so, never a `Target`."""


ModelChunk = TextDelta | ReasoningDelta | Restarted | Completed

Outcome = Literal["ok", "cancelled"] | FailureKind
Basis = Literal["provider", "estimated", "abandoned"]
"""What an attempt's usage and cost rest on. `provider`: its provider's last count, or nothing was charged; `estimated`: there was no such
count, so it is what was counted by then and an estimate of the rest; `abandoned`: its owner died, so it is an estimate of its input."""


class Attempt(msgspec.Struct, kw_only=True):
    """One call to one target, filled in while it goes on so that what is known survives a cancel. Times are `time.monotonic()` seconds.

    `service_tier` and `speed` are what the provider says it charges by; `cost_usd` None: not known, which is not zero.
    `id` is its row in the ledger, None while it has none. `input_tokens` is an estimate of the request, None where nobody made
    one; `near`: what it costs may bring a budget to a level that somebody must be told of.
    """

    number: int
    provider: str
    model: str
    started: float
    id: UUID | None = None
    input_tokens: int | None = None
    near: bool = False
    first_token: float | None = None
    ended: float | None = None
    outcome: Outcome | None = None
    usage: Usage | None = None
    basis: Basis = "estimated"
    cost_usd: Decimal | None = None
    service_tier: str = ""
    speed: str = ""
    response_model: str = ""
    response_id: str = ""
    finish: ModelStop | None = None


class Opener(Protocol):
    """Writes attempts down before they are made."""

    async def open(self, attempt: Attempt, request: ModelRequest, spent: Decimal) -> ModelRequest:
        """The attempt is in the ledger, and has its `id`; the request as it may be sent, its output bounded by what is left.

        `spent`: dollars of the call's earlier attempts. Raises `BudgetExhausted` and `Fenced`: then nothing was written, and
        nothing may be sent.
        """
        ...


class Recorder:
    """Collects the attempts of one model call. Owned by the runner, filled by the router and the targets.

    `opener` is told before each attempt is made; None: nobody keeps a ledger.
    """

    def __init__(self, opener: Opener | None = None) -> None:
        self.attempts: list[Attempt] = []
        self.opener = opener

    @property
    def cost(self) -> Decimal:
        """Dollars of the attempts so far, as far as they are known."""
        return sum((a.cost_usd for a in self.attempts if a.cost_usd is not None), Decimal(0))

    def open(self, provider: str, model: str, now: float) -> Attempt:
        """Begin the next attempt, before its first byte leaves."""
        attempt = Attempt(number=len(self.attempts) + 1, provider=provider, model=model, started=now)
        self.attempts.append(attempt)
        return attempt


class Target(Protocol):
    """One model of one provider. `provider` is its name in the settings, `system` what it speaks: openai, anthropic, offline."""

    provider: str
    system: str
    model: str

    def stream(self, request: ModelRequest, attempt: Attempt) -> AsyncGenerator[ModelChunk, None]:
        """Ask once. Ends with `Completed` or raises `ProviderError`; `attempt.usage` is kept up to date on the way.

        Closing the iterator closes the provider's socket.
        """
        ...


class Provider(Protocol):
    """Whatever answers a route."""

    def stream(self, request: ModelRequest, recorder: Recorder) -> AsyncGenerator[ModelChunk, None]:
        """Answer `request.route`, over as many attempts as it takes. Whoever opens the iterator closes it (`aclose`)."""
        ...
