"""How many streams are open, and no more than that."""

from __future__ import annotations

from collections.abc import AsyncGenerator

from app.domain.errors import RequestError


class OpenStreams:
    """Counts the streams of this process up to `limit`."""

    def __init__(self, *, limit: int) -> None:
        self._limit = limit
        self.count = 0

    def check(self) -> None:
        """Raises `RequestError` queue_full where one more would be too many."""
        if self.count >= self._limit:
            raise RequestError("queue_full", f"{self._limit} streams are open already. Try again later, or elsewhere.")

    async def counted(self, content: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
        """The same stream, counted from its first byte to its end. Closes `content`."""
        self.count += 1
        try:
            async for data in content:
                yield data
        finally:
            self.count -= 1
            await content.aclose()
