"""A session that outgrows its budget: what is left out is summed up once, and every process goes on with the same summary."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest

from app.domain.agents import Budget
from app.domain.errors import ProviderError
from app.domain.events import RunFinished
from app.domain.models import ModelRequest
from app.domain.principals import ANONYMOUS
from app.runs.service import StartRun
from tests.runs.conftest import Harness, react
from tests.runs.test_durability import end_of
from tests.scripted import ScriptedProvider, says
from tests.waiting import until

LONG = "word " * 400
AGENT = react(context=Budget(tokens=2_000, summary="cheap"))


class Talk(ScriptedProvider):
    """Answers `answer N`, N the number of the user's message; sums up in `summaries`, one after another."""

    def __init__(self, *summaries: Any) -> None:
        super().__init__()
        self.summaries = list(summaries)

    def stream(self, request: ModelRequest, recorder: Any) -> Any:
        if request.purpose == "summary":
            self.answers.append(self.summaries.pop(0))
        else:
            number = request.messages[-1].content.partition("\n\n")[2] or request.messages[-1].content
            self.answers.append(says(f"answer {number.split()[0]}"))
        return super().stream(request, recorder)

    @property
    def asked(self) -> list[ModelRequest]:
        return [request for request in self.requests if request.purpose == "summary"]

    @property
    def last(self) -> ModelRequest:
        return self.requests[-1]


async def turns(p: Harness, *numbers: int) -> list[str]:
    runs = []
    for n in numbers:
        started = await p.service.start(ANONYMOUS, StartRun(input=f"{n} {LONG}", session_id="s"))
        result = await p.service.result(started)
        assert isinstance(result, RunFinished)
        assert result.output == f"answer {n}"
        runs.append(started.run_id)
    return runs


async def events(p: Harness, run_id: str, name: str) -> list[Any]:
    return [msgspec.json.decode(event.payload) for event in await p.events(run_id) if event.name == name]


async def test_what_is_left_out_is_summed_up_once_and_kept(start_process: Any) -> None:
    talk = Talk(says("They count."), says("They count on."))
    async with start_process(talk, AGENT) as p:
        runs = await turns(p, 0, 1, 2, 3)
        (ask,) = talk.asked
        assert (ask.route, ask.tools, ask.affinity) == ("cheap", (), "s")
        told = ask.messages[0].content
        assert "User: 0 word" in told
        assert "Assistant: answer 0" in told
        assert "3 word" not in told
        first = talk.last.messages[0].content
        (event,) = await events(p, runs[-1], "context.compacted")
        count = event["messages"]
        assert first.startswith(
            f"[Summary of the {count} messages before this one:]\nThey count.\n[End of the summary.]\n\n"
        )
        assert (event["summary"], event["upto"]) == ("They count.", talk.last.messages[0].id)
        assert event["saved_tokens"] == talk.last.trimmed_tokens > 0
        assert [e.get("purpose") for e in await events(p, runs[-1], "usage.recorded")] == ["summary", None]
        run = await p.service.run(ANONYMOUS, runs[-1])
        assert (run.iterations, run.usage.input_tokens) == (1, 20)
        assert [step.output for step in await p.service.steps(ANONYMOUS, runs[-1])] == [
            None,
            {"content": "answer 3", "tool_calls": ()},
        ]

        elsewhere = Talk()
        async with start_process(elsewhere, AGENT) as q:
            await turns(q, 4)
        assert elsewhere.last.messages[: len(talk.last.messages)] == talk.last.messages
        await turns(p, 5, 6)
        assert len(talk.asked) == 2
        again = talk.asked[1].messages[0].content
        assert "<summary-so-far>\nThey count.\n</summary-so-far>" in again
        assert "answer 0" not in again
        assert "They count on." in talk.last.messages[0].content
        kept = [message.content for _, message in await p.sessions.messages(ANONYMOUS, "s")]
        assert kept == [text for n in range(7) for text in (f"{n} {LONG}", f"answer {n}")]


@pytest.mark.parametrize(
    "summary",
    [[ProviderError("overloaded", "no")], says("I cannot.", stop="refusal"), says("  \n")],
    ids=["failed", "refused", "empty"],
)
async def test_without_a_summary_it_is_left_out_as_ever(start_process: Any, summary: Any) -> None:
    talk = Talk(summary, says("Second try."))
    async with start_process(talk, AGENT) as p:
        runs = await turns(p, 0, 1, 2, 3)
        assert "messages before this one were left out" in talk.last.messages[0].content
        assert [e["summary"] for e in await events(p, runs[-1], "context.compacted")] == [None]
        await turns(p, 4)
        assert "Second try." in talk.last.messages[0].content


async def test_a_summary_without_end_is_cut(start_process: Any) -> None:
    talk = Talk(says("long " * 5_000))
    async with start_process(talk, AGENT) as p:
        (*_, last) = await turns(p, 0, 1, 2, 3)
        (event,) = await events(p, last, "context.compacted")
        assert 900 < len(event["summary"]) <= 1_000


async def test_who_goes_on_after_a_kill_asks_for_no_second_summary(start_process: Any) -> None:
    class Stuck(Talk):
        def stream(self, request: ModelRequest, recorder: Any) -> Any:
            chunks = super().stream(request, recorder)
            if self.asked and request.purpose != "summary":
                self.answers[-1] = [asyncio.Event()]
            return chunks

    stuck, talk = Stuck(says("They count.")), Talk()
    async with start_process(stuck, AGENT, lease=0.3) as p:
        await turns(p, 0, 1, 2)
        started = await p.service.start(ANONYMOUS, StartRun(input=f"3 {LONG}", session_id="s"))
        await until(lambda: len(stuck.requests) == 5)
        await p.die()
        async with start_process(talk, AGENT, owner="other") as q:
            await end_of(q, started.run_id)
            assert (talk.asked, len(talk.requests)) == ([], 1)
            assert talk.last.messages == stuck.last.messages
            assert len(await events(q, started.run_id, "context.compacted")) == 1


async def test_a_new_beginning_has_no_summary(start_process: Any) -> None:
    talk = Talk(says("They count."))
    async with start_process(talk, AGENT) as p:
        await turns(p, 0, 1, 2, 3)
        await p.sessions.reset(ANONYMOUS, "s")
        await turns(p, 4)
        assert talk.last.messages[0].content == f"4 {LONG}"
