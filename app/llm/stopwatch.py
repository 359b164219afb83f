"""A time limit on single awaits of one iterator, cheap enough for every chunk."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import TypeVar

T = TypeVar("T")


class Stopwatch:
    """Limits how long the next item may take. One loop timer serves all items: it is moved only when it fires too early.

    Works as `asyncio.timeout` does (it cancels the awaiting task and takes that cancellation back), so a cancellation from
    outside always wins. Only awaits inside `next` are limited, never the code of whoever consumes the items.
    """

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.Handle | None = None
        self._set_for = 0.0
        self._task: asyncio.Task[object] | None = None
        self._limit = 0.0
        self._fired = False

    def time(self) -> float:
        """The loop's clock, in which limits are given."""
        return self._loop.time()

    async def next(self, items: AsyncGenerator[T, None], limit: float) -> T | None:
        """The next item, or None at the end. Raises TimeoutError at loop time `limit`, having cancelled the iterator's await."""
        task = asyncio.current_task(self._loop)
        assert task is not None
        requests = task.cancelling()
        self._limit = limit
        if self._timer is None or self._set_for > limit:
            self._arm()
        self._task = task
        try:
            return await anext(items, None)
        except asyncio.CancelledError:
            if self._fired and task.cancelling() - 1 <= requests:
                raise TimeoutError from None
            raise
        finally:
            self._task = None
            if self._fired:
                self._fired = False
                task.uncancel()

    def stop(self) -> None:
        """No timer is left."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._set_for = self._limit
        self._timer = self._loop.call_at(self._limit, self._fire)

    def _fire(self) -> None:
        self._timer = None
        if self._task is None:
            return
        if self._loop.time() < self._limit:
            self._arm()
            return
        self._fired = True
        self._task.cancel()
