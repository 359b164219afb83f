"""A long session: what is sent fits the agent's budget, the journal says how much was left out, and the history is whole."""

from __future__ import annotations

from typing import Any

import msgspec

from app.agent.trimming import shortened
from app.domain.agents import Budget
from app.domain.principals import ANONYMOUS
from app.runs.service import StartRun
from tests.runs.conftest import react
from tests.scripted import ScriptedProvider, says


async def test_a_long_sessions_next_call_is_trimmed_and_the_journal_says_so(start_process: Any) -> None:
    provider = ScriptedProvider(*[says(f"answer {n}") for n in range(5)])
    long = "word " * 400
    async with start_process(provider, react(context=Budget(tokens=2_000))) as p:
        runs = []
        for n in range(5):
            started = await p.service.start(ANONYMOUS, StartRun(input=f"{n} {long}", session_id="s"))
            assert (await p.service.result(started)).output == f"answer {n}"
            runs.append(started.run_id)
        sent = [[message.content[-8:] for message in request.messages] for request in provider.requests]
        word = long[-8:]
        # Three turns fit; with the fourth the first two are left out, to have a quarter free again; the fifth fits beside it.
        assert sent == [
            [word],
            [word, "answer 0", word],
            [word, "answer 0", word, "answer 1", word],
            [word, "answer 2", word],
            [word, "answer 2", word, "answer 3", word],
        ]
        assert provider.requests[3].messages[0].content.startswith("[The 4 messages before this one were left out")
        assert provider.requests[4].messages[:3] == provider.requests[3].messages

        said = []
        for run_id in runs:
            (usage,) = [event for event in await p.events(run_id) if event.name == "usage.recorded"]
            said.append(msgspec.json.decode(usage.payload).get("trimmed_tokens"))
        assert said[:3] == [None] * 3
        assert 950 < said[3] == said[4] < 1_050
        assert said[3:] == [request.trimmed_tokens for request in provider.requests[3:]]
        kept = [message.content for _, message in await p.sessions.messages(ANONYMOUS, "s")]
        assert kept == [text for n in range(5) for text in (f"{n} {long}", f"answer {n}")]


async def test_a_long_result_is_short_in_the_next_turn_only(start_process: Any) -> None:
    arguments = msgspec.json.encode({"x": "y" * 3_000}).decode()
    provider = ScriptedProvider(says("", ("c1", "echo", arguments)), says("done"), says("again"))
    async with start_process(provider, react(context=Budget(tool_result=500))) as p:
        for text in ("first", "second"):
            await p.service.result(await p.service.start(ANONYMOUS, StartRun(input=text, session_id="s")))
        results = [
            [message.content for message in request.messages if message.role == "tool"] for request in provider.requests
        ]
        (whole,) = results[1]
        assert len(whole) > 3_000
        assert results == [[], [whole], [shortened(whole, 500)]]
        stored = [message.content for _, message in await p.sessions.messages(ANONYMOUS, "s") if message.role == "tool"]
        assert stored == [whole]
