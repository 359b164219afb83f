from __future__ import annotations

from decimal import Decimal
from typing import Any

import msgspec
import pytest

from app.domain import events as ev
from app.domain.agents import Agent, Limits
from app.domain.fold import UNFINISHED, Conversation, RunState, conversation
from app.domain.messages import Message, Native, ToolCall, Usage
from app.domain.runs import RunFailure

CALL, OTHER = ToolCall("c1", "echo", "{}"), ToolCall("c2", "echo", "{}")


def created(text: Any = "hello", **more: Any) -> ev.RunCreated:
    names = {"run_id": "r", "session_id": "s", "agent": "a", "agent_version": "v", "message_id": "m0"}
    return ev.RunCreated(**(names | more), input=text)


def said(message: str, text: str = "", *calls: ToolCall, stop: str = "stop") -> ev.MessageCompleted:
    return ev.MessageCompleted(
        message=ev.VisibleMessage(id=message, role="assistant", content=text, tool_calls=calls, stop=stop)
    )


def finished(call: ToolCall, result: bytes = b'"done"', status: Any = "ok") -> ev.ToolFinished:
    return ev.ToolFinished(call_id=call.id, name=call.name, status=status, result=msgspec.Raw(result))


def stored(*events: ev.Event) -> list[ev.StoredEvent]:
    return [
        ev.StoredEvent(seq=n, name=ev.NAMES[type(event)], payload=msgspec.json.encode(event))
        for n, event in enumerate(events, 1)
    ]


def state(*events: ev.Event | None, iterations: int = 10) -> RunState:
    agent = Agent(name="a", description="", kind="react", instructions="", limits=Limits(iterations=iterations))
    run = RunState(agent=agent, system="", history=())
    for event in events:
        run.apply(event)
    return run


def texts(*runs: list[ev.StoredEvent]) -> list[tuple[str, str]]:
    return [(message.role, message.content) for message in conversation(runs)]


def test_history_is_the_messages_of_every_run_in_order() -> None:
    first = stored(
        created("2+2?"),
        ev.RunStarted(attempt=1),
        said("m1", "", CALL, stop="tool_calls"),
        ev.ToolStarted(call_id="c1", name="echo", arguments={}),
        ev.ToolProgress(call_id="c1", name="echo", data=1),
        finished(CALL, b'{"value":4}'),
        said("m2", "4"),
    )
    assert texts(first, stored(created({"ask": "more"}), said("m3", "no"))) == [
        ("user", "2+2?"),
        ("assistant", ""),
        ("tool", '{"value":4}'),
        ("assistant", "4"),
        ("user", '{"ask":"more"}'),
        ("assistant", "no"),
    ]


def test_a_dangling_call_is_answered_as_unknown() -> None:
    messages = conversation([stored(created(), said("m1", "", CALL, OTHER), finished(OTHER))])
    assert [(m.call_id, m.content, m.is_error) for m in messages[2:]] == [
        ("c1", UNFINISHED, True),
        ("c2", "done", False),
    ]


def test_rejected_drafts_stand_in_the_run_and_not_in_history() -> None:
    events = (created(), said("m1", "draft"), ev.MessageReset(message_id="m1"), said("m2", "answer"))
    assert [message.id for message in state(*events).messages] == ["m0", "m1", "m2"]
    assert texts(stored(*events)) == [("user", "hello"), ("assistant", "answer")]


@pytest.mark.parametrize("status", ["error", "timeout", "denied", "cancelled", "outcome_unknown"])
def test_what_is_not_ok_is_an_error_to_the_model(status: str) -> None:
    run = state(created(), said("m1", "", CALL), finished(CALL, b'"a \\u00e9"', status))
    assert run.messages[-1] == Message(
        id="result-c1",
        role="tool",
        content="a é",
        call_id="c1",
        name="echo",
        is_error=True,
        trust="untrusted",
    )
    assert run.open_calls == {}


def test_native_items_come_back_from_the_private_column() -> None:
    native = Native(api="openai-responses", items=msgspec.Raw(b'[{"type":"reasoning"}]'))
    run = Conversation()
    run.apply(said("m1", "hi"), msgspec.json.encode(native))
    back = run.messages[0].native
    assert back is not None
    assert (back.api, bytes(back.items)) == ("openai-responses", b'[{"type":"reasoning"}]')


@pytest.mark.parametrize(("limit", "iterations", "closed"), [(3, 2, None), (2, 2, None), (1, 1, "max_iterations")])
def test_iterations_count_until_the_closing_message(limit: int, iterations: int, closed: str | None) -> None:
    run = state(created(), said("m1", "", CALL), finished(CALL), said("m2", "answer"), iterations=limit)
    assert (run.iterations, run.closed) == (iterations, closed)


def test_an_answer_to_a_rejected_draft_is_no_iteration() -> None:
    run = state(created(), said("m1"), ev.MessageReset(message_id="m1"), said("m2"), iterations=1)
    assert (run.iterations, run.closed) == (1, None)


def attempt(usage: Usage | None, model: str = "m", outcome: Any = "ok", cost: float | None = None) -> ev.UsageRecorded:
    return ev.UsageRecorded(
        attempt=1,
        route="default",
        provider="p",
        model=model,
        outcome=outcome,
        usage=usage,
        cost_usd=cost,
        duration_ms=1.0,
        time_to_first_token_ms=None,
    )


@pytest.mark.parametrize(
    ("used", "total"),
    [
        ([], None),
        ([None], None),
        ([Usage(input_tokens=0)], Usage(input_tokens=0)),
        ([None, Usage(input_tokens=3), None], Usage(input_tokens=3)),
        (
            [Usage(input_tokens=3, output_tokens=1), Usage(input_tokens=4, reasoning_tokens=0)],
            Usage(input_tokens=7, output_tokens=1, reasoning_tokens=0),
        ),
    ],
)
def test_unknown_usage_stays_unknown(used: list[Usage | None], total: Usage | None) -> None:
    assert state(created(), *(attempt(usage) for usage in used)).usage == total


@pytest.mark.parametrize(
    ("costs", "total"),
    [
        ([], None),
        ([0.0], "0.0"),
        ([0.1, 0.2], "0.3"),  # floats would make 0.30000000000000004 of it
        ([1e-07, 0.000123, 12.5], "12.5001231"),
        ([0.1, None, 0.2], None),
        ([None], None),
    ],
)
def test_a_cost_that_is_not_known_is_not_zero(costs: list[float | None], total: str | None) -> None:
    run = state(created(), *(attempt(None, cost=cost) for cost in costs))
    assert run.cost == (None if total is None else Decimal(total))


def test_the_model_is_the_last_that_answered() -> None:
    run = state(created(), attempt(None, "first"), attempt(None, "second", "server_error"))
    assert run.model == "first"


def test_the_same_events_give_the_same_state() -> None:
    events = (created(), said("m1", "", CALL), finished(CALL), attempt(Usage(input_tokens=1)), said("m2", "done"))
    live, replayed = state(*events), state(*(ev.decode(event) for event in stored(*events)))
    assert vars(live) == vars(replayed)


def test_the_end_of_a_run_adds_no_message() -> None:
    end = ev.RunFinished(
        status="failed",
        stop_reason="error",
        output=None,
        usage=None,
        cost_usd=None,
        iterations=0,
        error=RunFailure("internal", ""),
    )
    assert [message.id for message in state(created(), end).messages] == ["m0"]
