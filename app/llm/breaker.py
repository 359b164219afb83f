"""Circuit breakers: a model target that keeps failing is left alone for a while, and then tried by one call at a time."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable
from typing import Any, Literal
from uuid import uuid4

import msgspec

from app.domain.breakers import BreakerBoard, BreakerNews, BreakerState
from app.llm.taxonomy import Effect

log = logging.getLogger(__name__)

LONGEST_OPEN = 600.0
"""Seconds: a provider that says to come back later than this is asked again after it all the same."""
Key = tuple[str, str]
"""The provider's name and the model."""


class Call(msgspec.Struct, frozen=True):
    """A call that was admitted: in which era of its breaker, and as the how-manieth probe of that era (0: as none)."""

    era: int
    probe: int = 0


class Breaker(msgspec.Struct, frozen=True, kw_only=True):
    """The breaker of one target, as values in and values out. `now` is in seconds of any one clock that never goes back.

    Closed until `limit` failures in a row, or one that opens at once; then open for `window` seconds, longer where the provider
    says so; then half-open: one probe at a time, and one `window` each, decides. Every opening and every closing begins a
    new `era`, and what calls of an earlier one come to no longer matters.
    """

    limit: int
    window: float
    era: int = 0
    failures: int = 0
    until: float | None = None
    probes: int = 0
    place_until: float | None = None

    def state(self, now: float) -> BreakerState:
        if self.until is None:
            return BreakerState("closed")
        return BreakerState("open", self.until - now) if now < self.until else BreakerState("half_open")

    def admit(self, now: float) -> tuple[Breaker, Call | None]:
        """None: the target may not be asked."""
        if self.until is None:
            return self, Call(self.era)
        if now < self.until or (self.place_until is not None and now < self.place_until):
            return self, None
        probing = _changed(self, probes=self.probes + 1, place_until=now + self.window)
        return probing, Call(self.era, probing.probes)

    def succeeded(self, call: Call) -> Breaker:
        """Also a probe that took longer than its place was kept has proven that the target works."""
        if call.era != self.era:
            return self
        if self.until is not None:
            return self.closed()
        return _changed(self, failures=0) if self.failures else self

    def failed(self, call: Call, effect: Effect, retry_after: float | None, now: float) -> Breaker:
        if call.era != self.era:
            return self
        if self.until is None and effect == "counts" and self.failures + 1 < self.limit:
            return _changed(self, failures=self.failures + 1)
        return self.opened(max(self.window, min(retry_after or 0.0, LONGEST_OPEN)), now)

    def abandoned(self, call: Call) -> Breaker:
        """The place of a probe is free, if it was this one's still."""
        if call.era == self.era and call.probe and call.probe == self.probes:
            return _changed(self, place_until=None)
        return self

    def opened(self, seconds: float, now: float) -> Breaker:
        """Open for so long; 0: half-open."""
        return _changed(self, era=self.era + 1, failures=0, until=now + seconds, probes=0, place_until=None)

    def closed(self) -> Breaker:
        return _changed(self, era=self.era + 1, failures=0, until=None, probes=0, place_until=None)

    def told(self, open_for: float | None, now: float) -> Breaker:
        """After the word of another process. Of two times that it is open the longer one holds."""
        if open_for is None:
            return self if self.until is None else self.closed()
        left = min(open_for, max(self.window, LONGEST_OPEN))
        if self.until is None or (left > 0 and now >= self.until):
            return self.opened(left, now)
        return _changed(self, until=max(self.until, now + left)) if now < self.until else self


def _changed(breaker: Breaker, **fields: Any) -> Breaker:
    return msgspec.structs.replace(breaker, **fields)


class Permit:
    """A call that was admitted. Its verdict is given once, by `succeeded`, `failed` or `abandoned`."""

    def __init__(self, *, breakers: Breakers, key: Key, call: Call, place: str | None) -> None:
        self._breakers = breakers
        self.key = key
        self.call = call
        self.place = place

    def succeeded(self) -> None:
        """The target answered. Where this was the probe, the closing frees its place."""
        self._breakers._become(self.key, self._breakers._of(self.key).succeeded(self.call), "here")

    def failed(self, effect: Effect, retry_after: float | None) -> None:
        """The target failed. `retry_after`: seconds that it asked for; an opening lasts no less, up to ten minutes.

        A probe's place is kept until its time is over: the next probe has to wait for that anyway.
        """
        breakers = self._breakers
        failed = breakers._of(self.key).failed(self.call, effect, retry_after, breakers._clock())
        breakers._become(self.key, failed, "here")

    def abandoned(self) -> None:
        """The call ended without a verdict; where it was the probe, another may go at once."""
        self._breakers._abandoned(self)


