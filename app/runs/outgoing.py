"""Text that grows here, on its way to other processes."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from app.domain.hints import LiveChannel

if TYPE_CHECKING:
    from app.runs.live import Feed

PIECE = 65_536
"""Code points of growing text that are handed on at once: who does not keep up holds no more than that."""


class Outgoing:
    """Sends one batch at a time: whatever has grown while the one before was under way."""

    def __init__(self, channel: LiveChannel) -> None:
        self._channel = channel
        self._grown: set[Feed] = set()
        self._wake = asyncio.Event()

    def grew(self, feed: Feed) -> None:
        """The feed has more text than was sent."""
        if not self._grown:
            self._wake.set()
        self._grown.add(feed)

    async def run(self) -> None:
        """Send until cancelled."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            grown, self._grown = self._grown, set()
            pieces = [piece for feed in grown if (piece := feed.unsent()) is not None]
            for feed in grown:
                if feed.sent_chunks < len(feed.chunks):
                    self.grew(feed)
            if pieces:
                await self._channel.send(pieces)
