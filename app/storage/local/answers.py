"""`AnswerStore` in the memory of one process: so many answers, so many bytes; those used longest ago go first."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Sequence

import msgspec

from app.domain.cache import Found, Kept, Stamp

MOST_ENTRIES = 1_000
MOST_TOTAL = 64_000_000
"""Bytes of all answers."""
PER_ENTRY = 1_000
"""Bytes that an entry takes beside its text."""
REMEMBERED = 1_000
"""Drops that are told apart. An answer that was begun before the oldest of them is not kept."""


class _Entry(msgspec.Struct, frozen=True):
    kept: Kept
    until: float
    size: int


class LocalAnswers:
    """Answers in memory. Used from one event loop; no method waits for anything. `clock` gives seconds that only grow."""

    def __init__(
        self,
        *,
        most_entries: int = MOST_ENTRIES,
        most_bytes: int = MOST_TOTAL,
        remembered: int = REMEMBERED,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._most_entries = most_entries
        self._most_bytes = most_bytes
        self._remembered = remembered
        self._clock = clock
        self._entries: OrderedDict[str, _Entry] = OrderedDict()
        self._size = 0
        self._drops: OrderedDict[str, int] = OrderedDict()
        self._drop = 0
        self._oldest = 0

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def size(self) -> int:
        """Bytes of what is kept, about."""
        return self._size

    async def get(self, key: str) -> Found | None:
        entry = self._entries.get(key)
        if entry is None:
            return None
        left = entry.until - self._clock()
        if left <= 0:
            self._remove(key)
            return None
        self._entries.move_to_end(key)
        return Found(entry.kept, left)

    async def stamp(self, labels: Sequence[str]) -> Stamp:
        return (str(self._drop),)

    async def put(self, key: str, kept: Kept, seconds: float, stamp: Stamp) -> bool:
        began = int(stamp[0])
        dropped = began < self._oldest or any(self._drops.get(label, 0) > began for label in kept.labels)
        if dropped:
            return False
        self._remove(key)
        size = len(kept.content.encode()) + PER_ENTRY
        self._entries[key] = _Entry(kept, self._clock() + seconds, size)
        self._size += size
        while len(self._entries) > self._most_entries or self._size > self._most_bytes:
            self._remove(next(iter(self._entries)))
        return True

    async def drop(self, labels: Sequence[str]) -> int:
        return self.discard(labels)

    def discard(self, labels: Sequence[str]) -> int:
        """As `drop`, at once."""
        self._drop += 1
        # Whatever has all of them has the last one: what is begun is judged by that.
        self._drops.pop(labels[-1], None)
        self._drops[labels[-1]] = self._drop
        while len(self._drops) > self._remembered:
            _, self._oldest = self._drops.popitem(last=False)
        wanted, now = frozenset(labels), self._clock()
        found = [key for key, entry in self._entries.items() if wanted.issubset(entry.kept.labels)]
        alive = sum(self._entries[key].until > now for key in found)
        for key in found:
            self._remove(key)
        return alive

    def clear(self) -> None:
        """Nothing is kept any more, and nothing that was begun before will be: drops may have been missed."""
        self._drop += 1
        self._oldest = self._drop
        self._drops.clear()
        self._entries.clear()
        self._size = 0

    def _remove(self, key: str) -> None:
        entry = self._entries.pop(key, None)
        if entry is not None:
            self._size -= entry.size