class Breakers:
    """The breakers of every target, shared with other processes by a `board` where there is one.

    While a breaker is closed nothing is awaited. Without the board, or while it is away, this process decides for itself.
    """

    def __init__(
        self,
        *,
        failures: int = 5,
        open_seconds: float = 30.0,
        targets: Iterable[Key] = (),
        board: BreakerBoard | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._new = Breaker(limit=failures, window=open_seconds)
        self._breakers = dict.fromkeys(targets, self._new)
        self._board = board
        self._clock = clock
        self._untold: set[Key] = set()
        self._sent: dict[Key, tuple[int, int]] = {}  # serial and era of what was told last and is not heard back yet
        self._serial = 0
        self._speaking = asyncio.Lock()  # what is read is known to be older or younger than what is told
        self._left: dict[Key, str] = {}
        self._news = asyncio.Event()

    @property
    def targets(self) -> list[Key]:
        """Every target that is known."""
        return sorted(self._breakers)

    def state(self, provider: str, model: str) -> BreakerState:
        """As this process knows it, now."""
        return self._of((provider, model)).state(self._clock())

    async def admit(self, provider: str, model: str) -> Permit | None:
        """None: the target is not to be asked. Else ask it, perhaps as the one probe; then say how that ended."""
        key = (provider, model)
        while True:
            self._breakers[key], call = self._of(key).admit(self._clock())
            if call is None:
                return None
            place = uuid4().hex if call.probe and self._board is not None else None
            permit = Permit(breakers=self, key=key, call=call, place=place)
            if permit.place is not None and not await self._claimed(permit, permit.place):
                return None
            if call.era == self._breakers[key].era:
                return permit
            self._give_back(permit)  # another process decided meanwhile

    async def learn(self) -> bool:
        """What was told while nobody listened here is known; what the board forgot is told again. False: it is away."""
        if self._board is None:
            return False
        async with self._speaking:
            return await self._read(self._board)

    async def share(self) -> None:
        """What others tell is heard, and they are told what is new here, until cancelled. Nothing to do without a board."""
        if self._board is not None:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._board.receive(self._heard, self.learn))
                group.create_task(self._tell(self._board))

    def _of(self, key: Key) -> Breaker:
        return self._breakers.get(key, self._new)

    def _become(self, key: Key, breaker: Breaker, by: Literal["here", "elsewhere"]) -> None:
        """The target's breaker is that one; an opening or a closing is logged, and others are told if it is ours."""
        before, self._breakers[key] = self._of(key), breaker
        if breaker.era == before.era:
            return
        said = {"provider": key[0], "model": key[1], "by": by}
        if breaker.until is None:
            log.info("breaker_closed", extra=said)
        else:
            log.warning("breaker_opened", extra=said | {"seconds": round(breaker.until - self._clock(), 3)})
        if by == "here" and self._board is not None:
            self._untold.add(key)
            self._news.set()

    def _abandoned(self, permit: Permit) -> None:
        self._breakers[permit.key] = self._of(permit.key).abandoned(permit.call)
        self._give_back(permit)

    async def _claimed(self, permit: Permit, place: str) -> bool:
        """Whether no other process has a probe out. Nobody knows: then each process goes by itself."""
        assert self._board is not None
        try:
            answer = await self._board.claim(*permit.key, place, self._new.window)
        except BaseException:
            self._abandoned(permit)
            raise
        if answer is False:
            self._breakers[permit.key] = self._of(permit.key).abandoned(permit.call)
        return answer is not False

    def _give_back(self, permit: Permit) -> None:
        if permit.place is not None:
            self._left[permit.key] = permit.place
            self._news.set()

    def _heard(self, news: BreakerNews) -> None:
        key = (news.provider, news.model)
        if news.serial is not None:
            if (sent := self._sent.get(key)) is not None and sent[0] == news.serial:
                del self._sent[key]
                if self._breakers[key].era == sent[1]:
                    self._untold.discard(key)
            return
        # All hear all news in one order, and the last word holds: what comes before ours is overruled by it.
        if key in self._breakers and key not in self._untold and key not in self._sent:
            self._become(key, self._breakers[key].told(news.open_for, self._clock()), "elsewhere")

    async def _read(self, board: BreakerBoard) -> bool:
        self._sent.clear()
        eras = {key: breaker.era for key, breaker in self._breakers.items()}
        known = await board.read(list(eras))
        if known is None:
            return False
        for key, era in eras.items():
            if self._breakers[key].era != era:
                continue  # younger than the answer
            if key in known:
                self._heard(known[key])
            elif self._breakers[key].until is not None:
                self._untold.add(key)
        self._news.set()
        return True

    async def _tell(self, board: BreakerBoard) -> None:
        while True:
            await self._news.wait()
            self._news.clear()
            while self._untold or self._left:
                await board.back()
                while self._left:
                    key, place = self._left.popitem()
                    await board.give_back(*key, place)
                for key in sorted(self._untold):
                    async with self._speaking:
                        if not await self._say(key, board):
                            break

    async def _say(self, key: Key, board: BreakerBoard) -> bool:
        """The target's state was told, or refused. False: the board is away."""
        breaker = self._breakers[key]
        left = None if breaker.until is None else max(0.0, breaker.until - self._clock())
        self._serial += 1
        self._sent[key] = sent = (self._serial, breaker.era)
        answer = await board.tell(BreakerNews(*key, left, self._serial))
        if not answer and self._sent.get(key) == sent:
            del self._sent[key]
        if answer is not None and self._breakers[key].era == breaker.era:
            self._untold.discard(key)
        return answer is not None
