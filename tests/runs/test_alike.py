"""The semantic cache: near questions of the same scope, the guards between them, and vectors that do not come."""

from __future__ import annotations

import asyncio
from array import array
from collections.abc import Sequence
from typing import Any

import pytest

from app.domain.agents import Agent, Caching
from app.domain.cache import Embedded, Kept, Selection, labels
from app.domain.errors import ProviderError
from app.domain.guards import features
from app.domain.principals import Principal
from app.llm.offline_embedding import OfflineEmbedder
from app.runs.alike import Alike, Point, similarity
from tests.runs.conftest import Harness, react
from tests.runs.test_cache import Echo, ask, chatting
from tests.waiting import until

LABELS = labels("default", "chat", None, {})
A, B, FAR = "How do I reset my password?", "how can I reset my password", "What is the meaning of life?"
HIT, MISS, BYPASS = ("semantic", "hit"), ("semantic", "miss"), ("semantic", "bypass")


class Everything:
    """All texts mean the same to it; it counts how often it is asked. `error` is raised in the place of an answer."""

    provider, system, model = "p", "openai", "m"

    def __init__(self, error: Exception | None = None) -> None:
        self.asked = 0
        self.error = error
        self.gate: asyncio.Event | None = None

    async def embed(self, texts: Sequence[str]) -> Embedded:
        self.asked += 1
        if self.gate is not None:
            await self.gate.wait()
        if self.error is not None:
            raise self.error
        return Embedded([[0.6, 0.8] for _ in texts], 5)


def meaning(**more: Any) -> Agent:
    fields = {"name": "chat", "kind": "chat", "tools": (), "cache": Caching(ttl=60, threshold=0.85)}
    return react(**(fields | more))


async def said(p: Harness, question: str, **more: Any) -> tuple[str, bool]:
    end = await ask(p, question, **more)
    await until(lambda: not p.answers._leads)
    return end.output, end.cached


async def test_a_near_question_has_the_answer_and_says_so(start_process: Any) -> None:
    echo = Echo()
    async with start_process(echo, meaning(), alike=Alike(embedder=OfflineEmbedder())) as p:
        assert await said(p, A) == (f"answer to {A}", False)
        assert await said(p, B) == (f"answer to {A}", True)
        assert await said(p, FAR) == (f"answer to {FAR}", False)
        assert await said(p, A) == (f"answer to {A}", True)
        assert p.counts == {("exact", "miss"): 3, ("exact", "hit"): 1, MISS: 2, HIT: 1}


async def test_an_agent_that_did_not_ask_for_it_pays_for_no_vector(start_process: Any) -> None:
    embedder = Everything()
    async with start_process(Echo(), chatting(), alike=Alike(embedder=embedder)) as p:
        assert [(await said(p, question))[1] for question in (A, B)] == [False, False]
        assert embedder.asked == 0


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("Delete user 17", "Please delete the user 18"),
        ("Is it open?", "Isn't it open?"),
        ("Weather in Paris", "Weather in Berlin"),
        ("weather in paris", "weather in berlin"),
        ("How do I enable it?", "How do I disable it?"),
    ],
)
async def test_however_near_the_vectors_guards_decide(start_process: Any, first: str, second: str) -> None:
    async with start_process(Echo(), meaning(), alike=Alike(embedder=Everything())) as p:
        await said(p, first)
        assert await said(p, second) == (f"answer to {second}", False)


@pytest.mark.parametrize(
    "other",
    [
        {"principal": Principal(tenant="other")},
        {"agent": "terse"},
        {"context": {"x": 1}},
        {"session_id": "talked"},
    ],
    ids=lambda other: next(iter(other)),
)
async def test_all_but_the_last_message_must_be_the_same(start_process: Any, other: dict[str, Any]) -> None:
    agents = (meaning(), meaning(name="terse", instructions="Be terse."))
    async with start_process(Echo(), *agents, alike=Alike(embedder=Everything())) as p:
        for agent in agents:
            await p.store.save_agent("other", agent)
        await said(p, "Something else entirely, 1 2 3", session_id="talked")
        await said(p, A)
        assert await said(p, B, **other) == (f"answer to {B}", False)
        assert await said(p, B) == (f"answer to {A}", True)


@pytest.mark.parametrize("why", ["refused", "late"])
async def test_without_a_vector_the_question_is_asked(start_process: Any, why: str) -> None:
    embedder = Everything(ProviderError("rate_limited", "slow down"))
    if why == "late":
        embedder.gate = asyncio.Event()
    async with start_process(Echo(), meaning(), alike=Alike(embedder=embedder, patience=0.05)) as p:
        assert await said(p, A) == (f"answer to {A}", False)
        assert await said(p, A) == (f"answer to {A}", True)
        assert p.counts[BYPASS] == 1


async def test_those_who_wait_for_the_same_question_cost_one_vector(start_process: Any) -> None:
    embedder = Everything()
    embedder.gate = asyncio.Event()
    async with start_process(Echo(), meaning(), alike=Alike(embedder=embedder)) as p:
        asked = [asyncio.create_task(ask(p, A)) for _ in range(6)]
        await until(lambda: embedder.asked and len(p.worker._running) >= 6)
        embedder.gate.set()
        assert {end.output for end in await asyncio.gather(*asked)} == {f"answer to {A}"}
        assert embedder.asked == 1


async def test_what_was_dropped_is_near_nothing(start_process: Any) -> None:
    async with start_process(Echo(), meaning(), alike=Alike(embedder=Everything())) as p:
        await said(p, A)
        await p.answers.drop(Selection(agent="chat").labels("default"))
        assert await said(p, B) == (f"answer to {B}", False)
        p.answers.forget()
        assert await said(p, A) == (f"answer to {A}", False)


def point(text: str, *vector: float) -> Point:
    return Point(text, features(text), array("f", vector))


async def test_the_nearest_one_above_the_threshold_until_its_time_is_over() -> None:
    now = 0.0
    alike = Alike(embedder=Everything(), clock=lambda: now)
    alike.add("s", point("some of these alpha words", 1, 0), Kept("far", None, LABELS), 10)
    alike.add("s", point("some of those beta words", 0.8, 0.6), Kept("near", None, LABELS), 10)
    asked = point("a completely different text", 0.6, 0.8)
    assert (found := await alike.find("s", asked, 0.9)) is not None
    assert found.content == "near"
    assert await alike.find("s", asked, 0.97) is None
    assert await alike.find("t", asked, 0.1) is None
    now = 10.0
    assert await alike.find("s", asked, 0.1) is None


async def test_it_knows_only_so_many_in_a_scope_and_in_all() -> None:
    alike = Alike(embedder=Everything(), per_scope=3, in_all=5)
    for scope in ("a", "b"):
        for n in range(4):
            alike.add(scope, point(f"question number {n}", 1), Kept(f"{scope}{n}", None, LABELS), 60)
    assert len(alike) == 5
    assert await alike.find("a", point("please, which question is number 1?", 1), 0.5) is None
    alike.drop(frozenset(LABELS))
    assert len(alike) == 0


def test_vectors_of_different_spaces_are_not_near() -> None:
    assert similarity([1.0], [1.0, 0.0]) == -1
    assert similarity([0.6, 0.8], [0.6, 0.8]) == pytest.approx(1)
