"""What a run may use: its own tokens and dollars, its user's and its tenant's month; and how it ends where nothing is left."""

from __future__ import annotations

import asyncio
from collections import Counter
from decimal import Decimal
from typing import Any

import msgspec
import pytest

from app.agent.decide import USED_UP
from app.domain import events as ev
from app.domain.agents import Agent, Limits
from app.domain.errors import RequestError
from app.domain.messages import Usage
from app.domain.models import Completed, ModelChunk, TextDelta
from app.domain.prices import Price, Rates
from app.domain.principals import ANONYMOUS, Principal
from app.domain.usage import Caps
from app.runs.service import StartRun
from tests.runs.conftest import Harness, react
from tests.runs.test_durability import sound
from tests.scripted import ScriptedProvider, says
from tests.waiting import until

ANN = Principal(tenant="default", user="ann")
PRICE = Price(rates=Rates(input=Decimal(0), output=Decimal(10_000)))
"""A cent a token that the model writes: `says` costs five."""
LEVELS = (Decimal("0.5"), Decimal("0.8"), Decimal(1))
ECHO = ("c1", "echo", '{"n":1}')


def used(text: str, usage: Usage, *calls: tuple[str, str, str]) -> list[ModelChunk]:
    *chunks, last = says(text, *calls)
    assert isinstance(last, Completed)
    return [*chunks, msgspec.structs.replace(last, usage=usage)]


def limited(**limits: Any) -> Agent:
    more = limits.pop("agent", {})
    return react(limits=Limits(**limits), **more)


async def ended(
    p: Harness, principal: Principal = ANONYMOUS, **more: Any
) -> tuple[ev.RunFinished, list[ev.StoredEvent]]:
    started = await p.service.start(principal, StartRun(input="go", **more))
    end = await p.service.result(started)
    assert isinstance(end, ev.RunFinished)
    events = await p.events(started.run_id)
    sound(events)
    return end, events


async def rows(p: Harness) -> list[dict[str, Any]]:
    return [dict(row) for row in await p.database.fetch("SELECT * FROM usage ORDER BY started_at, id")]


async def reserved(p: Harness) -> set[Decimal]:
    return {row["reserved"] for row in await p.database.fetch("SELECT reserved FROM budgets")}


async def test_the_last_call_that_can_be_paid_for_answers(start_process: Any) -> None:
    """100 tokens: after a call of 40 there are 60 left, which would not pay for two more."""
    forty = Usage(input_tokens=30, output_tokens=10)
    provider = ScriptedProvider(used("First. ", forty, ECHO), used("What I know.", forty))
    async with start_process(provider, limited(tokens=100)) as p:
        end, _ = await ended(p)
    assert (end.status, end.stop_reason, end.output, end.degraded) == (
        "succeeded",
        "token_budget",
        "What I know.",
        False,
    )
    assert [(request.tool_choice, request.max_output_tokens) for request in provider.requests] == [
        ("auto", 100),
        ("none", 60),
    ]


async def test_where_nothing_is_left_what_was_said_last_is_the_answer(start_process: Any) -> None:
    all_of_it = Usage(input_tokens=95, output_tokens=5)
    provider = ScriptedProvider(used("It may be 42.", all_of_it, ECHO))
    async with start_process(provider, limited(tokens=100)) as p:
        end, events = await ended(p)
    assert (end.status, end.stop_reason, end.output, end.degraded) == (
        "succeeded",
        "token_budget",
        "It may be 42.",
        False,
    )
    assert [event.name for event in events].count("message.completed") == 1


@pytest.mark.parametrize(
    ("agent", "status", "output"),
    [
        ({}, "succeeded", "The budget for this is used up, and there was no answer yet."),
        ({"fallback_reply": "Ask again tomorrow."}, "succeeded", "Ask again tomorrow."),
        ({"output_schema": {"type": "object"}}, "failed", None),
        ({"output_schema": {"type": "object"}, "fallback_reply": '{"a": 1}'}, "succeeded", {"a": 1}),
    ],
)
async def test_where_nothing_was_said_it_says_so(start_process: Any, agent: Any, status: str, output: Any) -> None:
    provider = ScriptedProvider(used("", Usage(input_tokens=95, output_tokens=5), ECHO))
    async with start_process(provider, limited(tokens=100, agent=agent)) as p:
        end, events = await ended(p, session_id="s")
        said = [m.content for _, m in await p.sessions.messages(ANONYMOUS, "s") if m.role == "assistant" and m.content]
    assert (end.status, end.output) == (status, output)
    assert end.stop_reason == ("token_budget" if status == "succeeded" else "invalid_output")
    assert end.degraded == (status == "succeeded")
    if status == "succeeded":
        assert (said[-1] if isinstance(output, str) else msgspec.json.decode(said[-1])) == output
    assert "run.finished" in [event.name for event in events]


