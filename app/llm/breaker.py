"""Circuit breakers: a model target that keeps failing is left alone for a while, and then tried by one call at a time."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from contextvars import ContextVar
from typing import Any, Literal
from uuid import uuid4

import msgspec

from app.domain.breakers import BreakerBoard, BreakerNews, BreakerState

log = logging.getLogger(__name__)

LONGEST_OPEN = 600.0
"""Seconds: a provider that says to come back later than this is asked again after it all the same."""
Effect = Literal["counts", "opens"]
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


class Breakers:
    """The breakers of every target, shared with other processes by a `board` where there is one.

    Every admitted call ends with exactly one of `succeeded`, `failed` and `abandoned`. Which call that is follows from the context:
    it is told by the task that was admitted, or by one that this task began since; from elsewhere it is taken for the latest call.
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
        self._calls: ContextVar[Mapping[Key, Call]] = ContextVar("calls")  # our own: two processes' worth may be in one
        self._places: dict[tuple[Key, Call], str] = {}
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

    async def admit(self, provider: str, model: str) -> bool:
        """False: the target is not to be asked. True: ask it, perhaps as the one probe; then say how that ended."""
        key = (provider, model)
        while True:
            self._breakers[key], call = self._of(key).admit(self._clock())
            if call is None:
                return False
            if call.probe and self._board is not None and not await self._claimed(key, call, self._board):
                self._breakers[key] = self._breakers[key].abandoned(call)
                return False
            if call.era == self._breakers[key].era:
                self._calls.set({**self._calls.get({}), key: call})
                return True
            self._give_back(key, call)  # another process decided meanwhile

    def succeeded(self, provider: str, model: str) -> None:
        """The target answered."""
        key, call, breaker = self._ended(provider, model)
        self._places.pop((key, call), None)  # the closing frees it
        self._become(key, breaker.succeeded(call), "here")

    def failed(self, provider: str, model: str, effect: Effect, retry_after: float | None) -> None:
        """The target failed. `retry_after`: seconds that it asked for; an opening lasts no less, up to ten minutes."""
        key, call, breaker = self._ended(provider, model)
        self._places.pop((key, call), None)  # kept until its time is over: the next probe has to wait for that anyway
        self._become(key, breaker.failed(call, effect, retry_after, self._clock()), "here")

    def abandoned(self, provider: str, model: str) -> None:
        """The call ended without a verdict; where it was the probe, another may go at once."""
        key, call, breaker = self._ended(provider, model)
        self._breakers[key] = breaker.abandoned(call)
        self._give_back(key, call)

    @asynccontextmanager
    async def kept(self) -> AsyncIterator[None]:
        """What others know is known here, and for the block each learns what the other does. Needs the board's timeout at most."""
        if self._board is None:
            yield
            return
        await self._learn()
        sharing = asyncio.create_task(self._share(self._board))
        try:
            yield
        finally:
            sharing.cancel()
            await asyncio.wait([sharing])
            if not sharing.cancelled() and (error := sharing.exception()) is not None:
                raise error

    def _of(self, key: Key) -> Breaker:
        return self._breakers.get(key, self._new)

    def _ended(self, provider: str, model: str) -> tuple[Key, Call, Breaker]:
        """Which call that was, and its breaker."""
        key = (provider, model)
        breaker, calls = self._of(key), dict(self._calls.get({}))
        call = calls.pop(key, Call(breaker.era, breaker.probes))
        self._calls.set(calls)
        return key, call, breaker

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

    async def _claimed(self, key: Key, call: Call, board: BreakerBoard) -> bool:
        """Whether no other process has a probe out. Nobody knows: then each process goes by itself."""
        self._places[key, call] = place = uuid4().hex
        answer: bool | None = False
        try:
            answer = await board.claim(*key, place, self._new.window)
        except BaseException:
            self._breakers[key] = self._of(key).abandoned(call)
            self._give_back(key, call)
            raise
        if answer is False:
            del self._places[key, call]
        return answer is not False

    def _give_back(self, key: Key, call: Call) -> None:
        if (place := self._places.pop((key, call), None)) is not None:
            self._left[key] = place
            self._news.set()

    async def _share(self, board: BreakerBoard) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(board.receive(self._heard, self._learn))
            group.create_task(self._tell(board))

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

    async def _learn(self) -> bool:
        """What was told while nobody listened here is known; what the board forgot is told again. False: it is away."""
        async with self._speaking:
            return await self._read()

    async def _read(self) -> bool:
        assert self._board is not None
        self._sent.clear()
        eras = {key: breaker.era for key, breaker in self._breakers.items()}
        known = await self._board.read(list(eras))
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
