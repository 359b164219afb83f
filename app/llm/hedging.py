"""Asking a second target beside one that is slow to begin: the first that says something goes on, the other is cancelled."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable

import msgspec

from app.domain.errors import BudgetExhausted, ProviderError
from app.domain.models import Attempt, ModelChunk, Target
from app.llm.taxonomy import POLICIES

SHARE = 20
"""One call in so many may be hedged: at most 5 % of a route's calls, each process counting its own."""


class Allowance:
    """How many calls of a route may be hedged. It begins empty, and never holds more than one: hours without a need save up nothing."""

    def __init__(self) -> None:
        self._calls = 0

    def called(self) -> None:
        """A call began."""
        self._calls = min(self._calls + 1, SHARE)

    @property
    def there(self) -> bool:
        """Whether a call may be hedged now."""
        return self._calls == SHARE

    def take(self) -> None:
        """A call is hedged."""
        self._calls = 0


class Lane:
    """One attempt at a target that was admitted: `chunks` is its answer, `attempt` its record once it began, `failure` how it
    failed, `refusal` that there was no money for it. `judged`: the target's breaker has heard of it.
    """

    def __init__(self, target: Target) -> None:
        self.target = target
        self.chunks: AsyncGenerator[ModelChunk, None]
        self.attempt: Attempt | None = None
        self.failure: ProviderError | None = None
        self.refusal: BudgetExhausted | None = None
        self.judged = False


class Raced(msgspec.Struct, frozen=True):
    """`lane` said `chunk` first; or, where `chunk` is None, failed when nothing else was left to wait for.

    The others are over: they failed, in this order, or were cancelled.
    """

    lane: Lane
    chunk: ModelChunk | None
    others: list[Lane]


async def race(first: Lane, second: Callable[[], Awaitable[Lane | None]], *, after: float) -> Raced:
    """`second` opens the other lane, if it may be, where the first has said nothing for `after` seconds.

    A failure that no other target may be asked after ends both. The caller closes the lane that it gets.
    """
    pulls = {asyncio.create_task(_first_chunk(first)): first}
    over: list[Lane] = []
    raced: Raced | None = None
    try:
        await asyncio.wait(pulls, timeout=after)
        if not any(pull.done() for pull in pulls) and (lane := await second()) is not None:
            pulls[asyncio.create_task(_first_chunk(lane))] = lane
        while raced is None:
            done, _ = await asyncio.wait(pulls, return_when=asyncio.FIRST_COMPLETED)
            for pull in [pull for pull in pulls if pull in done]:
                chunk, lane = pull.result(), pulls[pull]
                if chunk is not None or len(pulls) == 1 or _ends(lane):
                    raced = Raced(lane, chunk, over)
                    break
                over.append(lane)
                del pulls[pull]
        return raced
    finally:
        for pull, lane in pulls.items():
            if raced is None or lane is not raced.lane:
                await _cancel(pull, lane)
                over.append(lane)


async def _first_chunk(lane: Lane) -> ModelChunk | None:
    try:
        return await anext(lane.chunks)
    except ProviderError as failure:
        lane.failure = failure
    except BudgetExhausted as refusal:
        lane.refusal = refusal
    return None


def _ends(lane: Lane) -> bool:
    return lane.failure is not None and POLICIES[lane.failure.kind].next == "nobody"


async def _cancel(pull: asyncio.Task[ModelChunk | None], lane: Lane) -> None:
    """The lane has ended and is recorded as cancelled, also where it had said something; not where it had failed by itself."""
    pull.cancel()
    await asyncio.wait([pull])
    await lane.chunks.aclose()
    if not pull.cancelled():
        pull.result()
    if lane.attempt is not None and lane.failure is None:
        lane.attempt.outcome = "cancelled"
