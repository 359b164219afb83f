"""From a run's state to the request that a model gets.

The prefix (tools, system, history) is byte-stable from call to call: nothing here depends on anything but the state. Under
the agent's budget the history changes rarely (`trimming`).
"""

from __future__ import annotations

import logging
from typing import Literal

from app.agent import limits, structured, tokens, trimming
from app.domain.fold import RunState
from app.domain.messages import Message
from app.domain.models import ModelRequest

log = logging.getLogger(__name__)


def build(state: RunState, tools: Literal["auto", "none"], *, affinity: str = "") -> ModelRequest:
    """The request for the next model call. After a rejected draft stands what was wrong with it.

    A current turn that exceeds the budget by itself is sent nevertheless, with a warning in the log: a larger model of the
    route may take it. The output is bounded by what is left of the run's own budgets.
    """
    agent = state.agent
    messages, left_out = _fitted(state)
    request = ModelRequest(
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
        trimmed_tokens=left_out,
    )
    return limits.within(request, state)


def _fitted(state: RunState) -> tuple[tuple[Message, ...], int]:
    """The messages to send, and how many tokens (an estimate) the whole conversation has more."""
    agent, current = state.agent, _with_repairs(state)
    budget = agent.budget
    fixed = tokens.fixed(state.system, agent.tools, agent.output_schema)
    sent = trimming.trim(state.history, current, fixed=fixed, budget=budget.tokens, tool_result=budget.tool_result)
    if sent is None:
        return (*state.history, *current), 0
    if sent.tokens > budget.tokens:
        log.warning("context_over_budget", extra={"agent": agent.name, "tokens": sent.tokens, "budget": budget.tokens})
    return sent.messages, sent.left_out


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
