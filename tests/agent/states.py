"""States of a run, written as what was said so far."""

from __future__ import annotations

from typing import Any

import msgspec

from app.domain import events as ev
from app.domain.agents import Agent, Limits
from app.domain.fold import RunState
from app.domain.messages import ToolCall
from tests.scripted import tool_spec

SCHEMA = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}


def agent(*, iterations: int = 10, **more: Any) -> Agent:
    tools = (tool_spec("echo"), tool_spec("risky", risk="high"))
    fields = {"name": "a", "description": "", "kind": "react", "instructions": "", "tools": tools}
    return Agent(**(fields | {"limits": Limits(iterations=iterations)} | more))


def user(text: Any = "hello") -> ev.RunCreated:
    return ev.RunCreated(run_id="r", session_id="s", agent="a", agent_version="v", message_id="m0", input=text)


def said(message: str, text: str = "", *calls: ToolCall, stop: str = "stop") -> ev.MessageCompleted:
    return ev.MessageCompleted(
        message=ev.VisibleMessage(id=message, role="assistant", content=text, tool_calls=calls, stop=stop)
    )


def asked(message: str, *calls: ToolCall) -> ev.MessageCompleted:
    return said(message, "", *calls, stop="tool_calls")


def result(call: ToolCall, text: str = "done", **more: Any) -> ev.ToolFinished:
    """What a tool of trust gave back, unless `more` says otherwise."""
    raw = msgspec.Raw(msgspec.json.encode(text))
    return ev.ToolFinished(
        **({"call_id": call.id, "name": call.name, "status": "ok", "result": raw, "trust": "trusted"} | more)
    )


def rejected(message: str) -> ev.MessageReset:
    return ev.MessageReset(message_id=message)


def state(*events: ev.Event, of: Agent | None = None) -> RunState:
    run = RunState(agent=of or agent(), system="Be brief.", history=())
    for event in events:
        run.apply(event)
    return run
