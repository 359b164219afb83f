"""What both counters of calls promise: one process's memory, and a Redis-protocol server."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator

import pytest

from app.domain.limits import SLICES, Limit, Limiter
from app.storage.local.limiter import LocalLimiter
from app.storage.redis.limiter import RedisLimiter
from app.storage.redis.live import open_live


class Clock:
    """Moved by the test only."""

    def __init__(self) -> None:
        self.now = 1_700_000_000.123_456

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(params=["memory", "redis"])
async def limiter(request: pytest.FixtureRequest, redis: str, clock: Clock) -> AsyncIterator[Limiter]:
    if request.param == "memory":
        yield LocalLimiter(clock=clock)
        return
    async with open_live(redis) as live:
        yield RedisLimiter(link=live.link, near=LocalLimiter(clock=clock), clock=clock)


def user(most: int = 3, window: float = 60.0, name: str = "ann") -> Limit:
    return Limit("user", f"user:{name}", most, window)


def key(most: int = 5, window: float = 60.0) -> Limit:
    return Limit("key", "key:one", most, window)


async def test_so_many_are_allowed_and_the_next_one_is_told_when(limiter: Limiter, clock: Clock) -> None:
    stood = [await limiter.take([user(60)]) for _ in range(60)]
    assert all(one.allowed for one in stood)
    assert [one.left for one in stood] == list(range(59, -1, -1))
    refused = await limiter.take([user(60)])
    assert (refused.allowed, refused.scope, refused.most, refused.left) == (False, "user", 60, 0)
    assert 60 <= refused.wait <= 61
    clock.now += refused.wait - 0.01
    assert not (await limiter.take([user(60)])).allowed
    clock.now += 0.02
    assert (await limiter.take([user(60)])).allowed


async def test_a_refused_call_takes_nothing_of_any_limit(limiter: Limiter) -> None:
    for _ in range(3):
        assert (await limiter.take([user(), key()])).allowed
    refused = [await limiter.take([user(), key()]) for _ in range(10)]
    assert {(one.allowed, one.scope) for one in refused} == {(False, "user")}
    others = [await limiter.take([user(name="bob"), key()]) for _ in range(3)]
    assert [(one.allowed, one.scope) for one in others] == [(True, "key"), (True, "key"), (False, "key")]
    assert (await limiter.take([user(name="bob")])).left == 0


async def test_the_narrowest_limit_is_told(limiter: Limiter) -> None:
    assert (await limiter.take([user(100), key(5)])).scope == "key"
    assert (await limiter.take([user(3, name="bob"), key(5)])).scope == "user"


async def test_what_was_given_back_may_be_taken_again(limiter: Limiter, clock: Clock) -> None:
    taken = [await limiter.take([user(), key()]) for _ in range(3)]
    clock.now += 7
    await limiter.give_back([user(), key()], taken[1])
    assert (await limiter.take([user(), key()])).allowed
    assert not (await limiter.take([user()])).allowed
    await limiter.give_back([user(name="stranger")], taken[0])
    assert (await limiter.take([user(name="stranger")])).left == 2


async def test_a_glance_takes_nothing_and_knows_what_was_refused(limiter: Limiter, clock: Clock) -> None:
    for _ in range(3):
        assert limiter.glance([user()]) is None
        assert (await limiter.take([user()])).allowed
    await limiter.take([user()])
    seen = limiter.glance([user(), key()])
    assert seen is not None
    assert (seen.allowed, seen.scope) == (False, "user")
    assert 60 <= seen.wait <= 61
    clock.now += 61.1
    assert limiter.glance([user()]) is None


async def test_one_of_them_may_be_counted_by_the_instance_alone(limiter: Limiter) -> None:
    own = Limit("instance", "instance", 2, 1.0)
    assert [(await limiter.take([own])).left for _ in range(2)] == [1, 0]
    refused = await limiter.take([own, key()])
    assert (refused.allowed, refused.scope) == (False, "instance")
    assert (await limiter.take([key()])).left == 4


@pytest.mark.parametrize("seed", range(4))
async def test_no_window_wherever_it_begins_has_more_than_allowed_and_waiting_helps(
    limiter: Limiter, clock: Clock, seed: int
) -> None:
    chance = random.Random(seed)
    most, window = chance.randint(1, 20), chance.choice([0.5, 1.0, 60.0, 3600.0])
    limit = user(most, window)
    times: list[float] = []
    for _ in range(400):
        clock.now += chance.choice([0.0, window / 1000, window / most * chance.random() * 2, window * 0.999])
        stood = await limiter.take([limit])
        if stood.allowed:
            times.append(clock.now)
            continue
        longest = window * (1 + 1 / SLICES) + 1e-3
        assert sum(clock.now - longest < at for at in times) >= most, "it was refused, and there was one left"
        assert stood.wait <= longest
        if chance.random() < 0.3:
            clock.now += stood.wait + 1e-5
            assert (await limiter.take([limit])).allowed, "the wait that was told was too short"
            times.append(clock.now)
    for n, end in enumerate(times):
        assert sum(end - window < at <= end for at in times[: n + 1]) <= most
    assert len(times) >= most
