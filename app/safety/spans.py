"""Places of a text that are taken, so that nothing is found twice."""

from __future__ import annotations

from collections.abc import Sequence

from app.domain.screening import EntityKind, Found


class Spans:
    """Entities of one text. Whoever comes first has the place."""

    def __init__(self) -> None:
        self.found: list[Found] = []

    def add(self, kind: EntityKind, start: int, end: int) -> None:
        """That is one, unless part of it is one already."""
        self.found.append(Found(kind, start, end))

    def sorted(self) -> list[Found]:
        """All of them in order. Where two overlap, the one that was added first stays."""
        if len(self.found) < 2:
            return self.found
        kept: list[Found] = []
        ranked = sorted(range(len(self.found)), key=lambda n: (self.found[n].start, n))
        for n in ranked:
            one = self.found[n]
            while kept and kept[-1].end > one.start:
                if _before(self.found, kept[-1], n):
                    break
                kept.pop()
            else:
                kept.append(one)
        return kept


def _before(found: Sequence[Found], one: Found, n: int) -> bool:
    """Whether `one` was added before number n."""
    return found.index(one) < n
