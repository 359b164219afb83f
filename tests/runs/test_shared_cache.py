"""One cache for several processes, over a real server: one call for all of them, dead leads, and a server that goes away."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import pytest
from redis.asyncio import Redis

from app.domain.agents import Caching
from app.domain.cache import Kept, Selection, labels
from app.domain.principals import ANONYMOUS
from app.runs.answers import Answers, Hit, Lead
from app.runs.questions import Question
from app.runs.service import StartRun
from app.storage.local.answers import LocalAnswers
from app.storage.redis.answers import RedisAnswers
from app.storage.redis.live import RedisLive, open_live
from tests.redis_server import RedisServer
from tests.runs.test_cache import Echo, ask, chatting, many
from tests.scripted import Counts
from tests.waiting import until


@pytest.fixture
async def live(redis: str) -> AsyncIterator[RedisLive]:
    async with open_live(redis) as live:
        yield live


def shared(live: RedisLive) -> RedisAnswers:
    return RedisAnswers(link=live.link)


async def test_many_at_once_in_two_processes_are_one_call(start_process: Any, live: RedisLive) -> None:
    gate = asyncio.Event()
    echo = Echo(gate)
    async with (
        start_process(echo, chatting(), concurrency=6, far=shared(live), owner="one") as one,
        start_process(echo, chatting(), concurrency=6, far=shared(live), owner="two") as two,
    ):
        asked = [asyncio.create_task(many(p, 25)) for p in (one, two)]
        await until(lambda: echo.asked and min(len(one.worker._running), len(two.worker._running)) >= 6)
        gate.set()
        ends = [end for half in await asyncio.gather(*asked) for end in half]
        assert echo.asked == {"why?": 1}
        assert {end.output for end in ends} == {"answer to why?"}
        assert Counter(end.cached for end in ends) == {True: 49, False: 1}
        assert (one.counts + two.counts)["exact", "miss"] == 1


async def test_answers_outlive_their_process(start_process: Any, live: RedisLive) -> None:
    async with start_process(Echo(), chatting(), far=shared(live)) as p:
        await ask(p)
    echo = Echo()
    async with start_process(echo, chatting(), far=shared(live)) as p:
        assert (await ask(p)).cached
        assert not echo.asked


async def test_the_lead_of_a_dead_process_is_taken_over(start_process: Any, live: RedisLive) -> None:
    stuck, echo = Echo(asyncio.Event()), Echo()
    async with AsyncExitStack() as stack:
        dead = await stack.enter_async_context(start_process(stuck, chatting(), far=shared(live), owner="dead"))
        await dead.service.start(ANONYMOUS, StartRun(input="why?"))
        await until(lambda: stuck.asked)
        p = await stack.enter_async_context(start_process(echo, chatting(), far=shared(live), owner="alive"))
        waiting = asyncio.create_task(ask(p))
        await until(lambda: p.answers._leads)
        assert not echo.asked
        for lead in dead.answers._leads.values():  # a dead process holds nothing and leaves nothing
            assert lead.holding is not None
            lead.holding.cancel()
            lead.shared = False
        assert (await waiting).output == "answer to why?"
        assert echo.asked.total() == 1


class Between:
    """Another process answers the first question just after it was looked for."""

    def __init__(self, far: RedisAnswers) -> None:
        self._far = far
        self._answered = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._far, name)

    async def get(self, key: str) -> Any:
        found = await self._far.get(key)
        if not self._answered:
            self._answered = True
            names = labels("default", "chat", None, {})
            await self._far.put(key, Kept("theirs", None, names), 60, await self._far.stamp(names) or ())
        return found


async def test_what_was_answered_just_before_the_lead_was_taken_is_not_asked_again(
    start_process: Any, live: RedisLive
) -> None:
    echo = Echo()
    async with start_process(echo, chatting(), far=Between(shared(live))) as p:
        end = await ask(p)
        assert (end.output, end.cached) == ("theirs", True)
        assert not echo.asked


async def test_who_is_stopped_while_it_takes_the_lead_leaves_it(start_process: Any, live: RedisLive) -> None:
    class Slow(Between):
        """The lead is taken, but that is not known yet."""

        taken = False

        async def get(self, key: str) -> Any:
            return await self._far.get(key)

        async def take(self, key: str, holder: str, seconds: float) -> Any:
            await self._far.take(key, holder, 60)
            self.taken = True
            await asyncio.Event().wait()

    slow = Slow(shared(live))
    async with (
        start_process(Echo(), chatting(), far=slow, owner="one") as one,
        start_process(Echo(), chatting(), far=shared(live), owner="two") as two,
    ):
        started = await one.service.start(ANONYMOUS, StartRun(input="why?"))
        await until(lambda: slow.taken)
        await one.service.cancel(ANONYMOUS, started.run_id, None)
        assert (await ask(two)).output == "answer to why?"


async def test_garbage_in_the_place_of_an_answer_is_none(start_process: Any, live: RedisLive, redis: str) -> None:
    async with start_process(Echo(), chatting(), far=shared(live)) as p:
        await ask(p)
        await until(lambda: not p.answers._leads)
    async with Redis.from_url(redis) as admin:
        (name,) = await admin.keys("steadyhand:cache:answer:*")
        await admin.set(name, b'{"content":', px=60_000)
    echo = Echo()
    async with start_process(echo, chatting(), far=shared(live)) as p:
        assert [(await ask(p)).cached for _ in range(2)] == [False, True]


async def test_what_another_process_dropped_is_not_kept_where_it_was_under_way(
    start_process: Any, live: RedisLive
) -> None:
    """Even where no hint has come yet."""
    gate = asyncio.Event()
    echo = Echo(gate)
    async with (
        start_process(echo, chatting(), far=shared(live), owner="one") as one,
        start_process(echo, chatting(), far=shared(live), owner="two") as two,
    ):
        waiting = asyncio.create_task(ask(one))
        await until(lambda: echo.asked)
        await two.answers.drop(Selection().labels("default"))
        gate.set()
        await waiting
        await until(lambda: not one.answers._leads)
        assert not (await ask(two)).cached


@pytest.mark.parametrize("how", ["dead", "frozen"])
async def test_without_the_server_each_process_goes_on_by_itself(
    start_process: Any, own_redis: RedisServer, how: str
) -> None:
    gate = asyncio.Event()
    echo = Echo(gate)
    async with (
        open_live(own_redis.url, timeout=0.3, retry=0.1) as live,
        start_process(echo, chatting(), far=shared(live), owner="one") as one,
        start_process(echo, chatting(), far=shared(live), owner="two") as two,
    ):
        asked = [asyncio.create_task(many(p, 5)) for p in (one, two)]
        await until(lambda: echo.asked and one.answers._leads and two.answers._leads)
        own_redis.kill() if how == "dead" else own_redis.pause()
        await until(lambda: echo.asked["why?"] == 2)
        gate.set()
        ends = [end for half in await asyncio.gather(*asked) for end in half]
        assert {(end.status, end.output) for end in ends} == {("succeeded", "answer to why?")}
        assert echo.asked == {"why?": 2}
        assert (await ask(one)).cached
        assert not (await ask(two, "new")).cached
        own_redis.start() if how == "dead" else own_redis.go_on()
        await until(live.link.there)
        assert not (await ask(one, "newer")).cached
        await until(lambda: not one.answers._leads)
        assert (await ask(two, "newer")).cached


def question(text: str, tenant: str = "default") -> Question:
    return Question(
        key=f"{tenant} {text}",
        scope=tenant,
        text=text,
        caching=Caching(ttl=60),
        labels=labels(tenant, "chat", None, {}),
    )


async def test_a_repetitive_load_from_cold(live: RedisLive) -> None:
    """5,000 requests of two tenants, Zipf(1.0) over 500 questions, 32 at once, in two processes with small memories: no answer is
    another's, and each question is asked once a tenant.
    """
    rng = random.Random(4711)
    asked: Counter[tuple[str, str]] = Counter()
    wrong = 0
    processes = [Answers(near=LocalAnswers(most_entries=100), far=shared(live), count=Counts().count) for _ in range(2)]
    ranks = range(1, 501)
    load = rng.choices(ranks, weights=[1 / rank for rank in ranks], k=5_000)
    requests = iter([(rng.choice(processes), rng.choice(("acme", "other")), f"question {rank}") for rank in load])
    hits = 0

    async def work() -> None:
        nonlocal wrong, hits
        for answers, tenant, text in requests:
            wanted = f"what {tenant} is told of {text}"
            found = await answers.look(question(text, tenant))
            if isinstance(found, Hit):
                hits += 1
                wrong += found.kept.content != wanted
                continue
            assert isinstance(found, Lead)
            asked[tenant, text] += 1
            await asyncio.sleep(0)
            await answers.settle(found, Kept(wanted, None, found.question.labels))

    await asyncio.gather(*(work() for _ in range(32)))
    for answers in processes:
        await answers.aclose()
    assert wrong == 0
    assert set(asked.values()) == {1}
    assert hits == 5_000 - len(asked)
    assert hits / 5_000 > 0.3
