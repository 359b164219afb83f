"""How many runs a caller may start in a time: limits, how one stands, and who counts.

A window is counted in `SLICES` equal slices and the one that it only touches, so in no window of that length, wherever it
begins, are there more than allowed. The price: what was taken counts for up to a slice longer than the window. Times are seconds.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Literal, Protocol

import msgspec

SLICES = 60
LimitScope = Literal["user", "key", "tenant", "instance"]
"""Whose limit it is. That of an `instance` is counted by each process for itself, the others by all processes together."""


class Limit(msgspec.Struct, frozen=True):
    """At most `most` in any `window`. `name` is the same for what is counted together, and tells nobody whose it is."""

    scope: LimitScope
    name: str
    most: int
    window: float

    @property
    def width(self) -> int:
        """Microseconds of a slice; so many slices are never less than the window."""
        return max(1, -(-round(self.window * 1_000_000) // SLICES))


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """How a call found its limits: the narrowest of them. `wait`: until it allows one more than now.

    `near` and `far` say when it was counted, by the clock of who counted, in microseconds; None: it was not counted there.
    """

    allowed: bool
    scope: LimitScope
    most: int
    left: int
    wait: float
    near: int | None = None
    far: int | None = None


class Limiter(Protocol):
    """Counts what is taken. Safe for concurrent use; never raises."""

    def glance(self, limits: Sequence[Limit]) -> Standing | None:
        """The refusal that `take` would give, as far as this process knows it without asking anybody. Takes nothing."""
        ...

    async def take(self, limits: Sequence[Limit]) -> Standing:
        """Take one of each of the limits (there is one at least), or nothing of any of them."""
        ...

    async def give_back(self, limits: Sequence[Limit], taken: Standing) -> None:
        """That was not taken after all."""
        ...


def limit_name(scope: LimitScope, *parts: str) -> str:
    """The name under which those parts are counted: 128 bits of SHA-256."""
    return f"{scope}:{hashlib.sha256(chr(0).join(parts).encode('utf-8', 'surrogatepass')).hexdigest()[:32]}"


def narrower(one: Standing, other: Standing) -> Standing:
    """Of two that are both allowed or both refused, the one to tell the caller."""
    if one.allowed:
        return min(one, other, key=lambda standing: (standing.left, -standing.wait))
    return max(one, other, key=lambda standing: standing.wait)
