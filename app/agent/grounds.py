"""What a person is told about a call besides its arguments: why they are asked, and what the model had read before it wished for it. Pure."""

from __future__ import annotations

from app.domain.approvals import Grounds, Source
from app.domain.fold import RunState
from app.domain.tools import Risk

MOST = 50
"""Results that are named; of more the latest are."""


def grounds(state: RunState, risk: Risk) -> Grounds:
    """Those of a call of that risk, which the run is about to ask for."""
    sources = [
        Source(call_id=message.call_id or "", tool=message.name or "")
        for message in (*state.history, *state.messages)
        if message.role == "tool"
    ]
    asked = next(message.id for message in reversed(state.messages) if message.role == "user")
    agent = state.agent
    return Grounds(
        reason=f"The risk of this call is {risk}; the agent {agent.name} runs calls up to {agent.auto_approve} without a person.",
        auto_approve=agent.auto_approve,
        message_id=asked,
        results=tuple(sources[-MOST:]),
        more=max(0, len(sources) - MOST),
    )