async def test_a_limit_in_dollars_bounds_the_output(start_process: Any) -> None:
    """30 cents: the first may write 30 tokens, and writes 5."""
    provider = ScriptedProvider(says("One. ", ECHO), says("Two. ", ("c2", "echo", "{}")), says("Three."), price=PRICE)
    async with start_process(provider, limited(cost_usd=0.3)) as p:
        end, _ = await ended(p)
        settled = await rows(p)
        assert await reserved(p) == {0}
    assert (end.stop_reason, end.output, end.cost_usd) == ("completed", "Three.", 0.15)
    assert [request.max_output_tokens for request in provider.requests] == [30, 25, 20]
    assert [row["cost_usd"] for row in settled] == [Decimal("0.05")] * 3
    assert [row["reserved_usd"] for row in settled] == [Decimal("0.3"), Decimal("0.25"), Decimal("0.2")]


async def test_the_last_call_that_the_dollars_pay_for_answers(start_process: Any) -> None:
    ten = Usage(input_tokens=10, output_tokens=10)
    provider = ScriptedProvider(used("One. ", ten, ECHO), used("Two.", ten), price=PRICE)
    async with start_process(provider, limited(cost_usd=0.28)) as p:
        end, _ = await ended(p)
    assert (end.status, end.stop_reason, end.output) == ("succeeded", "cost_budget", "Two.")
    assert [(request.tool_choice, request.max_output_tokens) for request in provider.requests] == [
        ("auto", 28),
        ("none", 18),
    ]


async def test_dollars_that_pay_for_no_sentence_end_the_run(start_process: Any) -> None:
    provider = ScriptedProvider(used("One.", Usage(input_tokens=10, output_tokens=18), ECHO), price=PRICE)
    async with start_process(provider, limited(cost_usd=0.2)) as p:
        end, _ = await ended(p)  # two cents are left
        assert len(await rows(p)) == 1
    assert (end.stop_reason, end.output, len(provider.requests)) == ("cost_budget", "One.", 1)


async def test_a_default_limit_in_dollars_does_not_bound_what_has_no_price(start_process: Any) -> None:
    provider = ScriptedProvider(says("Hello."))
    async with start_process(provider, react()) as p:
        end, _ = await ended(p)
        (row,) = await rows(p)
    assert (end.stop_reason, end.cost_usd, row["cost_usd"], row["reserved_usd"]) == ("completed", None, None, 0)
    assert provider.requests[0].max_output_tokens is None


async def test_a_month_that_is_used_up_ends_a_run_with_what_it_has(start_process: Any) -> None:
    """30 cents a month, 16 reserved for each call: the second is refused."""
    provider = ScriptedProvider(used("So far.", Usage(input_tokens=100, output_tokens=15), ECHO), price=PRICE)
    agent = react(max_output_tokens=16)
    async with start_process(provider, agent, caps=Caps(tenant=Decimal("0.3"), levels=LEVELS)) as p:
        end, events = await ended(p, ANN, user_id="ann")
        assert (end.status, end.stop_reason, end.output) == ("succeeded", "cost_budget", "So far.")
        assert await reserved(p) == {0}
        assert len(await rows(p)) == 1
        told = [msgspec.json.decode(event.payload) for event in events if event.name == "budget.crossed"]
        assert told == [{"scope": "tenant", "level": 0.5, "spent_usd": None, "cap_usd": None}]


