"""From what an effect gave back to the words of the journal."""

from __future__ import annotations

import time
from collections.abc import Container, Sequence
from decimal import Decimal
from typing import Any, Literal

import msgspec

from app.agent.decide import Finish
from app.domain import events as ev
from app.domain.fold import RunState
from app.domain.messages import Message, ToolCall, Usage
from app.domain.models import Attempt, Completed, ModelRequest
from app.domain.runs import Cancellation
from app.domain.tiers import Tier
from app.domain.tools import Effect, ToolResult, ToolSpec, unseen
from app.domain.usage import Lost, Settlement
from app.runs.ids import new_id


def message(message_id: str, completed: Completed, *, may_call: bool, taken: Container[str]) -> Message:
    """The assistant's message. Calls that must not be made are dropped, and so are the provider's own items that hold them.

    `taken`: ids of the run's earlier calls.
    """
    calls = completed.tool_calls if may_call and completed.stop not in ("refusal", "content_filter") else ()
    named = _distinct(calls, taken)
    return Message(
        id=message_id,
        role="assistant",
        content=completed.content,
        tool_calls=named,
        stop=completed.stop,
        native=completed.native if named == completed.tool_calls else None,
    )


def _distinct(calls: Sequence[ToolCall], taken: Container[str]) -> tuple[ToolCall, ...]:
    """The calls under ids that no other call of the run has: some compatible servers send empty ones, or `call_0` again and again."""
    seen: set[str] = set()
    distinct: list[ToolCall] = []
    for call in calls:
        if not call.id or call.id in seen or call.id in taken:
            call = ToolCall(new_id("call"), call.name, call.arguments)
        seen.add(call.id)
        distinct.append(call)
    return tuple(distinct)


NOTHING = Usage(input_tokens=0, cached_input_tokens=0, cache_write_tokens=0, output_tokens=0, reasoning_tokens=0)
"""What a run used that asked no model: that is known, and is not None."""
WaitReason = Literal["approval_required", "stopped_after_step"]


def waiting(reason: WaitReason, state: RunState, *, duration: float, queued: float) -> ev.RunWaiting:
    """The event of a run that waits; all approvals that are open go with it. Seconds."""
    return ev.RunWaiting(
        stop_reason=reason,
        approvals=tuple(state.approvals.values()),
        usage=state.usage,
        cost_usd=dollars(state.cost),
        iterations=state.iterations,
        model=state.model,
        duration_ms=milliseconds(duration),
        queue_ms=milliseconds(queued),
        outcome_unknown=state.outcome_unknown,
        tier=_tier(state),
    )


def finished(
    end: Finish,
    state: RunState | None,
    *,
    duration: float = 0.0,
    queued: float = 0.0,
    cancellation: Cancellation | None = None,
    cached: bool = False,
) -> ev.RunFinished:
    """The terminal event of a run that got as far as `state`; None: it never began. Seconds. `cached`: no model was asked."""
    return ev.RunFinished(
        status=end.status,
        stop_reason=end.stop_reason,
        output=end.output,
        usage=NOTHING if cached else None if state is None else state.usage,
        cost_usd=0.0 if cached else None if state is None else dollars(state.cost),
        iterations=0 if state is None else state.iterations,
        error=end.error,
        degraded=end.degraded,
        model=None if state is None else state.model,
        duration_ms=milliseconds(duration),
        queue_ms=milliseconds(queued),
        cached=cached,
        outcome_unknown=state is not None and state.outcome_unknown,
        cancellation=cancellation,
        tier=_tier(state),
    )


def _tier(state: RunState | None) -> Tier | msgspec.UnsetType:
    return msgspec.UNSET if state is None or state.tier is None else state.tier.tier


def unseen_end(call: ToolCall, effect: Effect | None, why: str) -> ev.ToolFinished:
    """The outcome of a call whose end nobody saw, in our own words."""
    return ev.ToolFinished(
        call_id=call.id, name=call.name, status=unseen(effect), result=raw_text(why), trust="trusted"
    )


def usage(attempt: Attempt, request: ModelRequest) -> ev.UsageRecorded:
    """What one attempt at that request used, as far as it got."""
    ended = attempt.ended if attempt.ended is not None else time.monotonic()
    first = attempt.first_token
    return ev.UsageRecorded(
        attempt=attempt.number,
        route=request.route,
        provider=attempt.provider,
        model=attempt.response_model or attempt.model,
        outcome=attempt.outcome or "cancelled",
        usage=attempt.usage,
        cost_usd=dollars(attempt.cost_usd),
        duration_ms=milliseconds(ended - attempt.started),
        time_to_first_token_ms=None if first is None else milliseconds(first - attempt.started),
        finish=attempt.finish,
        basis=attempt.basis,
        service_tier=attempt.service_tier or None,
        trimmed_tokens=request.trimmed_tokens or msgspec.UNSET,
        purpose=request.purpose,
        dropped_parameters=attempt.dropped_parameters or msgspec.UNSET,
        tier=request.tier or msgspec.UNSET,
    )


def settlement(attempt: Attempt) -> Settlement | None:
    """What settles the attempt's row, exactly; None: it has none."""
    if attempt.id is None:
        return None
    return Settlement(
        id=attempt.id,
        basis=attempt.basis,
        outcome=attempt.outcome or "cancelled",
        model=attempt.response_model or None,
        usage=attempt.usage,
        cost_usd=attempt.cost_usd,
    )


def abandoned(lost: Lost) -> tuple[ev.UsageRecorded, Settlement]:
    """What is said of an attempt whose owner died: its input by an estimate. What it wrote nobody has seen, and it is not guessed."""
    usage = Usage(input_tokens=lost.input_tokens)
    event = ev.UsageRecorded(
        attempt=lost.number,
        route=lost.route,
        provider=lost.provider,
        model=lost.model,
        outcome="abandoned",
        usage=usage,
        cost_usd=dollars(lost.input_usd),
        duration_ms=0.0,
        time_to_first_token_ms=None,
        basis="abandoned",
    )
    settles = Settlement(
        id=lost.id, basis="abandoned", outcome="abandoned", model=None, usage=usage, cost_usd=lost.input_usd
    )
    return event, settles


def tool_finished(result: ToolResult, spec: ToolSpec | None, seconds: float) -> ev.ToolFinished:
    """The outcome of one call of that tool. Its words are ours where no tool ran, or where the tool says nobody else's."""
    ours = spec is None or spec.own_words or result.status == "denied"
    return ev.ToolFinished(
        call_id=result.call_id,
        name=result.name,
        status=result.status,
        result=result.result,
        duration_ms=milliseconds(seconds),
        trust="trusted" if ours else msgspec.UNSET,
        signals=result.signals or msgspec.UNSET,
    )


def arguments(text: str) -> Any:
    """The call's arguments as JSON, or the text itself where it is none. No text at all is no arguments."""
    if not text.strip():
        return {}
    try:
        return msgspec.json.decode(text.encode())
    except (msgspec.DecodeError, RecursionError, UnicodeError):
        return text


def raw_text(text: str) -> msgspec.Raw:
    """A sentence for the model as a tool's JSON result."""
    return msgspec.Raw(msgspec.json.encode(text))


def dollars(exact: Decimal | None) -> float | None:
    """Exact dollars as JSON has numbers: the nearest one, whose shortest decimal is the same to 15 digits."""
    return None if exact is None else float(exact)


def milliseconds(seconds: float) -> float:
    """Seconds as milliseconds, to the microsecond."""
    return round(seconds * 1000, 3)
