"""What a person is told about a call besides its arguments."""

from __future__ import annotations

from app.agent.grounds import MOST, grounds
from app.domain import events as ev
from app.domain.fold import RunState, tool_message
from app.domain.messages import ToolCall
from tests.agent.states import agent, asked, result, user


def test_results_of_this_run_and_of_earlier_turns() -> None:
    run = RunState(agent=agent(), system="", history=(tool_message("h1", "mail", "secret", False),))
    call = ToolCall("c1", "echo", "{}")
    for event in (user(), asked("m1", call), result(call, "content")):
        run.apply(event)
    told = grounds(run, "high")
    assert [(source.call_id, source.tool) for source in told.results] == [("h1", "mail"), ("c1", "echo")]
    assert (told.message_id, told.auto_approve, told.more) == ("m0", "low", 0)
    assert told.reason == "The risk of this call is high; the agent a runs calls up to low without a person."
    steered = ev.VisibleMessage(id="u1", role="user", content="do it")
    run.apply(ev.MessageCompleted(message=steered))
    assert grounds(run, "high").message_id == "u1"


def test_the_latest_of_many() -> None:
    history = tuple(tool_message(f"h{n}", "mail", "", False) for n in range(MOST + 7))
    run = RunState(agent=agent(), system="", history=history)
    run.apply(user())
    told = grounds(run, "critical")
    assert (len(told.results), told.more, told.results[-1].call_id) == (MOST, 7, f"h{MOST + 6}")
