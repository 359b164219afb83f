"""A model and tools that are functions, run over `decide` and the fold alone: no clock, no database, the same every time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec

from app.agent.decide import AskApproval, CallModel, CallTools, Finish, decide
from app.domain import events as ev
from app.domain.agents import Agent, Limits
from app.domain.approvals import PendingApproval, digest
from app.domain.fold import RunState
from app.domain.messages import ToolCall
from app.domain.tools import ToolResult, ToolSpec
from tests.agent.states import said, user
from tests.scripted import tool_spec

Wish = tuple[str, Any]
"""A tool and its arguments: an object, or JSON text as it is."""
Outcome = tuple[str, Any]
"""A status and a result."""
Model = Callable[[int], Sequence[Wish] | str]
"""What the model says at its n-th turn: calls, or a text: the answer, or with a trailing … a pause."""
Tools = Callable[[str, Any], Outcome]

READS = (
    "search", "read_file", "get_order", "list_items", "calendar", "web_search", "lookup_customer", "kb_find", "fetch_page", "query_db", "weather",
    "stock_price", "crm_contacts", "inventory", "translate", "geo", "ask_docs", "run_tests", "validate", "probe", "job_status", "calculator", "clock",
)  # fmt: skip
WRITES = ("add_item", "edit_file", "send_message", "create_ticket", "set_value", "press", "run_command", "book")
TOOLS = (
    *(tool_spec(name) for name in READS), *(tool_spec(name, effect="write") for name in WRITES),
    tool_spec("get_job", effect="write"), tool_spec("build_status", polls=True), tool_spec("wait", effect="idempotent"),
    tool_spec("risky", risk="high", effect="write"),
    tool_spec("strict", schema={"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}),
)  # fmt: skip


def agent(**more: Any) -> Agent:
    fields = {"name": "a", "description": "", "kind": "react", "instructions": "", "tools": TOOLS}
    return Agent(**(fields | {"limits": Limits(iterations=50)} | more))


class Acted(msgspec.Struct, frozen=True, kw_only=True):
    """A run that ended: after how many rounds of calls or pauses, and everything that its journal holds."""

    end: Finish
    rounds: int
    events: list[ev.Event]


def act(model: Model, tools: Tools, *, of: Agent | None = None, closing: str = "so far") -> Acted:
    """The run of that model with those tools, from its first message to its end. A call that needs a person is denied."""
    of = of or agent()
    state = RunState(agent=of, system="", history=())
    journal: list[ev.Event] = []

    def add(*events: ev.Event) -> None:
        for event in events:
            state.apply(event)
            journal.append(event)

    add(user("go"))
    turn = rounds = 0
    while not isinstance(decision := decide(state), Finish):
        if isinstance(decision, CallModel):
            if decision.rejects is not None:
                add(ev.MessageReset(message_id=decision.rejects))
            if decision.loop is not None:
                add(decision.loop)
            wishes = closing if decision.tools == "none" else model(turn)
            if isinstance(wishes, str):
                add(said(f"m{turn}", wishes, stop="pause" if wishes.endswith("…") else "stop"))
                rounds += wishes.endswith("…")
            else:
                calls = [
                    ToolCall(f"c{turn}.{at}", name, arguments if isinstance(arguments, str) else _json(arguments))
                    for at, (name, arguments) in enumerate(wishes)
                ]
                add(said(f"m{turn}", "", *calls, stop="tool_calls"))
                rounds += 1
            turn += 1
        elif isinstance(decision, CallTools):
            for call, why in decision.denied:
                add(_finished(call, "denied", why))
            for call in decision.calls:
                add(_finished(call, *_outcome(of.tool(call.name), call, tools)))
        else:
            assert isinstance(decision, AskApproval)
            _deny(decision, add)
    return Acted(end=decision, rounds=rounds, events=journal)


def _outcome(spec: ToolSpec | None, call: ToolCall, tools: Tools) -> Outcome:
    if spec is None:
        return "error", f"There is no tool named {call.name}."
    try:
        arguments = msgspec.json.decode(call.arguments)
    except msgspec.DecodeError as error:
        return "error", f"The arguments are not valid JSON ({error})."
    if not isinstance(arguments, dict) or (call.name == "strict" and not isinstance(arguments.get("n"), int)):
        return "error", f"Invalid arguments: {call.arguments[:50]}"
    return tools(call.name, arguments)


def _deny(decision: AskApproval, add: Callable[..., None]) -> None:
    for call, risk in decision.calls:
        approval = PendingApproval(
            id=f"apr-{call.id}", call_id=call.id, name=call.name, arguments={}, risk=risk, expires_at=datetime(2030, 1, 1, tzinfo=UTC)
        )  # fmt: skip
        add(ev.ApprovalRequested(approval=approval, digest=digest(call.name, call.arguments)))
        add(ev.ApprovalResolved(approval_id=approval.id, call_id=call.id, decision="denied"))


def _finished(call: ToolCall, status: Any, result: Any) -> ev.ToolFinished:
    value = ToolResult(call_id=call.id, name=call.name, status=status, result=msgspec.Raw(msgspec.json.encode(result)))
    return ev.ToolFinished(call_id=call.id, name=call.name, status=value.status, result=value.result)


def _json(arguments: Any) -> str:
    return msgspec.json.encode(arguments).decode()
