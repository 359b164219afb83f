"""Which keys are valid, as one process knows it: never older than `STALE`, and mostly without asking the database."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine, Iterable, Sequence
from contextlib import suppress
from typing import Any, TypeVar

import msgspec

from app.access.format import digest_of, is_key
from app.domain.access import ApiKeyStore, KeyState, Valid
from app.domain.errors import DatabaseUnavailable
from app.domain.principals import Principal
from app.rounds import rounds

log = logging.getLogger(__name__)

FRESH = 0.3
"""Seconds for which nobody looks whether the keys have changed."""
STALE = 0.8
"""Seconds after which nobody goes by what was known: with what a look takes, a change is heeded everywhere within one second."""
PATIENCE = 5.0
"""Seconds that the database has for an answer: whoever waits for one is told then that it is away."""
MOST = 10_000
"""Keys that are remembered, valid or not."""
LOOKUPS = 4
"""Keys that are looked up at once: a flood of strange ones leaves the database to the others."""
USES_EVERY = 30.0
"""Seconds between notes of which keys were used."""
SAME_USE = 60.0
"""Seconds from one note of a key's use to the next."""

Clock = Callable[[], float]
T = TypeVar("T")


class _Known(msgspec.Struct, frozen=True):
    """A key that was looked up. `until`: the clock's time from which it has expired."""

    id: str
    principal: Principal
    until: float | None


class KnownKeys:
    """Finds the principal of a key. Lives in one event loop.

    What is remembered of keys holds as long as none of them changes, which one number in the database tells; a request
    asks for it when it has not been asked for a while, and waits for the answer only where the last one is `STALE`.
    """

    def __init__(self, *, store: ApiKeyStore, clock: Clock = time.monotonic, patience: float = PATIENCE) -> None:
        self._store = store
        self._clock = clock
        self._patience = patience
        self._state: KeyState | None = None
        self._asked_at = float("-inf")
        self._asking: asyncio.Task[None] | None = None
        self._questions: set[asyncio.Task[Any]] = set()
        self._known: dict[bytes, _Known | None] = {}
        self._lookups = asyncio.Semaphore(LOOKUPS)
        self._uses: dict[str, float] = {}
        self._noted: dict[str, float] = {}
        self._wake = asyncio.Event()

    @property
    def keyed(self) -> bool | None:
        """Whether there ever was a key, as far as was heard; None: that was never asked."""
        return None if self._state is None else self._state.changes > 0

    async def state(self, at_most: float = STALE) -> KeyState:
        """How the keys stand, at most `at_most` seconds ago. Raises `DatabaseUnavailable`."""
        age = self._clock() - self._asked_at
        if age < FRESH and self._state is not None:
            return self._state
        asking = self._asking
        if asking is None or asking.done():
            asking = self._asking = asyncio.create_task(self._ask())
            asking.add_done_callback(_heard)
        if age >= at_most or self._state is None:
            await asyncio.shield(asking)
        assert self._state is not None
        return self._state

    async def _ask(self) -> None:
        began = self._clock()
        state = await self._answer(self._store.state())
        if self._state is None or state.changes != self._state.changes:
            self._known.clear()
        self._state, self._asked_at = state, began

    async def find(self, key: str) -> Principal | None:
        """Whose key that is; None where it is none, or may not be used any more. Raises `DatabaseUnavailable`."""
        state = await self.state()
        digest = digest_of(key)
        try:
            known = self._known[digest]
        except KeyError:
            # What cannot be a key is no reason to ask the database.
            if not is_key(key) and digest not in state.free_form:
                return None
            known = (await self._answer(self._in_turn(digest)))[digest]
        if known is None or (known.until is not None and known.until <= self._clock()):
            return None
        self._uses[known.id] = self._clock()
        return known.principal

    async def learn(self, keys: Iterable[str]) -> None:
        """What `find` says of those keys is known, as of `FRESH` seconds ago at most: in one statement for all that were not looked up
        since a key changed. Raises `DatabaseUnavailable`.
        """
        if digests := [digest_of(key) for key in keys]:
            await self.state(FRESH)
            if missing := [digest for digest in digests if digest not in self._known]:
                await self._answer(self._look_up(missing))

    async def _in_turn(self, digest: bytes) -> dict[bytes, _Known | None]:
        async with self._lookups:
            return await self._look_up([digest])

    async def _look_up(self, digests: Sequence[bytes]) -> dict[bytes, _Known | None]:
        before, began = self._state, self._clock()
        valid = await self._store.valid(digests)
        found = {digest: _known(valid.get(digest), began) for digest in digests}
        # Where keys changed meanwhile it may have been one of those: then they are looked up again.
        if self._state is before or (self._state and before and self._state.changes == before.changes):
            for digest, known in found.items():
                while len(self._known) >= MOST:
                    del self._known[next(iter(self._known))]
                self._known[digest] = known
        return found

    async def _answer(self, question: Coroutine[Any, Any, T]) -> T:
        """What the database answers. Raises `DatabaseUnavailable` after `patience` seconds, without waiting for the question's own end:
        to leave a connection that is silent takes its pool ten seconds more.
        """
        asked = asyncio.create_task(question)
        self._questions.add(asked)
        asked.add_done_callback(self._over)
        try:
            await asyncio.wait([asked], timeout=self._patience)
            if not asked.done():
                raise DatabaseUnavailable(f"no answer within {self._patience:g} s")
            return asked.result()
        finally:
            asked.cancel()

    def _over(self, asked: asyncio.Task[Any]) -> None:
        self._questions.discard(asked)
        if not asked.cancelled():
            asked.exception()  # whoever still waited has it; nobody else is to be told

    async def serve(self) -> None:
        """Note which keys are used, again and again, until cancelled; what was not noted by then is noted at the end."""
        try:
            await rounds(self.note, what="uses of keys", every=USES_EVERY, wake=self._wake)
        finally:
            with suppress(DatabaseUnavailable, TimeoutError):
                async with asyncio.timeout(1.0):
                    await self.note()

    async def note(self) -> None:
        """Tell the database when keys were last used, each at most once in `SAME_USE` seconds."""
        now = self._clock()
        self._noted = {key: at for key, at in self._noted.items() if now - at < SAME_USE}
        due = {key: at for key, at in self._uses.items() if key not in self._noted}
        if not due:
            return
        await self._store.used({key: now - at for key, at in due.items()})
        self._noted |= dict.fromkeys(due, now)
        for key, at in due.items():
            if self._uses.get(key) == at:
                del self._uses[key]

    async def aclose(self) -> None:
        """Nothing is being asked any more; what a silent database keeps for longer than `patience` ends with its pool."""
        going = [*self._questions, *([] if self._asking is None else [self._asking])]
        for task in going:
            task.cancel()
        if going:
            await asyncio.wait(going, timeout=self._patience)


def _known(valid: Valid | None, began: float) -> _Known | None:
    if valid is None:
        return None
    return _Known(valid.id, valid.principal, None if valid.seconds is None else began + valid.seconds)


def _heard(asking: asyncio.Task[None]) -> None:
    """Nobody may have waited for it; whoever needs the answer asks again."""
    if not asking.cancelled() and (error := asking.exception()) is not None:
        log.warning("whether API keys have changed could not be asked", extra={"reason": str(error)})
