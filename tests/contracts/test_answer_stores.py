"""What both levels of the cache promise: one process's memory, and a Redis-protocol server."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from app.domain.cache import AnswerStore, Kept, Selection, labels
from app.storage.local.answers import LocalAnswers
from app.storage.redis.answers import RedisAnswers
from app.storage.redis.live import open_live
from tests.waiting import until

OURS = labels("acme", "helper", "greeting@v2", {"team": "support", "tier": "gold"})
THEIRS = labels("other", "helper", "greeting@v2", {"team": "support"})
PLAIN = labels("acme", "chat", None, {})


@pytest.fixture(params=["memory", "redis"])
async def store(request: pytest.FixtureRequest, redis: str) -> AsyncIterator[AnswerStore]:
    if request.param == "memory":
        yield LocalAnswers()
        return
    async with open_live(redis) as live:
        yield RedisAnswers(link=live.link)


async def put(store: AnswerStore, key: str, text: str, names: tuple[str, ...] = OURS, *, seconds: float = 60.0) -> bool:
    stamp = await store.stamp(names)
    assert stamp is not None
    return await store.put(key, Kept(text, "model-1", names), seconds, stamp)


async def text(store: AnswerStore, key: str) -> str | None:
    found = await store.get(key)
    return None if found is None else found.kept.content


async def test_what_was_put_is_got_until_its_time_is_over(store: AnswerStore) -> None:
    assert await text(store, "k") is None
    assert await put(store, "k", "naïve 🚀 – “x”\n", seconds=50)
    found = await store.get("k")
    assert found is not None
    assert found.kept == Kept("naïve 🚀 – “x”\n", "model-1", OURS)
    assert 45 < found.seconds <= 50
    assert await put(store, "k", "another")
    assert await text(store, "k") == "another"
    assert await put(store, "short", "x", seconds=0.05)

    async def over() -> bool:
        return await text(store, "short") is None

    await until(over)


@pytest.mark.parametrize(
    ("selection", "left"),
    [
        (Selection(), {"theirs"}),
        (Selection(agent="helper"), {"plain", "theirs"}),
        (Selection(prompt="greeting"), {"plain", "theirs"}),
        (Selection(prompt="greeting@v2"), {"plain", "theirs"}),
        (Selection(prompt="greeting@v1"), {"ours", "plain", "theirs"}),
        (Selection(tag="team"), {"plain", "theirs"}),
        (Selection(tag="team:support"), {"plain", "theirs"}),
        (Selection(tag="team:sales"), {"ours", "plain", "theirs"}),
        (Selection(agent="helper", tag="tier:gold"), {"plain", "theirs"}),
        (Selection(agent="chat", tag="tier:gold"), {"ours", "plain", "theirs"}),
    ],
)
async def test_a_selection_drops_what_all_of_it_applies_to_and_only_its_tenants(
    store: AnswerStore, selection: Selection, left: set[str]
) -> None:
    kept = {"ours": OURS, "plain": PLAIN, "theirs": THEIRS}
    for key, names in kept.items():
        assert await put(store, key, key, names)
    assert await store.drop(selection.labels("acme")) == 3 - len(left)
    assert {key for key in kept if await text(store, key) is not None} == left
    assert await store.drop(selection.labels("acme")) == 0


async def test_what_was_begun_before_a_drop_is_not_kept(store: AnswerStore) -> None:
    ours, plain = await store.stamp(OURS), await store.stamp(PLAIN)
    assert ours is not None
    assert plain is not None
    await store.drop(Selection(agent="helper", tag="team").labels("acme"))
    assert not await store.put("ours", Kept("late", None, OURS), 60, ours)
    assert await store.put("plain", Kept("in time", None, PLAIN), 60, plain)
    assert (await text(store, "ours"), await text(store, "plain")) == (None, "in time")
    assert await put(store, "ours", "begun after it")
    assert await text(store, "ours") == "begun after it"


async def test_many_answers_are_dropped_at_once(store: AnswerStore) -> None:
    for n in range(900):
        assert await put(store, f"k{n}", "x", PLAIN)
    assert await store.drop(Selection(agent="chat").labels("acme")) == 900
    assert await text(store, "k0") is None
