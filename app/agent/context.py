"""From a run's state to the request that a model gets.

The prefix (tools, system, history) is byte-stable from call to call: nothing here depends on anything but the state.
"""

from __future__ import annotations

from typing import Literal

from app.agent import structured
from app.domain.fold import RunState
from app.domain.messages import Message
from app.domain.models import ModelRequest


def build(state: RunState, tools: Literal["auto", "none"], *, affinity: str = "") -> ModelRequest:
    """The request for the next model call. After a rejected draft stands what was wrong with it."""
    agent = state.agent
    messages = state.history + tuple(_with_repairs(state))
    return ModelRequest(
        route=agent.model,
        system=state.system,
        messages=messages,
        tools=agent.tools,
        tool_choice=tools,
        temperature=agent.temperature,
        max_output_tokens=agent.max_output_tokens,
        reasoning=agent.reasoning,
        output_schema=agent.output_schema,
        affinity=affinity,
    )


def _with_repairs(state: RunState) -> list[Message]:
    if not state.rejected or state.agent.output_schema is None:
        return state.messages
    messages: list[Message] = []
    for message in state.messages:
        messages.append(message)
        if message.id in state.rejected:
            _, problem = structured.read(message.content, state.agent.output_schema)
            note = f"That answer does not fit the required JSON schema: {problem}. Answer again with the corrected JSON only."
            messages.append(Message(id=f"repair-{message.id}", role="user", content=note))
    return messages
