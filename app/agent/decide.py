"""What a run does next. Every rule of the loop is in `decide`; `app.runs.execution` only performs what it says."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from app.agent import context, loops, structured
from app.agent.compaction import Compact
from app.domain import approvals
from app.domain.approvals import digest
from app.domain.events import LoopDetected
from app.domain.fold import RunState
from app.domain.messages import Message, ToolCall
from app.domain.provenance import Taint
from app.domain.runs import RunFailure, RunStatus, StopReason
from app.domain.tools import Risk, ToolSpec, unseen
from app.safety import policy, values

MAX_REPAIRS = 2
"""How often a structured answer that does not fit its schema is sent back."""


USED_UP = "The budget for this is used up, and there was no answer yet."
"""The answer of a run whose budget was used up before its model had said anything, where its agent has no reply for that."""
LOOPED = "I came to the same point again and again, so I stopped. There is no answer yet."
"""The answer of a run that went round in circles, whose model said nothing at all, and whose agent has no reply for that."""


class CallModel(msgspec.Struct, frozen=True):
    """Ask the model. `tools` "none": it must answer from what is known. `rejects`: the id of a draft that does not count.

    `loop`: why it must answer, where that is to be written down.
    """

    tools: Literal["auto", "none"] = "auto"
    rejects: str | None = None
    loop: LoopDetected | None = None


class CallTools(msgspec.Struct, frozen=True):
    """Run `calls` in parallel; answer each of `denied` with its reason instead.

    `lost` are calls of an attempt that died while they ran: they may have taken effect and must not run again.
    """

    calls: tuple[ToolCall, ...]
    denied: tuple[tuple[ToolCall, str], ...] = ()
    lost: tuple[ToolCall, ...] = ()


class AskApproval(msgspec.Struct, frozen=True):
    """Ask a person about each of `calls` (none: everything is asked already), then wait."""

    calls: tuple[tuple[ToolCall, Risk], ...] = ()


class Finish(msgspec.Struct, frozen=True, kw_only=True):
    """End the run. `output` is the answer as JSON; `degraded`: it is what could be said without the model, or without the time.

    `says`: words in the place of an answer, to be said first.
    """

    status: RunStatus = "succeeded"
    stop_reason: StopReason = "completed"
    output: Any = None
    error: RunFailure | None = None
    degraded: bool = False
    says: str | None = None


Decision = CallModel | CallTools | AskApproval | Compact | Finish


def decide(state: RunState) -> Decision:
    """The next step of a run that has begun and not ended."""
    decision = _affordable(state)
    return context.to_compact(state) or decision if isinstance(decision, CallModel) else decision


def _affordable(state: RunState) -> Decision:
    """No model is asked once a budget of the run is used up."""
    decision = _next(state)
    if isinstance(decision, CallModel) and (reason := state.used_up) is not None:
        return out_of_budget(state, reason)
    return decision


def _next(state: RunState) -> Decision:
    last = state.messages[-1]
    if last.role == "assistant":
        if last.stop in ("refusal", "content_filter"):
            return Finish(stop_reason="refused", output=last.content)
        if state.open_calls:
            return _tools(state)
        if last.id in state.rejected:
            return CallModel(tools="none" if _closed(state) else "auto")
        if last.stop == "pause" and not _closed(state):
            return _model(state)
        return _answer(state, last)
    if state.open_calls:
        return _tools(state)
    return _model(state)


def hurry(state: RunState) -> CallModel | Finish:
    """The next step of a run whose time is up, and whose calls all have outcomes: the answer that is there, or one plain call."""
    decision = _affordable(state)
    if isinstance(decision, CallModel):
        return CallModel(tools="none", rejects=decision.rejects)
    assert isinstance(decision, Finish), "a call was left open"
    return decision


def _model(state: RunState) -> CallModel:
    """Ask again; for the last time where that is what the iterations or the rest of a budget allow, or where the run goes round in circles."""
    loop = loops.found(state) if state.loop is None else None
    last = state.iterations >= state.agent.limits.iterations or state.short is not None
    return CallModel(tools="none" if last or loop or state.loop else "auto", loop=loop)


def _closed(state: RunState) -> StopReason | None:
    """Why the model was asked for the last time."""
    return state.closed if state.loop is None else "loop_detected"


def _tools(state: RunState) -> CallTools | AskApproval:
    """What can be done about the open calls now; only when that is done, people are asked about the rest."""
    read, beyond = state.taint, loops.beyond(state)
    found = [_outcome(state, call, read, call.id in beyond) for call in state.open_calls.values()]
    calls = tuple(one.call for one in found if isinstance(one, _Runs))
    denied = tuple((one.call, one.why) for one in found if isinstance(one, _Denied))
    lost = tuple(one.call for one in found if isinstance(one, _Lost))
    if calls or denied or lost:
        return CallTools(calls=calls, denied=denied, lost=lost)
    return AskApproval(calls=tuple((one.call, one.risk) for one in found if isinstance(one, _Asks)))


class _Runs(msgspec.Struct, frozen=True):
    call: ToolCall


class _Denied(msgspec.Struct, frozen=True):
    call: ToolCall
    why: str


class _Lost(msgspec.Struct, frozen=True):
    call: ToolCall


class _Asks(msgspec.Struct, frozen=True):
    call: ToolCall
    risk: Risk


def _outcome(state: RunState, call: ToolCall, read: Taint, beyond: bool) -> _Runs | _Denied | _Lost | _Asks | None:
    """What becomes of an open call of a model that had read such words; None: a person is asked already. `beyond`: it is one too many.

    The order is what makes it safe. What was begun comes first: a call that may have taken effect is never said to be undone. The
    policy comes before every word of a person, each time: no approval outweighs a refusal of it.
    """
    spec = state.agent.tool(call.name)
    if call.id in state.started:
        return _Lost(call) if spec is not None and unseen(spec.effect) == "outcome_unknown" else _Runs(call)
    if beyond:
        return _Denied(call, loops.TOO_MANY)
    if spec is None:
        return _Runs(call)
    judged = policy.judge(state.agent, spec, state.arguments(call), read, state.granted)
    if judged.outcome == "deny":
        return _Denied(call, f"{spec.name} was not run: {judged.why}.")
    decision = state.decisions.get(call.id)
    if decision is not None:
        approved = decision == "approved" and _is_for(state, call)
        return _Runs(call) if approved else _Denied(call, _denial(spec, decision))
    if judged.outcome == "allow":
        return _Runs(call)
    if (problem := structured.read(call.arguments or "{}", spec.schema)[1]) is not None:
        return _Denied(call, f"{spec.name} was not run: its arguments do not fit: {problem}. Correct them.")
    return None if call.id in state.approvals else _Asks(call, judged.risk)


def _is_for(state: RunState, call: ToolCall) -> bool:
    """Whether the approval under that call's id was asked for these very arguments, and given for those that it would run with."""
    runs_with = digest(call.name, state.arguments(call))
    return (
        state.digests.get(call.id) == digest(call.name, call.arguments)
        and state.bound.get(call.id, runs_with) == runs_with
    )


