"""One process's count of calls: bounded in memory, exact in time."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from app.domain.limits import Limit
from app.storage.local.limiter import LocalLimiter


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@given(
    st.integers(1, 10),
    st.sampled_from([0.1, 1.0, 7.3, 60.0]),
    st.lists(st.floats(0, 1.2, allow_nan=False), min_size=1, max_size=120),
)
def test_no_window_has_more_than_allowed(most: int, window: float, steps: list[float]) -> None:
    clock = Clock()
    limiter = LocalLimiter(clock=clock)
    limit = Limit("key", "k", most, window)
    times: list[int] = []
    for step in steps:
        clock.now += step * window
        if limiter.glance([limit]) is None:
            limiter.count([limit])
            times.append(round(clock.now * 1_000_000))
    length = round(window * 1_000_000)
    for n, end in enumerate(times):
        assert sum(end - length < at <= end for at in times[: n + 1]) <= most


async def test_a_flood_of_names_is_forgotten_when_its_window_is_over() -> None:
    clock = Clock()
    limiter = LocalLimiter(clock=clock)
    for n in range(1000):
        assert (await limiter.take([Limit("user", f"u{n}", 60, 60.0)])).allowed
    assert len(limiter) == 1000
    clock.now += 62
    for n in range(600):
        await limiter.take([Limit("user", f"v{n}", 60, 60.0)])
    assert len(limiter) <= 602


async def test_there_are_never_more_than_so_many_windows() -> None:
    limiter = LocalLimiter(most_entries=100, clock=Clock())
    for n in range(1000):
        await limiter.take([Limit("user", f"u{n}", 60, 60.0)])
    assert len(limiter) <= 100
    assert limiter.glance([Limit("user", "u999", 1, 60.0)]) is not None, "the newest is remembered"


async def test_refused_calls_cost_no_memory() -> None:
    limiter = LocalLimiter(clock=Clock())
    limit = Limit("user", "u", 2, 60.0)
    for _ in range(1000):
        await limiter.take([limit])
    assert len(limiter) == 1
    refused = limiter.glance([limit])
    assert refused is not None
    assert refused.left == 0


async def test_who_is_touched_again_is_not_forgotten() -> None:
    clock = Clock()
    limiter = LocalLimiter(clock=clock)
    steady, other = Limit("user", "steady", 100, 60.0), Limit("user", "other", 100, 60.0)
    for n in range(70):
        await limiter.take([steady])
        await limiter.take([other if n % 2 else Limit("user", f"x{n}", 1, 60.0)])
        clock.now += 1.0
    counted = await limiter.take([steady])
    assert counted.left == 100 - 61


def test_a_limit_of_another_length_begins_anew() -> None:
    limiter = LocalLimiter(clock=Clock())
    limiter.count([Limit("key", "k", 1, 60.0)])
    assert limiter.glance([Limit("key", "k", 1, 60.0)]) is not None
    assert limiter.glance([Limit("key", "k", 1, 30.0)]) is None