async def test_a_users_budget_says_its_dollars_and_nothing_of_the_tenants(start_process: Any) -> None:
    provider = ScriptedProvider(says("Hello."), price=PRICE)
    caps = Caps(tenant=Decimal(100), user=Decimal("0.1"), levels=LEVELS)
    async with start_process(provider, react(max_output_tokens=5), caps=caps) as p:
        _, events = await ended(p, ANN, user_id="ann")
    told = [msgspec.json.decode(event.payload) for event in events if event.name == "budget.crossed"]
    assert told == [{"scope": "user", "level": 0.5, "spent_usd": 0.05, "cap_usd": 0.1}]
    assert [event.name for event in events][-2:] == ["budget.crossed", "run.finished"]


async def test_no_run_is_made_where_nothing_is_left(start_process: Any) -> None:
    provider = ScriptedProvider(used("Dear.", Usage(input_tokens=0, output_tokens=100)), says("x"), price=PRICE)
    caps = Caps(tenant=Decimal(2), user=Decimal(1), levels=LEVELS)
    async with start_process(provider, react(max_output_tokens=16), caps=caps) as p:
        await ended(p, ANN, user_id="ann")
        with pytest.raises(RequestError) as refused:
            await p.service.start(ANN, StartRun(input="go", user_id="ann"))
        assert (refused.value.code, refused.value.retry_after) == ("budget_exhausted", 3600.0)
        assert "The user's budget" in refused.value.detail
        assert "-01T00:00:00Z" in refused.value.detail
        assert await p.database.fetchval("SELECT count(*) FROM runs") == 1
        assert (await ended(p, user_id="bob"))[0].output == "x"


async def test_the_rest_of_a_month_is_spent_by_shorter_answers_until_it_pays_for_none(start_process: Any) -> None:
    """A cent a token: an answer without a bound would reserve 164 dollars."""
    provider = ScriptedProvider(*[says("answer")] * 5, price=PRICE)
    agent = limited(cost_usd=1_000.0)
    async with start_process(provider, agent, caps=Caps(user=Decimal("0.25"), levels=LEVELS)) as p:
        for left in (25, 20):
            end, _ = await ended(p, ANN)
            assert (end.stop_reason, end.output) == ("completed", "answer")
            assert p.provider.requests[-1].max_output_tokens == left
        end, _ = await ended(p, ANN)  # fifteen tokens are too few to ask for
        assert (end.stop_reason, end.output, len(p.provider.requests)) == ("cost_budget", USED_UP, 2)
        assert await reserved(p) == {Decimal(0)}


async def test_no_run_is_made_where_the_rest_pays_for_no_answer(start_process: Any) -> None:
    provider = ScriptedProvider(*[says("answer")] * 5, price=PRICE, least=Decimal("0.16"))
    async with start_process(provider, limited(cost_usd=1_000.0), caps=Caps(user=Decimal("0.25"), levels=LEVELS)) as p:
        for _ in range(2):
            await ended(p, ANN)
        with pytest.raises(RequestError) as refused:
            await p.service.start(ANN, StartRun(input="go"))
        assert refused.value.code == "budget_exhausted"
        await ended(p)


async def test_sixty_four_at_once_with_room_for_nine(start_process: Any) -> None:
    """Over two processes: no call ends before all have asked, so that no settlement makes room."""
    hold = asyncio.Event()
    provider = ScriptedProvider(*[[TextDelta("x"), hold, *says("x")[1:]]] * 64, price=PRICE)
    agent = limited(cost_usd=50.0, agent={"max_output_tokens": 100})
    more: dict[str, Any] = {"caps": Caps(tenant=Decimal("9.5"), levels=LEVELS), "concurrency": 64}
    async with (
        start_process(provider, agent, **more, owner="one") as one,
        start_process(provider, agent, **more, owner="two") as two,
    ):

        async def ask(n: int) -> str:
            try:
                started = await (one, two)[n % 2].service.start(ANONYMOUS, StartRun(input="go"))
            except RequestError as error:
                return error.code
            end = await (one, two)[n % 2].service.result(started)
            assert isinstance(end, ev.RunFinished)
            return str(end.stop_reason)

        asking = [asyncio.create_task(ask(n)) for n in range(64)]
        await until(lambda: sum(task.done() for task in asking) == 64 - 9)
        assert len(provider.requests) == 9
        assert await reserved(one) == {9}
        hold.set()
        said = Counter(await asyncio.gather(*asking))
        assert await reserved(one) == {0}
    assert said["completed"] == len(provider.requests) == 9
    assert set(said) <= {"completed", "cost_budget", "budget_exhausted"}
