"""What is known of model targets that failed: their breakers, and what processes tell each other about them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Literal, Protocol

import msgspec

BreakerStateName = Literal["closed", "open", "half_open"]


class BreakerState(msgspec.Struct, frozen=True):
    """closed: the target may be asked; open: not for another `retry_in` seconds; half_open: by one call at a time."""

    name: BreakerStateName
    retry_in: float | None = None


class BreakerView(Protocol):
    """Whoever knows the breakers."""

    def state(self, provider: str, model: str) -> BreakerState:
        """As this process knows it, now; a target that nobody asked yet is closed. Nothing is asked."""
        ...


class BreakerNews(msgspec.Struct, frozen=True):
    """One breaker: open for another `open_for` seconds (0: half-open by now), or closed (None).

    `serial`: this process told it, as its how-manieth news; None: another one did.
    """

    provider: str
    model: str
    open_for: float | None
    serial: int | None = None


class BreakerBoard(Protocol):
    """Where the processes of a service tell each other of breakers. It may be away at any moment, and may then forget.

    Nothing raises. Each call takes as long as the board's timeout at most, and nothing while it is away.
    """

    async def back(self) -> None:
        """Return when the board is there."""
        ...

    async def tell(self, news: BreakerNews) -> bool | None:
        """The others hear it, and who comes later can read it. A closing frees the probe's place. False: refused; None: it is away."""
        ...

    async def read(self, targets: Sequence[tuple[str, str]]) -> Mapping[tuple[str, str], BreakerNews] | None:
        """What was last told of each target; those are missing of which nothing is known. None: it is away."""
        ...

    async def claim(self, provider: str, model: str, place: str, seconds: float) -> bool | None:
        """Take the one probe's place, under that name, for so long. False: somebody has it; None: it is away."""
        ...

    async def give_back(self, provider: str, model: str, place: str) -> None:
        """The place is free where that name still has it."""
        ...

    async def receive(self, said: Callable[[BreakerNews], None], again: Callable[[], Awaitable[bool]]) -> None:
        """Give what is told to `said` until cancelled, to all in the same order, own news too. `again` is called whenever news may have been missed, from the
        first time on, after listening began; where it returns False it is called again later."""
        ...
