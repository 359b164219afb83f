"""The request of a model call: what stands in it, and that its prefix never changes."""

from __future__ import annotations

from itertools import pairwise

import msgspec
import pytest

from app.agent.context import build
from app.domain import events as ev
from app.domain.agents import Agent, Budget, versioned
from app.domain.fold import RunState
from app.domain.messages import Message, ToolCall
from app.domain.models import ModelRequest
from tests.agent.states import SCHEMA, agent, asked, rejected, result, said, state, user

A = ToolCall("a", "echo", "{}")
EVENTS: list[ev.Event] = [user("question"), asked("m1", A), result(A), said("m2", "no"), rejected("m2")]


def requests(of: RunState, events: list[ev.Event]) -> list[ModelRequest]:
    """The request after each of these events."""
    made = []
    for event in events:
        of.apply(event)
        made.append(build(of, "auto"))
    return made


def test_an_agents_wishes_reach_the_model() -> None:
    wanted = agent(model="fast", temperature=0.3, max_output_tokens=99, reasoning="high", output_schema=SCHEMA)
    request = build(state(user(), of=wanted), "auto")
    assert (request.route, request.temperature, request.max_output_tokens, request.reasoning) == (
        "fast",
        0.3,
        99,
        "high",
    )
    assert (request.system, request.tools, request.output_schema) == ("Be brief.", wanted.tools, SCHEMA)


def test_history_comes_first() -> None:
    earlier = (Message(id="h1", role="user", content="before"), Message(id="h2", role="assistant", content="yes"))
    run = RunState(agent=agent(), system="", history=earlier)
    run.apply(user("now"))
    assert [message.content for message in build(run, "auto").messages] == ["before", "yes", "now"]


def test_the_prefix_is_the_same_from_call_to_call() -> None:
    made = requests(state(of=agent(output_schema=SCHEMA)), [*EVENTS, said("m3", "{}"), rejected("m3")])
    for earlier, later in pairwise(made):
        assert later.messages[: len(earlier.messages)] == earlier.messages
        assert (later.system, later.tools, later.output_schema) == (
            earlier.system,
            earlier.tools,
            earlier.output_schema,
        )


def test_the_closing_call_keeps_its_tools_and_forbids_them() -> None:
    run = state(*EVENTS[:3])
    closing = build(run, "none")
    assert closing.tool_choice == "none"
    assert closing.tools == build(run, "auto").tools != ()


def test_after_a_rejected_draft_stands_what_was_wrong() -> None:
    messages = build(state(*EVENTS, of=agent(output_schema=SCHEMA)), "auto").messages
    assert [message.id for message in messages] == ["m0", "m1", "result-a", "m2", "repair-m2"]
    assert messages[-1].role == "user"
    assert "does not fit the required JSON schema: it is not valid JSON" in messages[-1].content


def test_the_same_state_gives_the_same_request() -> None:
    one, other = (requests(state(of=agent(output_schema=SCHEMA)), EVENTS) for _ in range(2))
    assert one == other


def test_a_long_history_is_sent_without_its_oldest_turns() -> None:
    history = tuple(Message(id=f"h{n}", role="user", content="word " * 400) for n in range(10))
    run = RunState(agent=agent(context=Budget(tokens=2_500)), system="", history=history)
    run.apply(user("now"))
    request = build(run, "auto")
    assert [message.id for message in request.messages] == ["h6", "h7", "h8", "h9", "m0"]
    assert 2_900 < request.trimmed_tokens < 3_100
    assert build(RunState(agent=agent(), system="", history=history), "auto").trimmed_tokens == 0


def test_a_turn_that_is_too_much_is_sent_with_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    request = build(state(user("word " * 2_000), of=agent(context=Budget(tokens=1_000))), "auto")
    assert (len(request.messages), request.trimmed_tokens) == (1, 0)
    (said,) = caplog.records
    assert (said.message, said.levelname, said.__dict__["budget"]) == ("context_over_budget", "WARNING", 1_000)


def test_no_context_of_its_own_is_no_new_version() -> None:
    """The hash of an agent as it was stored before there was the key."""
    bare = agent(tools=())
    assert versioned(Agent(name="a", description="", kind="react", instructions="Be brief.")).version == "21083e4de459"
    assert b"context" not in msgspec.json.encode(bare)
    assert versioned(agent(tools=(), context=Budget())).version != versioned(bare).version
