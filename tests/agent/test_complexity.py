"""What the score says of questions, where it says nothing, and what raises a run's tier."""

from __future__ import annotations

import pytest

from app.agent.complexity import FEATURES, LONG_CONTEXT, Asked, raised, score
from app.domain.fold import RunState, tool_message
from app.domain.messages import ToolCall
from app.domain.tiers import Tier, TierDecision, TierRoute, higher
from tests.agent.states import SCHEMA, agent, asked, rejected, said, state, user

ROUTE = TierRoute(routes={"cheap": "a", "mid": "b", "premium": "c"})
HARD = (
    "Design an algorithm that finds the longest substring with at most k distinct characters in linear time, prove its "
    "correctness with a loop invariant, and state its space complexity."
)


@pytest.mark.parametrize(
    ("text", "history", "tier", "reason"),
    [
        ("What is the capital of Australia?", 0, "cheap", "plain_question"),
        ("Thanks!", 0, "cheap", "plain_question"),
        (HARD, 0, "premium", "reasoning_words"),
        ("Write a short cover letter for a junior accountant.", 0, None, "between_thresholds"),
        ("", 0, None, "between_thresholds"),
        ("What is это такое?", 0, None, "unknown_language"),
        ("What is it?", 3_000, None, "refers_back"),
        ("What is the capital of Australia, by the way?", 3_000, "cheap", "plain_question"),
    ],
)
def test_the_score_decides_clear_cases_and_nothing_else(
    text: str, history: int, tier: Tier | None, reason: str
) -> None:
    verdict = score(Asked(text, history), ROUTE)
    assert verdict.tier == tier
    assert reason in verdict.reasons


def test_each_feature_alone_moves_the_score_by_its_weight_at_most() -> None:
    texts = [HARD * 20, "what is it?", "```\ncode\n```", "1. a\n2. b\n3. c\n4. d\n5. e", "must must must must"]
    for text in texts:
        for feature in FEATURES:
            assert 0.0 <= feature.measure(Asked(text, 10**9)) <= 1.0
    assert {feature.name for feature in FEATURES if feature.weight < 0} == {"plain_question"}


def test_thresholds_are_the_routes_own() -> None:
    eager = TierRoute(routes=ROUTE.routes, cheap_below=0.3, premium_from=0.3)
    assert score(Asked("Write a short cover letter."), eager).tier == "cheap"
    assert score(Asked(HARD), TierRoute(routes=ROUTE.routes, premium_from=2.0)).tier is None


def decided(run: RunState, tier: Tier) -> RunState:
    run.decided(TierDecision(route="auto", tier=tier, by="score", score=0.1))
    return run


def call(n: int) -> ToolCall:
    return ToolCall(f"c{n}", "echo", "{}")


def with_errors(count: int) -> RunState:
    run = state(user(), asked("m1", *map(call, range(count))))
    for n in range(count):
        run.messages.append(tool_message(f"c{n}", "echo", "no", True))
    return run


@pytest.mark.parametrize(
    ("run", "size", "tier", "reasons"),
    [
        (state(user()), 0, None, ()),
        (with_errors(1), 0, None, ()),
        (with_errors(2), 0, "mid", ("tool_errors",)),
        (with_errors(5), 0, "premium", ("tool_errors",)),
        (state(user()), LONG_CONTEXT, "mid", ("long_context",)),
        (with_errors(2), LONG_CONTEXT, "premium", ("tool_errors", "long_context")),
        (
            state(user(), said("m1", "{}"), rejected("m1"), of=agent(output_schema=SCHEMA)),
            0,
            "mid",
            ("invalid_output",),
        ),
    ],
)
def test_what_raises_a_run(run: RunState, size: int, tier: Tier | None, reasons: tuple[str, ...]) -> None:
    decision = raised(decided(run, "cheap"), size)
    assert (decision and decision.tier) == tier
    if decision is not None:
        assert (decision.by, decision.route, decision.reasons) == ("raised", "auto", reasons)


def test_many_steps_raise_a_run() -> None:
    run = decided(state(user()), "cheap")
    for n in range(6):
        assert raised(run, 0) is None
        run.apply(asked(f"m{n}", call(n)))
    decision = raised(run, 0)
    assert decision is not None
    assert decision.reasons == ("many_steps",)


def test_a_run_never_goes_down_and_never_above_the_highest() -> None:
    run = decided(state(user()), "cheap")
    up = raised(run, LONG_CONTEXT)
    assert up is not None
    run.decided(up)
    assert raised(run, 0) is None, "the context is short again"
    assert raised(run, LONG_CONTEXT) is None, "one signal raises once"
    assert run.first_tier is not None
    assert (run.first_tier.tier, run.tier) == ("cheap", up)
    top = decided(with_errors(9), "premium")
    assert raised(top, 10**9) is None
    assert (higher("mid", 9), higher("cheap", 0)) == ("premium", "cheap")
