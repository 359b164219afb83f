"""What one socket follows: runs, each told by a task of its own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable

from app.domain.errors import RequestError
from app.runs.stream import Item

MAX_FOLLOWED = 32
"""Runs that one socket follows at once."""

Batches = AsyncGenerator[list[Item], None]
Tell = Callable[[str, str | None, Batches], Awaitable[None]]
"""Tells the client what becomes of the run of that id, under the client's own name for the command, until there is no more. Raises nothing."""


class Followed:
    """The runs that are told by `tell`."""

    def __init__(self, *, tell: Tell) -> None:
        self._tell = tell
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def tasks(self) -> list[asyncio.Task[None]]:
        """What is to be cancelled and awaited when the socket is over."""
        return list(self._tasks.values())

    def check_room(self, run_id: str | None) -> None:
        """Raises `RequestError` queue_full where that run (None: a new one) is one too many."""
        if len(self._tasks) >= MAX_FOLLOWED and run_id not in self._tasks:
            detail = f"A socket follows {MAX_FOLLOWED} runs at most: unsubscribe from one, or open another socket."
            raise RequestError("queue_full", detail)

    async def forget(self, run_id: str) -> None:
        """Nothing more is told of that run."""
        task = self._tasks.pop(run_id, None)
        if task is not None:
            task.cancel()
            await asyncio.wait([task])

    async def follow(self, run_id: str, ref: str | None, batches: Batches) -> None:
        """The run is told from now on; `batches` is closed when that is over."""
        self._tasks[run_id] = asyncio.create_task(self._follow(run_id, ref, batches))
        # A task that is cancelled before it began would not close what it reads.
        await asyncio.sleep(0)

    async def _follow(self, run_id: str, ref: str | None, batches: Batches) -> None:
        try:
            await self._tell(run_id, ref, batches)
        finally:
            await batches.aclose()
            if self._tasks.get(run_id) is asyncio.current_task():
                del self._tasks[run_id]
