"""Processes that count together over a real server, and one that lost it."""

from __future__ import annotations

from app.domain.limits import Limit
from app.storage.local.limiter import LocalLimiter
from app.storage.redis.limiter import RedisLimiter
from app.storage.redis.live import open_live
from tests.redis_server import RedisServer

USER, KEY = Limit("user", "user:ann", 3, 60.0), Limit("key", "key:one", 5, 60.0)
OWN = Limit("instance", "instance", 2, 60.0)


async def test_what_another_process_took_is_refused_here_and_takes_nothing(redis: str) -> None:
    async with open_live(redis) as one, open_live(redis) as two:
        a, b = (RedisLimiter(link=live.link, near=LocalLimiter()) for live in (one, two))
        for left in (2, 1, 0):
            assert (await a.take([USER])).left == left
        assert b.glance([USER]) is None
        refused = await b.take([USER, KEY, OWN])
        assert (refused.allowed, refused.scope, refused.left) == (False, "user", 0)
        assert 59 < refused.wait <= 61
        assert b.glance([USER]) is not None, "it is not asked again for what was refused"
        assert (await b.take([KEY])).left == 4
        assert (await b.take([OWN])).left == 1


async def test_a_process_that_lost_its_server_goes_on_with_what_it_counted(own_redis: RedisServer) -> None:
    async with open_live(own_redis.url, retry=0.1) as live:
        limiter = RedisLimiter(link=live.link, near=LocalLimiter())
        taken = await limiter.take([USER])
        assert taken.far is not None
        own_redis.kill()
        assert [(await limiter.take([USER])).far for _ in range(2)] == [None, None]
        assert not (await limiter.take([USER])).allowed
        await limiter.give_back([USER], taken)
        assert (await limiter.take([USER])).allowed


async def test_what_lies_under_a_limits_name_and_is_none_refuses_nobody(redis: str) -> None:
    async with open_live(redis) as live:
        await live.link.client.set(f"steadyhand:limit:{USER.name}:{USER.width}", "something else")
        limiter = RedisLimiter(link=live.link, near=LocalLimiter())
        assert [(await limiter.take([USER])).allowed for _ in range(4)] == [True, True, True, False]


async def test_what_is_over_is_forgotten_by_the_server(redis: str) -> None:
    async with open_live(redis) as live:
        limiter = RedisLimiter(link=live.link, near=LocalLimiter())
        await limiter.take([USER])
        (left,) = [await live.link.client.pttl(key) for key in await live.link.client.keys("steadyhand:limit:*")]
        assert 60_000 < left <= 61_000
