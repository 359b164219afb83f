"""From a run's state to the request that a model gets.

The prefix (tools, system, history) is byte-stable from call to call: nothing here depends on anything but the state. Under
the agent's budget the history changes rarely (`trimming`).
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Literal

import msgspec

from app.agent import compaction, limits, loops, structured, tokens, trimming
from app.agent.compaction import Compact
from app.agent.trimming import Sent
from app.domain.fold import MIN_OUTPUT, RunState
from app.domain.messages import Message
from app.domain.models import ModelRequest
from app.safety.marking import shown

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
        messages=_warned(state, tuple(_shown(state, message) for message in messages)),
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


def to_compact(state: RunState) -> Compact | None:
    """What has to be summed up before the next model call. Nothing where that would eat up what the call itself needs."""
    if not isinstance(state.agent.budget.summary, str) or state.short is not None:
        return None
    current = _with_repairs(state)
    sent = _trimmed(state, current)
    decision = compaction.due(state, (*_before(state), *current), sent)
    if decision is None or sent is None:
        return None
    enough = sent.tokens + compaction.size(decision, state.agent.budget) + MIN_OUTPUT <= state.tokens_left
    return decision if enough else None


def _shown(state: RunState, message: Message) -> Message:
    """The message as the model reads it. Marks are made once: a conversation is sent again with every call."""
    if message.trust != "untrusted":
        return message
    kept = state.marked.get(message.id)
    if kept is None or kept[0] != message:
        kept = state.marked[message.id] = (message, shown(message))
    return kept[1]


def _fitted(state: RunState) -> tuple[tuple[Message, ...], int]:
    """The messages to send, and how many tokens (an estimate) the whole conversation has more."""
    agent, current = state.agent, _with_repairs(state)
    sent = _trimmed(state, current)
    if sent is None:
        return (*_before(state), *current), 0
    most = agent.budget.tokens
    if sent.tokens > most:
        log.warning("context_over_budget", extra={"agent": agent.name, "tokens": sent.tokens, "budget": most})
    if not sent.cut:
        return sent.messages, sent.left_out
    note = compaction.note(state, (*_before(state), *current), sent.cut)
    return trimming.noted(sent.messages, note), sent.left_out


def _warned(state: RunState, messages: tuple[Message, ...]) -> tuple[Message, ...]:
    """The messages; the result that came again and again says so, whatever else was left of it."""
    repeated = loops.notes(state)
    if not repeated:
        return messages
    return tuple(
        msgspec.structs.replace(message, content=f"{message.content}\n\n{repeated[message.id]}")
        if message.role == "tool" and message.id in repeated
        else message
        for message in messages
    )


def _trimmed(state: RunState, current: Sequence[Message]) -> Sent | None:
    agent = state.agent
    return trimming.trim(
        _before(state),
        current,
        fixed=tokens.fixed(state.system, agent.tools, agent.output_schema),
        budget=agent.budget.tokens,
        tool_result=agent.budget.tool_result,
        note=compaction.allowance(agent.budget),
    )


def _before(state: RunState) -> tuple[Message, ...]:
    """The messages of earlier turns, as models read them."""
    return tuple(map(state.read, state.history)) if state.hidden else state.history


def _with_repairs(state: RunState) -> list[Message]:
    """The run's messages, as models read them; after a rejected draft what is wrong with it."""
    current = list(map(state.read, state.messages)) if state.hidden else state.messages
    if not state.rejected or state.agent.output_schema is None:
        return current
    messages: list[Message] = []
    for message in current:
        messages.append(message)
        if message.id in state.rejected:
            _, problem = structured.read(message.content, state.agent.output_schema)
            note = f"That answer does not fit the required JSON schema: {problem}. Answer again with the corrected JSON only."
            messages.append(Message(id=f"repair-{message.id}", role="user", content=note))
    return messages
