"""Embeddings that need no key: what texts share in letters, not in meaning. For trying the semantic cache out, and for tests.

Runs of three to five characters within words, and words, are hashed into a vector and weighed down as they repeat. Nearly the
same words lie near; the same thing in other words does not.
"""

from __future__ import annotations

import math
import unicodedata
from collections import Counter
from collections.abc import Sequence
from zlib import crc32

from app.domain.cache import Embedded

DIMENSIONS = 1024
RUNS = (3, 4, 5)


class OfflineEmbedder:
    """The `Embedder` of the offline provider: no network, no randomness."""

    def __init__(self, *, provider: str = "offline", dimensions: int | None = None) -> None:
        self.provider = provider
        self.system = "offline"
        self.model = "letters"
        self._dimensions = dimensions or DIMENSIONS

    async def embed(self, texts: Sequence[str]) -> Embedded:
        """A text without letters and digits has all its weight at one place."""
        return Embedded([self._vector(text) for text in texts], 0)

    def _vector(self, text: str) -> list[float]:
        vector = [0.0] * self._dimensions
        for part, times in Counter(_parts(text)).items():
            place = crc32(part.encode("utf-8", "replace"))
            vector[place % self._dimensions] += (1 if place & 0x8000_0000 else -1) * (1 + math.log(times))
        length = math.sqrt(sum(value * value for value in vector))
        if not length:
            return [1.0] + [0.0] * (self._dimensions - 1)
        return [value / length for value in vector]


def _parts(text: str) -> list[str]:
    words = "".join(c if c.isalnum() else " " for c in unicodedata.normalize("NFKC", text).casefold()).split()
    found = [f"={word}" for word in words]
    for word in words:
        edged = f"<{word}>"
        found += [edged[at : at + size] for size in RUNS for at in range(len(edged) - size + 1)]
    return found
