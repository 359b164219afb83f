"""Work on large inputs, off the event loop: whoever sends them waits, and not everybody else."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Result = TypeVar("Result")

INLINE = 64_000
"""Bytes up to which work is done at once: it takes a few milliseconds at most, and a thread would cost more than it saves."""


class Aside:
    """Does work on large inputs in one thread of its own, in the order in which it was asked for. One: a second would only contend
    with the first, and with the event loop, for the interpreter. Its work is to come back to Python again and again, so that the
    loop gets its turn."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="aside")

    async def run(self, size: int, work: Callable[[], Result]) -> Result:
        """What `work` gives, which is about so many bytes. Raises what it does. What is cancelled before its turn is not done."""
        if size <= INLINE:
            return work()
        return await asyncio.get_running_loop().run_in_executor(self._pool, work)

    def close(self) -> None:
        """Nothing more is done; what is under way ends by itself."""
        self._pool.shutdown(wait=False, cancel_futures=True)
