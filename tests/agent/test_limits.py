"""A run's tokens and dollars: what they bound, which call is the last, and what the answer is where none can be made."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from app.agent import context
from app.agent.decide import USED_UP, CallModel, CallTools, Finish, decide, hurry
from app.agent.endings import late, stopped
from app.agent.limits import OPEN_OUTPUT
from app.domain import events as ev
from app.domain.agents import Limits
from app.domain.messages import ToolCall, Usage
from tests.agent.states import SCHEMA, agent, asked, rejected, result, said, state, user

A = ToolCall("a", "echo", "{}")


def took(tokens: int, cost: float | None = None, outcome: Any = "ok") -> ev.UsageRecorded:
    return ev.UsageRecorded(
        attempt=1, route="r", provider="p", model="m", outcome=outcome, usage=Usage(input_tokens=tokens, output_tokens=0),
        cost_usd=cost, duration_ms=1.0, time_to_first_token_ms=None,
    )  # fmt: skip


def of(**limits: Any) -> Any:
    more = limits.pop("agent", {})
    return agent(limits=Limits(**limits), **more)


def test_nobody_wrote_a_limit_down() -> None:
    limits = Limits()
    assert (limits.most_tokens, limits.most_usd) == (100_000, 0.5)
    assert Limits(tokens=7, cost_usd=2.5).most_tokens == 7


@pytest.mark.parametrize(
    ("tokens", "cost", "tools"),
    [
        (10, None, "auto"),
        (33, 0.10, "auto"),
        (34, 0.10, "none"),  # 66 are left, which would not pay for two more of 34
        (10, 0.16, "auto"),
        (10, 0.17, "none"),
    ],
)
def test_the_call_that_must_be_the_last(tokens: int, cost: float | None, tools: Any) -> None:
    run = state(user(), asked("m1", A), took(tokens, cost), result(A), of=of(tokens=100, cost_usd=0.5))
    assert decide(run) == CallModel(tools=tools)


@pytest.mark.parametrize(
    ("tokens", "cost", "reason"),
    [
        (84, None, None),
        (85, None, "token_budget"),
        (120, 0.5, "token_budget"),
        (10, 0.5, "cost_budget"),
        (10, 0.49, None),
    ],
)
def test_the_call_that_is_not_made(tokens: int, cost: float | None, reason: Any) -> None:
    run = state(
        user(), said("m0", "Look."), asked("m1", A), took(tokens, cost), result(A), of=of(tokens=100, cost_usd=0.5)
    )
    want = CallModel(tools="none") if reason is None else Finish(stop_reason=reason, output="Look.")
    assert decide(run) == want
    assert hurry(run) == want


def test_what_is_under_way_is_done() -> None:
    run = state(user(), asked("m1", A), took(1000), of=of(tokens=100))
    assert decide(run) == CallTools((A,))


def test_failed_attempts_count_too() -> None:
    run = state(user(), took(50, None, "stream_broken"), took(40, None, "cancelled"), of=of(tokens=100))
    assert decide(run) == Finish(stop_reason="token_budget", output=USED_UP, degraded=True, says=USED_UP)


def test_an_answer_of_the_last_call_says_why_it_is_one() -> None:
    spent: list[ev.Event] = [user(), asked("m1", A), took(60), result(A)]
    assert decide(state(*spent, said("m2", "So far."), of=of(tokens=100))) == Finish(
        stop_reason="token_budget", output="So far."
    )
    early: list[ev.Event] = [user(), asked("m1", A), took(20), result(A)]
    assert decide(state(*early, said("m2", "All."), took(90), of=of(tokens=100))) == Finish(output="All.")


def test_a_draft_that_does_not_count_is_no_answer() -> None:
    run = state(
        user(), said("m1", "no json"), took(99), rejected("m1"), of=of(tokens=100, agent={"output_schema": SCHEMA})
    )
    end = decide(run)
    assert isinstance(end, Finish)
    assert (end.status, end.stop_reason) == ("failed", "invalid_output")
    fits = state(
        user(), said("m1", '{"n": 1}', A), took(99), result(A), of=of(tokens=100, agent={"output_schema": SCHEMA})
    )
    assert decide(fits) == Finish(stop_reason="token_budget", output={"n": 1})


def test_time_up_and_nothing_left() -> None:
    """What would be said in the place of an answer is none, so the caller is told that the time was up."""
    run = state(user(), took(100), of=of(tokens=100))
    assert late(hurry(run), run.agent) == stopped("timeout")


@pytest.mark.parametrize(
    ("limit", "asked_for", "want"),
    [
        (100_000, None, None),
        (OPEN_OUTPUT, None, None),
        (OPEN_OUTPUT - 1, None, OPEN_OUTPUT - 1),
        (50, 1000, 50),
        (1000, 50, 50),
        (10, None, 16),
    ],
)
def test_the_rest_bounds_the_output(limit: int, asked_for: int | None, want: int | None) -> None:
    run = state(user(), of=of(tokens=limit, cost_usd=2.5, agent={"max_output_tokens": asked_for}))
    request = context.build(run, "auto")
    assert (request.max_output_tokens, request.usd_left) == (want, Decimal("2.5"))
