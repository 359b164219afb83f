"""The tier of a run: decided with its question, kept, raised, recorded, and the same after a crash."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest

from app.domain import events as ev
from app.domain.errors import ProviderError
from app.domain.models import ModelRequest
from app.domain.principals import ANONYMOUS
from app.domain.tiers import Tier, TierRoute
from app.runs.service import StartRun
from tests.agent.states import SCHEMA
from tests.agent.test_complexity import HARD
from tests.runs.asking import ends
from tests.runs.conftest import Harness, react
from tests.scripted import ScriptedProvider, says
from tests.waiting import until

ROUTES: dict[Tier, str] = {"cheap": "fast", "mid": "default", "premium": "best"}
SCORED = {"auto": TierRoute(routes=ROUTES)}
ASKED = {"auto": TierRoute(routes=ROUTES, classifier="sorter")}
EASY = "What is the capital of Australia?"
UNCLEAR = "Write a cover letter."


def auto(**more: Any) -> Any:
    return react(model="auto", **more)


async def usages(p: Harness, run_id: str) -> list[ev.UsageRecorded]:
    decoded = [ev.decode(event) for event in await p.events(run_id)]
    return [event for event in decoded if isinstance(event, ev.UsageRecorded)]


def routes(provider: ScriptedProvider) -> list[str]:
    return [request.route for request in provider.requests]


@pytest.mark.parametrize(
    ("question", "route", "tier", "by"),
    [(EASY, "fast", "cheap", "score"), (HARD, "best", "premium", "score"), (UNCLEAR, "default", "mid", "default")],
)
async def test_a_run_goes_where_its_question_belongs(
    start_process: Any, question: str, route: str, tier: str, by: str
) -> None:
    provider = ScriptedProvider(says("", ("c1", "echo", "{}")), says("done"))
    async with start_process(provider, auto(), tiers=SCORED) as p:
        started = await p.service.start(ANONYMOUS, StartRun(input=question))
        end = await p.service.result(started)
        assert routes(provider) == [route, route], "one decision for the whole run"
        assert end.tier == tier
        for usage in await usages(p, started.run_id):
            assert isinstance(usage.tier, msgspec.Struct)
            assert (usage.route, usage.tier.route, usage.tier.tier, usage.tier.by) == (route, "auto", tier, by)
        assert [(decision.tier, decision.by) for decision in p.notes.tiers] == [(tier, by)]


async def test_a_route_without_tiers_says_nothing_of_them(start_process: Any) -> None:
    async with start_process(ScriptedProvider(says("done")), react(), tiers=SCORED) as p:
        started = await p.service.start(ANONYMOUS, StartRun(input=HARD))
        end = await p.service.result(started)
        (finished,) = [e for e in await p.events(started.run_id) if e.name == "run.finished"]
        (usage,) = [e for e in await p.events(started.run_id) if e.name == "usage.recorded"]
        assert end.tier is msgspec.UNSET
        assert b'"tier"' not in finished.payload + usage.payload
        assert p.notes.tiers == []


@pytest.mark.parametrize(("said", "tier"), [("premium", "premium"), (" Cheap.\n", "cheap"), ("**MID**", "mid")])
async def test_a_classifier_says_what_the_score_does_not(start_process: Any, said: str, tier: Tier) -> None:
    provider = ScriptedProvider(says(said), says("done"))
    async with start_process(provider, auto(), tiers=ASKED) as p:
        started = await p.service.start(ANONYMOUS, StartRun(input=UNCLEAR))
        end = await p.service.result(started)
        assert routes(provider) == ["sorter", ROUTES[tier]]
        assert (end.tier, end.output, end.model) == (tier, "done", "model")
        asked, answered = await usages(p, started.run_id)
        assert (asked.purpose, asked.route, answered.purpose) == ("classifier", "sorter", msgspec.UNSET)
        assert isinstance(asked.tier, msgspec.Struct)
        assert (asked.tier.by, answered.tier) == ("classifier", asked.tier)
        assert end.usage.input_tokens == 20, "what it used is the run's"
        question = provider.requests[0]
        assert (question.max_output_tokens, question.tools, len(question.messages)) == (16, (), 1)
        assert [(decision.tier, decision.by) for decision in p.notes.tiers] == [(tier, "classifier")]
        steps = await p.service.steps(ANONYMOUS, started.run_id)
        assert [step.output for step in steps] == [None, {"content": "done", "tool_calls": ()}]


@pytest.mark.parametrize(
    "answer",
    [
        says("I think that this is cheap, or perhaps not"),
        says(""),
        [ProviderError("overloaded", "busy")],
        [ProviderError("bad_request", "no")],
        [asyncio.Event()],
    ],
    ids=["nonsense", "silence", "failure", "refusal", "timeout"],
)
async def test_a_classifier_that_says_nothing_leaves_the_default(start_process: Any, answer: Any) -> None:
    provider = ScriptedProvider(answer, says("done"))
    seconds = 1.0 if isinstance(answer[0], asyncio.Event) else 60.0
    slow = {"auto": TierRoute(routes=ROUTES, classifier="sorter", classifier_timeout=seconds)}
    async with start_process(provider, auto(), tiers=slow) as p:
        started = await p.service.start(ANONYMOUS, StartRun(input=UNCLEAR))
        end = await p.service.result(started)
        assert (end.status, end.output, end.tier) == ("succeeded", "done", "mid")
        assert routes(provider) == ["sorter", "default"]
        asked, _ = await usages(p, started.run_id)
        assert isinstance(asked.tier, msgspec.Struct)
        assert (asked.purpose, asked.tier.by) == ("classifier", "default")
        assert [decision.by for decision in p.notes.tiers] == ["default"]


async def test_a_classifier_is_not_asked_where_the_score_decides(start_process: Any) -> None:
    provider = ScriptedProvider(says("Canberra"))
    async with start_process(provider, auto(), tiers=ASKED) as p:
        await p.service.result(await p.service.start(ANONYMOUS, StartRun(input=EASY)))
        assert routes(provider) == ["fast"]


async def test_a_stop_reaches_the_classifier(start_process: Any) -> None:
    provider = ScriptedProvider([asyncio.Event()])
    async with start_process(provider, auto(), tiers=ASKED) as p:
        started = await p.service.start(ANONYMOUS, StartRun(input=UNCLEAR))
        await until(lambda: len(provider.requests) == 1)
        await p.service.cancel(ANONYMOUS, started.run_id, None)
        run = await ends(p, started.run_id)
        assert run.status == "cancelled"
        assert [usage.purpose for usage in await usages(p, started.run_id)] == ["classifier"]


async def test_a_run_that_fares_badly_goes_up_and_stays_there(start_process: Any) -> None:
    provider = ScriptedProvider(says("no json"), says("none either"), says('{"n": 1}'))
    async with start_process(provider, auto(output_schema=SCHEMA), tiers=SCORED) as p:
        started = await p.service.start(ANONYMOUS, StartRun(input=EASY))
        end = await p.service.result(started)
        assert routes(provider) == ["fast", "default", "best"]
        assert (end.output, end.tier) == ({"n": 1}, "premium")
        assert [(d.tier, d.by, d.reasons) for d in p.notes.tiers[1:]] == [
            ("mid", "raised", ("invalid_output",)),
            ("premium", "raised", ("invalid_output",)),
        ]


async def test_the_tier_is_the_same_after_a_crash(start_process: Any) -> None:
    """The classifier is not asked again, and what had raised the run has."""

    def sorted_once(request: ModelRequest) -> Any:
        return says("cheap")

    provider = ScriptedProvider(
        sorted_once,
        says("", ("c1", "nothing", "{}"), ("c2", "nothing", "{}")),
        says("", ("c3", "slow", "{}")),
        says("done"),
    )
    async with start_process(provider, auto(), tiers=ASKED) as dead:
        started = await dead.service.start(ANONYMOUS, StartRun(input=UNCLEAR))
        await dead.toolbox.started.wait()
        await dead.die()
        await dead.store.orphan(["test"])
        async with start_process(provider, auto(), tiers=ASKED) as p:
            p.toolbox.gate.set()
            run = await ends(p, started.run_id)
            assert run.output == "done"
            assert routes(provider) == ["sorter", "fast", "default", "default"]
            assert p.notes.tiers == [], "nothing was decided anew"


async def test_a_crash_in_the_first_call_does_not_ask_the_classifier_again(start_process: Any) -> None:
    provider = ScriptedProvider(says("premium"), [asyncio.Event()], says("done"))
    async with start_process(provider, auto(), tiers=ASKED) as dead:
        started = await dead.service.start(ANONYMOUS, StartRun(input=UNCLEAR))
        await until(lambda: len(provider.requests) == 2)
        await dead.die()
        await dead.store.orphan(["test"])
        async with start_process(provider, auto(), tiers=ASKED) as p:
            await ends(p, started.run_id)
            assert routes(provider) == ["sorter", "best", "best"]
