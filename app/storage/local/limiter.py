"""`Limiter` in the memory of one process."""

from __future__ import annotations

import time
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from functools import reduce

from app.domain.limits import SLICES, Limit, Standing, narrower

MOST_ENTRIES = 100_000
"""Windows that are counted at once; beyond that those touched longest ago are forgotten."""


class _Window:
    """What was taken of one limit: how many in which slice, oldest first. `shut`: until then nothing is allowed, whatever is counted."""

    __slots__ = ("shut", "slices", "total", "width")

    def __init__(self, width: int) -> None:
        self.slices: deque[list[int]] = deque()
        self.total = 0
        self.width = width
        self.shut = 0

    def trim(self, now: int) -> None:
        """Forget the slices that no window has that ends now."""
        first = now // self.width - SLICES
        while self.slices and self.slices[0][0] < first:
            self.total -= self.slices.popleft()[1]

    def opens(self, most: int) -> int:
        """When one more is allowed than is left now; 0 where nothing is counted."""
        surplus = self.total - most
        for slot, count in self.slices:
            surplus -= count
            if surplus < 0:
                return (slot + SLICES + 1) * self.width
        return 0

    def over(self, now: int) -> bool:
        """Whether nothing in it counts any more."""
        return self.shut <= now and (not self.slices or self.slices[-1][0] < now // self.width - SLICES)


class LocalLimiter:
    """Counts in memory. Used from one event loop; no method waits for anything. `clock` gives seconds that only grow.

    What is over is forgotten as others come, so there is no more than what was taken within a window.
    """

    def __init__(self, *, most_entries: int = MOST_ENTRIES, clock: Callable[[], float] = time.monotonic) -> None:
        self._most_entries = most_entries
        self._clock = clock
        self._windows: OrderedDict[str, _Window] = OrderedDict()

    def __len__(self) -> int:
        return len(self._windows)

    def glance(self, limits: Sequence[Limit]) -> Standing | None:
        now = self._now()
        refused = [found for limit in limits if (found := self._refusal(limit, now)) is not None]
        return reduce(narrower, refused) if refused else None

    async def take(self, limits: Sequence[Limit]) -> Standing:
        return self.glance(limits) or self.count(limits)

    def count(self, limits: Sequence[Limit]) -> Standing:
        """One of each was taken, whether or not there was one left."""
        now = self._now()
        self._sweep(now)
        return reduce(narrower, [self._count(limit, now) for limit in limits])

    async def give_back(self, limits: Sequence[Limit], taken: Standing) -> None:
        self.uncount(limits, taken)

    def uncount(self, limits: Sequence[Limit], taken: Standing) -> None:
        """As `give_back`, at once."""
        for limit in limits if taken.near is not None else ():
            window = self._windows.get(limit.name)
            if window is None or window.width != limit.width or taken.near is None:
                continue
            for entry in window.slices:
                if entry[0] == taken.near // limit.width:
                    entry[1] -= 1
                    window.total -= 1
                    if not entry[1]:
                        window.slices.remove(entry)
                    break

    def shut(self, limit: Limit, seconds: float) -> None:
        """Others have used that limit up: nothing of it is allowed for so long."""
        now = self._now()
        self._sweep(now)
        self._window(limit).shut = now + round(seconds * 1_000_000)

    def _now(self) -> int:
        return round(self._clock() * 1_000_000)

    def _refusal(self, limit: Limit, now: int) -> Standing | None:
        window = self._windows.get(limit.name)
        if window is None or window.width != limit.width:
            return None
        window.trim(now)
        if window.total < limit.most and window.shut <= now:
            return None
        until = max(window.shut, window.opens(limit.most) if window.total >= limit.most else 0)
        return Standing(
            allowed=False, scope=limit.scope, most=limit.most, left=0, wait=max(0.0, (until - now) / 1_000_000)
        )

    def _count(self, limit: Limit, now: int) -> Standing:
        window = self._window(limit)
        window.trim(now)
        slot = now // limit.width
        if window.slices and window.slices[-1][0] == slot:
            window.slices[-1][1] += 1
        else:
            window.slices.append([slot, 1])
        window.total += 1
        left = max(0, limit.most - window.total)
        wait = max(0.0, (window.opens(limit.most) - now) / 1_000_000)
        return Standing(allowed=True, scope=limit.scope, most=limit.most, left=left, wait=wait, near=now)

    def _window(self, limit: Limit) -> _Window:
        """That limit's, the one touched last now; begun anew where its length is another one than before."""
        window = self._windows.get(limit.name)
        if window is None or window.width != limit.width:
            window = self._windows[limit.name] = _Window(limit.width)
        self._windows.move_to_end(limit.name)
        return window

    def _sweep(self, now: int) -> None:
        """Two at most of those touched longest ago, where they are over; those that are too many in any case."""
        for _ in range(2):
            oldest = next(iter(self._windows.values()), None)
            if oldest is None or not oldest.over(now):
                break
            self._windows.popitem(last=False)
        while len(self._windows) >= self._most_entries:
            self._windows.popitem(last=False)
