"""What a person is told about a call besides its arguments."""

from __future__ import annotations

import pytest

from app.agent.grounds import MOST, grounds
from app.domain import events as ev
from app.domain.fold import RunState, tool_message
from app.domain.messages import Message, ToolCall, Trust
from app.domain.tools import Risk
from tests.agent.states import agent, asked, result, user
from tests.scripted import tool_spec

CALL = ToolCall("c9", "pay", "{}")


@pytest.mark.parametrize(
    ("trust", "signals", "risk", "reason"),
    [
        ("trusted", (), "high", "The risk of this call is high; the agent a runs calls up to low without a person."),
        (
            "untrusted",
            (),
            "high",
            "The risk of this call is high; the model had read words from outside, after which nothing above low runs without a person.",
        ),
        (
            "untrusted",
            ("override",),
            "critical",
            "The risk of this call is critical, one level above its tool's (high): what the model had read looks in part like "
            "instructions to it; the model had read words from outside, after which nothing above low runs without a person.",
        ),
    ],
)
def test_the_reason_names_what_decided(trust: Trust, signals: tuple[str, ...], risk: Risk, reason: str) -> None:
    read = Message(id="h1", role="tool", content="x", call_id="h1", name="mail", trust=trust, signals=signals)
    run = RunState(agent=agent(tools=(tool_spec("pay", risk="high"),)), system="", history=(read,))
    run.apply(user())
    told = grounds(run, CALL, risk)
    assert told.reason == reason
    assert [(source.trust, source.signals or ()) for source in told.results] == [(trust, signals)]


def test_results_of_this_run_and_of_earlier_turns() -> None:
    run = RunState(agent=agent(), system="", history=(tool_message("h1", "mail", "secret", False),))
    call = ToolCall("c1", "echo", "{}")
    for event in (user(), asked("m1", call), result(call, "content")):
        run.apply(event)
    told = grounds(run, CALL, "high")
    assert [(source.call_id, source.tool) for source in told.results] == [("h1", "mail"), ("c1", "echo")]
    assert (told.message_id, told.auto_approve, told.more) == ("m0", "low", 0)
    steered = ev.VisibleMessage(id="u1", role="user", content="do it")
    run.apply(ev.MessageCompleted(message=steered))
    assert grounds(run, CALL, "high").message_id == "u1"


def test_the_latest_of_many() -> None:
    history = tuple(tool_message(f"h{n}", "mail", "", False) for n in range(MOST + 7))
    run = RunState(agent=agent(), system="", history=history)
    run.apply(user())
    told = grounds(run, CALL, "critical")
    assert (len(told.results), told.more, told.results[-1].call_id) == (MOST, 7, f"h{MOST + 6}")
