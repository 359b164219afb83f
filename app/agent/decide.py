"""What a run does next. Every rule of the loop is in `decide`; `app.runs.runner` only performs what it says."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from app.agent import structured
from app.domain.fold import RunState
from app.domain.messages import Message, ToolCall
from app.domain.runs import RunFailure, RunStatus, StopReason

MAX_REPAIRS = 2
"""How often a structured answer that does not fit its schema is sent back."""


class CallModel(msgspec.Struct, frozen=True):
    """Ask the model. `tools` "none": it must answer from what is known. `rejects`: the id of a draft that does not count."""

    tools: Literal["auto", "none"] = "auto"
    rejects: str | None = None


class CallTools(msgspec.Struct, frozen=True):
    """Run `calls` in parallel; answer each of `denied` with its reason instead."""

    calls: tuple[ToolCall, ...]
    denied: tuple[tuple[ToolCall, str], ...] = ()


class Finish(msgspec.Struct, frozen=True, kw_only=True):
    """End the run. `output` is the answer as JSON."""

    status: RunStatus = "succeeded"
    stop_reason: StopReason = "completed"
    output: Any = None
    error: RunFailure | None = None


Decision = CallModel | CallTools | Finish


def decide(state: RunState) -> Decision:
    """The next step of a run that has begun and not ended."""
    last = state.messages[-1]
    if last.role == "assistant":
        if last.stop in ("refusal", "content_filter"):
            return Finish(stop_reason="refused", output=last.content)
        if state.open_calls:
            return _tools(state)
        if last.id in state.rejected:
            return CallModel(tools="none" if state.closed else "auto")
        if last.stop == "pause" and not state.closed:
            return _model(state)
        return _answer(state, last)
    if state.open_calls:
        return _tools(state)
    return _model(state)


def _model(state: RunState) -> CallModel:
    return CallModel(tools="auto" if state.iterations < state.agent.limits.iterations else "none")


def _tools(state: RunState) -> CallTools:
    calls: list[ToolCall] = []
    denied: list[tuple[ToolCall, str]] = []
    for call in state.open_calls.values():
        spec = state.agent.tool(call.name)
        if spec is None or state.agent.approves(spec):
            calls.append(call)
        else:
            denied.append((call, _denial(call.name, spec.risk, state.agent.auto_approve)))
    return CallTools(calls=tuple(calls), denied=tuple(denied))


def _denial(name: str, risk: str, allowed: str) -> str:
    return (
        f"{name} was not run: its risk is {risk} and this agent may run tools up to {allowed} without a person's approval. "
        "Do not call it again; answer without it or say what a person has to do."
    )


def _answer(state: RunState, last: Message) -> Decision:
    reason: StopReason = "max_iterations" if state.closed else "completed"
    if state.agent.output_schema is None:
        return Finish(stop_reason=reason, output=last.content)
    output, problem = structured.read(last.content, state.agent.output_schema)
    if problem is None:
        return Finish(stop_reason=reason, output=output)
    if len(state.rejected) < MAX_REPAIRS:
        return CallModel(tools="none" if state.closed else "auto", rejects=last.id)
    detail = f"The model's answer did not fit the agent's output_schema after {MAX_REPAIRS} repairs: {problem}"
    return Finish(status="failed", stop_reason="invalid_output", error=RunFailure("invalid_output", detail))
