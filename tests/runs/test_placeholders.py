"""Placeholders over time: known values stay hidden, and have the same one after kills, in forks, resumes and summaries."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import msgspec
import pytest

from app.domain.agents import Budget
from app.domain.messages import Native, ToolCall
from app.domain.principals import ANONYMOUS
from app.domain.screening import Screening
from app.domain.tools import ToolContext, ToolResult, ToolSpec
from app.runs.service import StartRun
from tests.runs.conftest import react
from tests.runs.screening import ANN, BOB, CARD, redacting, sent, texts, turn
from tests.scripted import ScriptedProvider, ScriptedToolbox, says, tool_spec
from tests.waiting import until

CUES = [
    ("my password: Tr0ub4dor&3xyz", "Tr0ub4dor&3xyz", "<SECRET_1>"),
    ("My phone number is 030 901820", "030 901820", "<PHONE_1>"),
    ("My social security number is 536228145, look me up", "536228145", "<NATIONAL_ID_1>"),
    ("My tax id: 86095742719", "86095742719", "<TAX_ID_1>"),
]


@pytest.mark.parametrize(("said", "value", "name"), CUES)
async def test_a_value_that_only_a_word_gave_away_stays_hidden(
    start_process: Any, said: str, value: str, name: str
) -> None:
    provider = ScriptedProvider(says("", ("c1", "echo", f'{{"x":"{name}"}}')), says(f"It is {name}."), says("ok"))
    async with start_process(provider, react(safety=Screening(pii="redact", reveal=("echo",)))) as p:
        await turn(p, said)
        await turn(p, f"{value}, thanks")
        assert [call.arguments for call in p.toolbox.calls] == [f'{{"x":"{value}"}}']
        assert all(value not in sent(request) for request in provider.requests)
        assert texts(provider.requests[-1])[-1] == f"{name}, thanks"


class Pages(ScriptedToolbox):
    """Gives what a stranger wrote."""

    def specs(self, names: Sequence[str]) -> tuple[ToolSpec, ...]:
        return tuple(tool_spec(name, returns="untrusted") for name in names)

    async def run(self, spec: ToolSpec | None, call: ToolCall, context: ToolContext) -> ToolResult:
        page = f"http://x:not@y http://x:pay@y http://x:you@y password: {PASSWORD}, {PASSWORD}"
        return ToolResult(call_id=call.id, name=call.name, status="ok", result=msgspec.Raw(msgspec.json.encode(page)))


PASSWORD = "Tr0ub4dor&3xyz"


async def test_a_page_takes_no_word_out_of_what_the_user_says(start_process: Any) -> None:
    """What it calls secrets is hidden there, in another process as well; the user's words are the user's."""
    agent = redacting(tools=Pages().specs(["read_page"]))
    first = ScriptedProvider(says("", ("c1", "read_page", "{}")), says("ok"), says("ok"))
    second = ScriptedProvider(says("ok"))
    said = f"You may not pay for the new car, you know {PASSWORD}."
    async with start_process(first, agent, toolbox=Pages()) as p:
        await turn(p, "read it")
        await turn(p, said)
        await p.die()
    names = [f"<SECRET_READ_{n}>" for n in (1, 2, 3, 4)]
    hidden = "http://x:{}@y http://x:{}@y http://x:{}@y password: {}, {}".format(*names, names[-1])
    assert hidden in sent(first.requests[-1])
    assert texts(first.requests[-1])[-1] == said
    async with start_process(second, agent, toolbox=Pages()) as q:
        await turn(q, f"my password: {PASSWORD}")
    before = first.requests[-1].messages
    assert second.requests[0].messages[: len(before) - 1] == before[:-1]
    assert texts(second.requests[0])[-1] == "my password: <SECRET_1>"


async def test_arguments_that_models_read_are_json(start_process: Any) -> None:
    """A number becomes a string where it is hidden, and what stands in escapes is seen."""
    given = '{"card": 4242424242424242, "n": [1, true], "to": "ann\\u0040example.org"}'
    provider = ScriptedProvider(says("", ("c1", "echo", given)), says("ok"))
    async with start_process(provider, redacting()) as p:
        await turn(p, "go")
        call, _ = provider.requests[1].messages[1:]
        read = {"card": "<CARD_1>", "n": [1, True], "to": "<EMAIL_1>"}
        assert msgspec.json.decode(call.tool_calls[0].arguments) == read


async def test_placeholders_are_the_same_after_a_kill_between_turns(start_process: Any) -> None:
    """Another process, which has nothing in memory, goes on with the same ones, and finds the beginning of the request byte for byte."""
    native = Native(api="openai-responses", items=msgspec.Raw(b'[{"text":"to <EMAIL_2>"}]'))
    first = ScriptedProvider(
        says("", ("c1", "echo", '{"x":"dora@example.org"}')), says("to <EMAIL_2>", native=native), says("x")
    )
    second = ScriptedProvider(says("<EMAIL_1> <EMAIL_2> <EMAIL_3> <EMAIL_4>"))
    async with start_process(first, redacting()) as p:
        await turn(p, f"{BOB} wants {ANN}")
        await turn(p, "go on")
        await p.die()
    async with start_process(second, redacting()) as q:
        end = await turn(q, f"now eve@example.org and {ANN}")
        assert end.output == f"{BOB} {ANN} dora@example.org eve@example.org"
        before = first.requests[-1].messages
        assert second.requests[0].messages[: len(before)] == before, "the prefix is what it was"
        assert texts(second.requests[0])[-1] == "now <EMAIL_4> and <EMAIL_2>"


async def test_placeholders_are_the_same_after_a_kill_within_a_turn(start_process: Any) -> None:
    hang = asyncio.Event()
    first = ScriptedProvider(says("", ("c1", "echo", '{"x":"dora@example.org"}')), [hang])
    second = ScriptedProvider(says("<EMAIL_1> <EMAIL_2> <EMAIL_3>"))
    async with start_process(first, redacting(), lease=0.5) as p:
        started = await p.service.start(ANONYMOUS, StartRun(input=f"{BOB} {ANN}", session_id="s"))
        await until(lambda: len(first.requests) == 2)
        await p.die()
        async with start_process(second, redacting()) as q:
            await until(lambda: len(second.requests) == 1)
            assert second.requests[0].messages == first.requests[1].messages
            end = await q.service.result(await attached(q, started.run_id))
            assert end.output == f"{BOB} {ANN} dora@example.org"


async def attached(p: Any, run_id: str) -> Any:
    run = await p.service.run(ANONYMOUS, run_id)
    return await p.service._acceptance.attach(run, 20.0)


async def test_values_stand_where_only_the_owner_of_the_run_reads_them(start_process: Any) -> None:
    async with start_process(ScriptedProvider(says("ok")), redacting()) as p:
        started = await p.service.start(ANONYMOUS, StartRun(input=f"{ANN} {BOB} {CARD}", session_id="s"))
        await p.service.result(started)
        (event,) = [e for e in await p.events(started.run_id) if e.name == "context.redacted"]
        assert msgspec.json.decode(event.payload) == {"entities": {"EMAIL": 2, "CARD": 1}}
        assert event.private is not None
        assert ANN.encode() in event.private


async def test_a_reset_session_counts_anew(start_process: Any) -> None:
    provider = ScriptedProvider(says("ok"), says("ok"))
    async with start_process(provider, redacting()) as p:
        await turn(p, ANN)
        await p.sessions.reset(ANONYMOUS, "s")
        await turn(p, BOB)
        assert texts(provider.requests[1]) == ["<EMAIL_1>"]


async def test_a_summary_is_made_of_placeholders(start_process: Any) -> None:
    agent = redacting(tools=(), context=Budget(tokens=1_000, summary="default"))
    long = "word " * 700
    provider = ScriptedProvider(
        says("noted"), says("They want <EMAIL_1>."), says("done <EMAIL_1>"), says("and <EMAIL_1>")
    )
    async with start_process(provider, agent) as p:
        await turn(p, f"I am {ANN}. {long}")
        assert (await turn(p, f"go {long[:2500]}")).output == f"done {ANN}"
        assert (await turn(p, "more")).output == f"and {ANN}"
    assert provider.requests[1].purpose == "summary"
    assert all(ANN not in sent(request) for request in provider.requests)
    assert "They want <EMAIL_1>." in sent(provider.requests[3])


async def test_a_fork_goes_on_with_the_same_placeholders(start_process: Any) -> None:
    provider = ScriptedProvider(says("to <EMAIL_2>"), says("to <EMAIL_2> <EMAIL_3>"))
    async with start_process(provider, redacting()) as p:
        await turn(p, f"{BOB} and {ANN}")
        await p.sessions.fork(ANONYMOUS, "s", new_id="t", after_run=None, user_id=None)
        assert (await turn(p, "and eve@example.org", "t")).output == f"to {ANN} eve@example.org"
        assert provider.requests[1].messages[:1] == provider.requests[0].messages


async def test_a_fork_has_the_numbers_that_the_model_knows(start_process: Any) -> None:
    """Also those of values that came by variables and are in none of its messages; the provider's own items name them."""
    native = Native(api="openai-responses", items=msgspec.Raw(b'[{"text":"I will always write to <EMAIL_2>"}]'))
    provider = ScriptedProvider(
        says("I will always write to <EMAIL_2>", native=native),
        says("", ("c1", "echo", '{"to":"<EMAIL_2>"}')),
        says("ok"),
    )
    async with start_process(provider, redacting()) as p:
        p.worker._render = p.service._render = lambda agent, context: (f"{agent.instructions} {context.get('me')}", {})
        await turn(p, f"Always write to {BOB}", context={"me": ANN})
        assert texts(provider.requests[0]) == ["Always write to <EMAIL_2>"]
        await p.sessions.fork(ANONYMOUS, "s", new_id="f", after_run=None, user_id=None)
        await turn(p, "mail him, not carl@example.org", "f")
        assert texts(provider.requests[1])[-1] == "mail him, not <EMAIL_3>"
        assert [call.arguments for call in p.toolbox.calls] == [f'{{"to":"{BOB}"}}']
        await p.sessions.fork(ANONYMOUS, "f", new_id="g", after_run=None, user_id=None)
        assert (await p.sessions.messages(ANONYMOUS, "g"))[0][1].content == f"Always write to {BOB}"


