"""What a person is told about a call besides its arguments: why they are asked, and what the model had read before it wished for it. Pure."""

from __future__ import annotations

import msgspec

from app.domain.approvals import Grounds, Source
from app.domain.fold import RunState
from app.domain.messages import Message, ToolCall
from app.domain.tools import Risk

MOST = 50
"""Results that are named; of more the latest are."""


def grounds(state: RunState, call: ToolCall, risk: Risk) -> Grounds:
    """Those of that call, which counts as of that risk and which the run is about to ask for."""
    results = [message for message in (*state.history, *state.messages) if message.role == "tool"]
    asked = next(message.id for message in reversed(state.messages) if message.role == "user")
    return Grounds(
        reason=_reason(state, call, risk),
        auto_approve=state.agent.auto_approve,
        message_id=asked,
        results=tuple(map(_source, results[-MOST:])),
        more=max(0, len(results) - MOST),
    )


def _reason(state: RunState, call: ToolCall, risk: Risk) -> str:
    agent, context = state.agent, state.taint
    spec = agent.tool(call.name)
    told = f"The risk of this call is {risk}"
    if spec is not None and risk != spec.risk:
        told += (
            f", one level above its tool's ({spec.risk}): what the model had read looks in part like instructions to it"
        )
    if context != "clean" and spec is not None and spec.rules.when_tainted == "approve":
        return f"{told}; the model had read words from outside, after which nothing above low runs without a person."
    return f"{told}; the agent {agent.name} runs calls up to {agent.auto_approve} without a person."


def _source(message: Message) -> Source:
    return Source(
        call_id=message.call_id or "",
        tool=message.name or "",
        trust=message.trust or msgspec.UNSET,
        signals=message.signals or msgspec.UNSET,
    )
