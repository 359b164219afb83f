"""A time limit on single awaits of one iterator."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

import pytest

from app.llm.stopwatch import Stopwatch


class TestStopwatch:
    async def test_the_end_is_none(self) -> None:
        async def items() -> AsyncGenerator[int, None]:
            yield 1

        watch, numbers = Stopwatch(), items()
        assert await watch.next(numbers, watch.time() + 1) == 1
        assert await watch.next(numbers, watch.time() + 1) is None
        watch.stop()

    async def test_a_later_limit_counts_although_the_timer_was_set_for_an_earlier_one(self) -> None:
        go = asyncio.Event()

        async def items() -> AsyncGenerator[int, None]:
            yield 1
            await go.wait()
            yield 2

        watch, numbers = Stopwatch(), items()
        assert await watch.next(numbers, watch.time() + 0.02) == 1
        asyncio.get_running_loop().call_later(0.06, go.set)
        assert await watch.next(numbers, watch.time() + 5) == 2
        watch.stop()
        await numbers.aclose()

    async def test_an_earlier_limit_counts_although_the_timer_was_set_for_a_later_one(self) -> None:
        async def items() -> AsyncGenerator[int, None]:
            yield 1
            await asyncio.Event().wait()

        watch, numbers = Stopwatch(), items()
        assert await watch.next(numbers, watch.time() + 60) == 1
        with pytest.raises(TimeoutError):
            await watch.next(numbers, watch.time() + 0.01)
        watch.stop()

    async def test_a_cancellation_at_the_same_moment_wins(self) -> None:
        async def items() -> AsyncGenerator[int, None]:
            await asyncio.Event().wait()
            yield 1

        async def wait() -> None:
            watch, numbers = Stopwatch(), items()
            task = asyncio.current_task()
            assert task is not None
            limit = watch.time() + 0.01
            asyncio.get_running_loop().call_at(limit, task.cancel)
            await watch.next(numbers, limit)

        task = asyncio.create_task(wait())
        with pytest.raises(asyncio.CancelledError):
            await task
        assert task.cancelling() == 1
