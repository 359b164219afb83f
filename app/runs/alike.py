"""Answers of questions that mean the same, found by the vectors of their texts and let through by guards.

A process knows the questions that it answered itself: what others answered is found under its exact key only.
"""

from __future__ import annotations

import asyncio
import logging
import operator
import time
from array import array
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence

import msgspec

from app.domain.cache import Embedder, Kept
from app.domain.errors import ProviderError
from app.domain.guards import LONGEST, Features, features, near_miss

_log = logging.getLogger(__name__)
PATIENCE = 3.0
"""Seconds that an embedding may take; then the question is asked as if there were none."""
PER_SCOPE = 1_000
IN_ALL = 4_000
"""Questions that are known."""


class Point(msgspec.Struct, frozen=True):
    """A question's text, what of it must be the same in another one, and where it lies: a vector of length 1."""

    text: str
    features: Features
    vector: array[float]


class _Entry(msgspec.Struct, frozen=True, eq=False):
    point: Point
    kept: Kept
    until: float


_Place = tuple[str, Features]


class Alike:
    """The near questions of one process. Used from one event loop. `clock` gives seconds that only grow."""

    def __init__(
        self,
        *,
        embedder: Embedder,
        patience: float = PATIENCE,
        per_scope: int = PER_SCOPE,
        in_all: int = IN_ALL,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._embedder = embedder
        self._patience = patience
        self._per_scope = per_scope
        self._in_all = in_all
        self._clock = clock
        # In the order in which they were used last: what is too much goes from the front.
        self._scopes: OrderedDict[str, deque[_Entry]] = OrderedDict()
        self._places: dict[_Place, list[_Entry]] = {}
        self._count = 0

    def __len__(self) -> int:
        return self._count

    async def place(self, text: str) -> Point | None:
        """Where that text lies; None: nobody could say in time, or it is too long to say."""
        if len(text) > LONGEST:
            return None
        try:
            async with asyncio.timeout(self._patience):
                embedded = await self._embedder.embed([text])
        except (ProviderError, TimeoutError) as error:
            reason = error.kind if isinstance(error, ProviderError) else "timeout"
            _log.warning("embedding_failed", extra={"provider": self._embedder.provider, "reason": reason})
            return None
        return Point(text, features(text), array("f", embedded.vectors[0]))

    async def find(self, scope: str, point: Point, threshold: float) -> Kept | None:
        """The answer of the nearest question of that scope that is near enough and differs in nothing that must be the same."""
        known = self._places.get((scope, point.features))
        if not known:
            return None
        now = self._clock()
        entries = [entry for entry in known if entry.until > now]
        # In a thread: a thousand long vectors take the loop's time.
        near = await asyncio.to_thread(_nearest, point.vector, entries, threshold)
        found = next((entry for entry in near if not near_miss(entry.point.text, point.text)), None)
        # It may have been dropped meanwhile.
        if found is None or found not in self._places.get((scope, point.features), ()):
            return None
        self._scopes.move_to_end(scope)
        return found.kept

    def add(self, scope: str, point: Point, kept: Kept, seconds: float) -> None:
        """That question was answered so; it is known for so long, or until there are too many."""
        entry = _Entry(point, kept, self._clock() + seconds)
        self._scopes.setdefault(scope, deque()).append(entry)
        self._scopes.move_to_end(scope)
        self._places.setdefault((scope, point.features), []).append(entry)
        self._count += 1
        if len(self._scopes[scope]) > self._per_scope:
            self._remove(scope, self._scopes[scope][0])
        while self._count > self._in_all:
            oldest = next(iter(self._scopes))
            self._remove(oldest, self._scopes[oldest][0])

    def drop(self, labels: frozenset[str]) -> None:
        """What has all those labels is not known any more."""
        for scope, entries in list(self._scopes.items()):
            for entry in [entry for entry in entries if labels.issubset(entry.kept.labels)]:
                self._remove(scope, entry)

    def clear(self) -> None:
        """Nothing is known any more."""
        self._scopes.clear()
        self._places.clear()
        self._count = 0

    def _remove(self, scope: str, entry: _Entry) -> None:
        entries, place = self._scopes[scope], (scope, entry.point.features)
        entries.remove(entry)
        self._places[place].remove(entry)
        self._count -= 1
        if not self._places[place]:
            del self._places[place]
        if not entries:
            del self._scopes[scope]


def _nearest(vector: array[float], entries: Sequence[_Entry], threshold: float) -> list[_Entry]:
    """Those that are near enough, the nearest first."""
    near = [(similarity(vector, entry.point.vector), entry) for entry in entries]
    near = [pair for pair in near if pair[0] >= threshold]
    return [entry for _, entry in sorted(near, key=lambda pair: -pair[0])]


def similarity(a: Sequence[float], b: Sequence[float]) -> float:
    """The cosine of two vectors of length 1; -1 where they are of different spaces."""
    return sum(map(operator.mul, a, b)) if len(a) == len(b) else -1.0
