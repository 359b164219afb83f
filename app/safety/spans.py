"""Places of a text that are taken, so that nothing is found twice."""

from __future__ import annotations

from app.domain.screening import EntityKind, Found


class Spans:
    """Entities of one text, which is looked through piece by piece.

    `found`: those of the pieces so far, in order, none within another. Of two that overlap the one of the lower rank stays, of two of
    one rank the one that begins first; where they are of one kind it goes on to the end of both.
    """

    def __init__(self) -> None:
        self.found: list[Found] = []
        self._ranks: list[int] = []
        self._added: list[tuple[int, int, Found]] = []

    def add(self, rank: int, kind: EntityKind, start: int, end: int) -> None:
        """That is one of the next piece."""
        self._added.append((start, rank, Found(kind, start, end)))

    def settle(self) -> None:
        """The piece is looked through: what was added begins there, and not before what earlier pieces have."""
        if len(self._added) > 1:
            self._added.sort(key=_order)
        for start, rank, one in self._added:
            while self.found and self.found[-1].end > start:
                last = self.found[-1]
                if self._ranks[-1] <= rank:
                    if last.kind == one.kind and last.end < one.end:
                        self.found[-1] = Found(last.kind, last.start, one.end)
                    break
                self.found.pop()
                self._ranks.pop()
            else:
                self.found.append(one)
                self._ranks.append(rank)
        self._added.clear()


def _order(added: tuple[int, int, Found]) -> tuple[int, int]:
    return added[0], added[1]