async def test_a_resumed_run_has_the_numbers_that_the_model_knows(start_process: Any) -> None:
    """Also where turns came after it: what was redacted in the run that failed is the session's."""
    provider = ScriptedProvider(
        says("hello"),
        says("", ("c1", "echo", f'{{"x":"{BOB}"}}')),
        [Exception("boom")],
        says("I will mail <EMAIL_1>"),
        says("", ("c9", "echo", '{"to":"<EMAIL_1>"}')),
        says("ok"),
    )
    async with start_process(provider, redacting()) as p:
        await turn(p, "hi")
        failed = await p.service.start(ANONYMOUS, StartRun(input=f"{ANN} and carl@example.org", session_id="s"))
        assert (await p.service.result(failed)).status == "failed"
        await turn(p, f"mail dave@example.org later, {ANN} now")
        await p.service.result(await p.service.resume(ANONYMOUS, failed.run_id))
        assert "mail <EMAIL_4> later, <EMAIL_1> now" in texts(provider.requests[4])
        assert p.toolbox.calls[-1].arguments == f'{{"to":"{ANN}"}}'
        assert len([t for t in texts(provider.requests[4]) if t == "<EMAIL_1> and <EMAIL_2>"]) == 1


async def test_a_policy_that_comes_later_hides_what_was_said_before_it(start_process: Any, database: str) -> None:
    """Also in the provider's own items of earlier answers, which are not sent again then."""
    native = Native(api="openai-responses", items=msgspec.Raw(msgspec.json.encode([{"text": f"for {ANN}"}])))
    async with start_process(ScriptedProvider(says(f"for {ANN}", native=native)), react()) as p:
        await turn(p, f"I am {ANN}")
    provider = ScriptedProvider(says("ok"))
    async with start_process(provider, redacting()) as p:
        await turn(p, "again")
        assert texts(provider.requests[0]) == ["I am <EMAIL_1>", "for <EMAIL_1>", "again"]
        assert ANN not in sent(provider.requests[0])
        assert provider.requests[0].messages[1].native is None
