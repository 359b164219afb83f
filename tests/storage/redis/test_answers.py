"""Answers and leads on a real server: what others wrote there, and what becomes of it while it is away."""

from __future__ import annotations

import time

import pytest
from redis.asyncio import Redis

from app.domain.cache import Kept, labels
from app.storage.redis.answers import RedisAnswers
from app.storage.redis.live import open_live
from tests.redis_server import RedisServer
from tests.waiting import until

NAMES = labels("acme", "chat", None, {"a": "b"})
KEPT = Kept("yes", "m", NAMES)


@pytest.mark.parametrize("garbage", [b"", b"\xff\xfe", b"[]", b'{"content":1}', b"[" * 5000, b'{"content":"x"}'])
async def test_what_cannot_be_read_is_a_miss_and_gives_way(redis: str, garbage: bytes) -> None:
    async with open_live(redis) as live, Redis.from_url(redis) as admin:
        store = RedisAnswers(link=live.link)
        await admin.set("steadyhand:cache:answer:k", garbage, px=60_000)
        assert await store.get("k") is None
        stamp = await store.stamp(NAMES)
        assert stamp is not None
        assert await store.put("k", KEPT, 60, stamp)
        found = await store.get("k")
        assert found is not None
        assert found.kept == KEPT


async def test_keys_of_another_kind_are_refused_and_nothing_raises(redis: str) -> None:
    async with open_live(redis) as live, Redis.from_url(redis) as admin:
        store = RedisAnswers(link=live.link)
        await admin.lpush("steadyhand:cache:answer:k", "x")
        await admin.set(f"steadyhand:cache:list:{NAMES[0]}", "x")
        assert await store.get("k") is None
        stamp = await store.stamp(NAMES)
        assert stamp is not None
        assert await store.put("other", KEPT, 60, stamp) is False
        assert await store.drop(NAMES[:1]) is None
        assert await store.take("k", "me", 5) is True
        assert live.link.there()


async def test_nothing_is_left_on_the_server_for_ever(redis: str) -> None:
    async with open_live(redis) as live, Redis.from_url(redis) as admin:
        store = RedisAnswers(link=live.link)
        stamp = await store.stamp(NAMES)
        assert stamp is not None
        await store.put("k", KEPT, 60, stamp)
        await store.take("k", "me", 5)
        await store.drop(NAMES[-1:])
        stamp = await store.stamp(NAMES)
        assert stamp is not None
        await store.put("long", KEPT, 600, stamp)
        await store.put("short", KEPT, 0.01, stamp)
        names = await admin.keys("*")
        assert len(names) > 5
        assert all([await admin.pttl(name) != -1 for name in names])
        assert await admin.pttl(f"steadyhand:cache:list:{NAMES[0]}") > 590_000

        async def over() -> bool:
            return await store.get("short") is None

        await until(over)
        await store.put("third", KEPT, 60, stamp)
        assert set(await admin.zrange(f"steadyhand:cache:list:{NAMES[0]}", 0, -1)) == {b"k", b"long", b"third"}


async def test_a_lead_is_one_holders_until_it_leaves_or_runs_out(redis: str) -> None:
    async with open_live(redis) as live:
        store = RedisAnswers(link=live.link)
        assert await store.take("k", "me", 60)
        assert await store.take("k", "you", 60) is False
        assert await store.hold("k", "you", 60) is False
        await store.leave("k", "you")
        assert await store.take("k", "you", 60) is False
        assert await store.hold("k", "me", 0.05)

        async def taken() -> bool:
            return bool(await store.take("k", "you", 60))

        await until(taken)
        assert await store.hold("k", "me", 60) is False
        await store.leave("k", "you")
        assert await store.take("k", "me", 60)


@pytest.mark.parametrize("how", ["dead", "frozen"])
async def test_a_server_that_is_away_costs_one_timeout_and_then_nothing(own_redis: RedisServer, how: str) -> None:
    async with open_live(own_redis.url, timeout=0.3, retry=0.1) as live:
        store = RedisAnswers(link=live.link)
        own_redis.kill() if how == "dead" else own_redis.pause()
        began = time.monotonic()
        assert await store.get("k") is None
        assert await store.stamp(NAMES) is None
        assert await store.put("k", KEPT, 60, ("", "", "", "")) is False
        assert await store.drop(NAMES[:1]) is None
        assert await store.take("k", "me", 5) is None
        assert await store.hold("k", "me", 5) is None
        await store.leave("k", "me")
        assert time.monotonic() - began < 1.0
        own_redis.start() if how == "dead" else own_redis.go_on()
        await until(live.link.there)
        assert await store.take("k", "me", 5) is True
