"""Recall and precision by kind, false alarms in text of which nothing is to be found, and speed."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence

import msgspec

from app.domain.screening import Found, Screening
from app.safety.entities import WINDOW, look
from app.safety.guard import Screener
from app.safety.plain import plain
from app.safety.spans import Spans
from ops.redaction.corpus import Labelled


class Score(msgspec.Struct):
    """What was found of one kind. `missed` are examples."""

    wanted: int = 0
    found: int = 0
    false: int = 0
    missed: list[str] = []

    @property
    def recall(self) -> float:
        return self.found / self.wanted if self.wanted else 1.0

    @property
    def precision(self) -> float:
        return self.found / (self.found + self.false) if self.found + self.false else 1.0


def score(corpus: Iterable[Labelled], find: Callable[[str], list[Found]]) -> tuple[dict[str, Score], dict[str, Score]]:
    """By kind, and by what it is. An entity counts where its kind and all of its characters are right."""
    kinds: dict[str, Score] = {}
    whats: dict[str, Score] = {}
    for one in corpus:
        found = [(entity.kind, one.text[entity.start : entity.end]) for entity in find(one.text)]
        hit = one.kind is not None and any(kind == one.kind and _same(text, one) for kind, text in found)
        for table, name in ((kinds, one.kind), (whats, one.what)):
            if name is not None:
                row = table.setdefault(name, Score(missed=[]))
                row.wanted += one.kind is not None
                row.found += hit
                if one.kind is not None and not hit:
                    row.missed.append(one.text)
        for kind, text in found:
            if not (kind == one.kind and _same(text, one)):
                for table, name in ((kinds, kind), (whats, one.what)):
                    row = table.setdefault(name, Score(missed=[]))
                    row.false += 1
                    row.missed.append(f"{kind} in {one.text!r}")
    return kinds, whats


def _same(found: str, one: Labelled) -> bool:
    return found == one.value


def alarms(texts: Sequence[str]) -> Counter[str]:
    """Entities of texts in which there is none, by kind."""
    return Counter(entity.kind for text in texts for entity in through(text))


def through(text: str) -> list[Found]:
    """As `app.safety.entities.find`, without giving way to others."""
    copy = plain(text)
    spans = Spans()
    for start in range(0, len(copy.text), WINDOW):
        look(copy.text, start, min(start + WINDOW, len(copy.text)), spans)
    return copy.own(spans.found)


def speed(text: str, rounds: int = 5) -> float:
    """Megabytes (of UTF-8) a second of this thread's time, the best of some rounds."""
    best = float("inf")
    for _ in range(rounds):
        began = time.thread_time()
        through(text)
        best = min(best, time.thread_time() - began)
    return len(text.encode()) / best / 1e6


def per_delta(
    pieces: Sequence[str], policy: Screening | None, instructions: str, rounds: int = 7
) -> tuple[float, float]:
    """Nanoseconds for one delta, on average and at worst (each the best of some rounds), through the guards of that policy; None: without."""
    screener = Screener()
    best, worst = float("inf"), float("inf")
    for _ in range(rounds):
        guard = None if policy is None else screener.guard(policy, instructions)
        shown: list[str] = []
        slowest = 0
        began = time.thread_time_ns()
        before = began
        for piece in pieces:
            shown.append(piece if guard is None else guard.push(piece))
            now = time.thread_time_ns()
            slowest = max(slowest, now - before)
            before = now
        best, worst = min(best, (before - began) / len(pieces)), min(worst, slowest)
    return best, worst