def _denial(spec: ToolSpec, decision: approvals.Decision) -> str:
    why = {
        "approved": "it was approved with other arguments",
        "denied": "a person decided against it",
        "expired": "nobody approved it in time",
        "cancelled": "the request for approval was withdrawn",
    }[decision]
    return f"{spec.name} was not run: {why}. Do not call it again with these arguments; answer without it or say what a person has to do."


def _answer(state: RunState, last: Message) -> Decision:
    reason: StopReason = _closed(state) or "completed"
    if state.agent.output_schema is None:
        if reason == "loop_detected" and not last.content.strip():
            return _from_known(state, reason, LOOPED)
        return Finish(stop_reason=reason, output=last.content)
    output, problem = structured.read(last.content, state.agent.output_schema)
    if problem is None:
        return Finish(stop_reason=reason, output=_guarded(state, output))
    if sum(message.id in state.rejected for message in state.messages) < MAX_REPAIRS:
        return CallModel(tools="none" if _closed(state) else "auto", rejects=last.id)
    detail = f"The model's answer did not fit the agent's output_schema after {MAX_REPAIRS} repairs: {problem}"
    return Finish(status="failed", stop_reason="invalid_output", error=RunFailure("invalid_output", detail))


def _guarded(state: RunState, output: Any) -> Any:
    return values.guarded(output, state.agent.screening, state.agent.instructions)


def out_of_budget(state: RunState, reason: Literal["token_budget", "cost_budget"]) -> Finish:
    """The end of a run that may ask no model any more: with what was said last, else with the agent's own reply, else with a word about it."""
    return _from_known(state, reason, USED_UP)


def _from_known(state: RunState, reason: Literal["token_budget", "cost_budget", "loop_detected"], words: str) -> Finish:
    agent = state.agent
    said = [
        m.content for m in state.messages if m.role == "assistant" and m.id not in state.rejected and m.content.strip()
    ]
    reply = None if agent.fallback_reply is msgspec.UNSET else agent.fallback_reply
    if agent.output_schema is not None:
        output, problem = structured.read(said[-1] if said else "", agent.output_schema)
        if problem is None:
            return Finish(stop_reason=reason, output=_guarded(state, output))
        if reply is None:
            detail = "The run's budget was used up before the model gave an answer that fits the agent's output_schema."
            return Finish(status="failed", stop_reason="invalid_output", error=RunFailure("invalid_output", detail))
        return Finish(
            stop_reason=reason, output=structured.read(reply, agent.output_schema)[0], degraded=True, says=reply
        )
    if said:
        return Finish(stop_reason=reason, output=said[-1])
    return Finish(stop_reason=reason, output=reply or words, degraded=True, says=reply or words)
