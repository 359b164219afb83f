"""Answers given again, and each worked out once: by one run of this process, and by one process of several.

A run that asks what nobody has answered takes the *lead*; runs with the same question wait for it, in their slots, since the
lead is always a run that has its slot already. What becomes of those who wait is in ops/decisions/0014.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Sequence
from uuid import uuid4

import msgspec

from app.domain.cache import Kept, Level, LookUp, OwnAnswers, SharedAnswers, Stamp
from app.runs.alike import Alike, Point
from app.runs.questions import Question

_log = logging.getLogger(__name__)
LEASE = 5.0
"""Seconds after which another process takes the lead of one that died."""
FIRST_PAUSE, LONGEST_PAUSE = 0.02, 0.2
"""Seconds between looks for the answer of another process, doubled each time."""
LEADS = 2
"""How many leads a run waits for, one after another; then it asks for itself."""

Counted = Callable[[Level, LookUp], None]


class Hit(msgspec.Struct, frozen=True):
    """An answer that was given before."""

    kept: Kept
    level: Level


class Lead:
    """One run's right to answer a question for all others. Ends with `settle`, `withdraw` or `resign`, at the latest with the run."""

    def __init__(self, question: Question) -> None:
        self.question = question
        self.ended = asyncio.Event()
        self.hit: Hit | None = None
        self.alone = False
        """What was found out when it ended: the answer; else whether those who waited are to ask for themselves, all at once."""
        self.near: Stamp = ()
        self.far: Stamp | None = None
        self.point: Point | None = None
        self.holder = uuid4().hex
        self.shared = False
        self.holding: asyncio.Task[None] | None = None


class Answers:
    """The cache of one process: `near` is its own memory, `far` what it shares with others, `alike` finds near questions.

    `count` is told of every look-up, once a level. Safe for concurrent use in one event loop. Seconds everywhere.
    """

    def __init__(
        self,
        *,
        near: OwnAnswers,
        far: SharedAnswers | None = None,
        alike: Alike | None = None,
        count: Counted,
        lease: float = LEASE,
    ) -> None:
        self._near = near
        self._far = far
        self._alike = alike
        self._count = count
        self._lease = lease
        self._leads: dict[str, Lead] = {}
        self._leaving: set[asyncio.Task[None]] = set()

    def bypass(self) -> None:
        """A run whose agent has `cache` does without: it is not the first to work on its turn, or it stops on the way."""
        self._count("exact", "bypass")

    async def look(self, question: Question) -> Hit | Lead | None:
        """The answer; or the lead, which is the caller's then; or None: it asks for itself.

        Waits for the run that has the lead, as long as that takes.
        """
        for _ in range(LEADS):
            if (found := await self._near.get(question.key)) is not None:
                return self._hit(Hit(found.kept, "exact"))
            lead = self._leads.get(question.key)
            if lead is None:
                return await self._begin(question)
            await lead.ended.wait()
            if lead.hit is not None:
                return self._hit(lead.hit)
            if lead.alone:
                break
        self._count("exact", "miss")
        return None

    async def _begin(self, question: Question) -> Hit | Lead | None:
        """Take the lead here at once, then among processes; with it, look what others know."""
        lead = self._leads[question.key] = Lead(question)
        try:
            lead.near = await self._near.stamp(question.labels) or ()
            hit = await self._known(lead)
        except BaseException:
            self.resign(lead)
            raise
        if hit is None:
            self._count("exact", "miss")
            return lead
        self._end(lead, hit)
        return self._hit(hit)

    async def _known(self, lead: Lead) -> Hit | None:
        """What another process, or a near question, has as the answer. None: the lead has to find it."""
        question = lead.question
        if self._far is not None:
            pause = FIRST_PAUSE
            while True:
                if (found := await self._far.get(question.key)) is not None:
                    await self._near.put(question.key, found.kept, found.seconds, lead.near)
                    return Hit(found.kept, "exact")
                if lead.holding is not None:
                    break
                lead.shared = True  # from now on it may be ours, also where we are cancelled before we know
                taken = await self._far.take(question.key, lead.holder, self._lease)
                if taken is None:
                    break
                if taken:  # and look once more: it may have been answered in between
                    lead.holding = asyncio.create_task(self._hold(self._far, lead))
                    lead.far = await self._far.stamp(question.labels)
                    continue
                await asyncio.sleep(pause * random.uniform(0.75, 1.25))
                pause = min(LONGEST_PAUSE, 2 * pause)
        return await self._nearly(lead)

    async def _nearly(self, lead: Lead) -> Hit | None:
        question = lead.question
        if self._alike is None or question.caching.threshold is None:
            return None
        lead.point = await self._alike.place(question.text)
        if lead.point is None:
            self._count("semantic", "bypass")
            return None
        kept = await self._alike.find(question.scope, lead.point, question.caching.threshold)
        if kept is None:
            self._count("semantic", "miss")
        return None if kept is None else Hit(kept, "semantic")

    async def _hold(self, far: SharedAnswers, lead: Lead) -> None:
        """Keep the lead among processes until cancelled, or until it is lost: then two may answer, which costs a call."""
        while True:
            await asyncio.sleep(self._lease / 3)
            if await far.hold(lead.question.key, lead.holder, self._lease) is False:
                return

    def _hit(self, hit: Hit) -> Hit:
        if hit.level == "semantic":
            self._count("exact", "miss")
        self._count(hit.level, "hit")
        return hit

    def withdraw(self, lead: Lead) -> None:
        """The lead's answer is of its own run alone, and theirs most likely too: those who wait ask for themselves, all at once."""
        self._end(lead, None, alone=True)

    async def settle(self, lead: Lead, kept: Kept) -> None:
        """The lead's run ended with that answer: it is kept, and given to all who wait."""
        question = lead.question
        seconds = question.caching.ttl
        fresh = await self._near.put(question.key, kept, seconds, lead.near)
        if fresh and self._alike is not None and lead.point is not None:
            self._alike.add(question.scope, lead.point, kept, seconds)
        # Who waits here does not wait for the server. Who asked before a drop may have what was begun before it.
        self._tell(lead, Hit(kept, "exact"))
        if fresh and self._far is not None and lead.far is not None:
            await self._far.put(question.key, kept, seconds, lead.far)
        self._end(lead, Hit(kept, "exact"))

    def resign(self, lead: Lead) -> None:
        """The lead's run ended in no answer, or goes on elsewhere: one of those who wait takes the lead. Does nothing where it has ended."""
        self._end(lead, None)

    def _tell(self, lead: Lead, hit: Hit | None, *, alone: bool = False) -> None:
        if lead.ended.is_set():
            return
        lead.hit, lead.alone = hit, alone
        if self._leads.get(lead.question.key) is lead:
            del self._leads[lead.question.key]
        lead.ended.set()

    def _end(self, lead: Lead, hit: Hit | None, *, alone: bool = False) -> None:
        self._tell(lead, hit, alone=alone)
        if lead.shared:
            lead.shared = False
            leaving = asyncio.create_task(self._leave(lead))
            self._leaving.add(leaving)
            leaving.add_done_callback(self._leaving.discard)

    async def _leave(self, lead: Lead) -> None:
        if lead.holding is not None:
            lead.holding.cancel()
            await asyncio.wait([lead.holding])
        assert self._far is not None
        await self._far.leave(lead.question.key, lead.holder)

    async def drop(self, labels: Sequence[str]) -> tuple[int, bool]:
        """Answers that have all those labels are gone from here and from what is shared, and those under way are not kept.

        How many there were at least, and whether the shared ones are gone too. Other processes have memories of their own.
        """
        # What is shared goes first: what is taken over from there before counts as begun before.
        shared = 0 if self._far is None else await self._far.drop(labels)
        here = self.dropped(labels)
        return (here, False) if shared is None else (max(here, shared), True)

    def dropped(self, labels: Sequence[str]) -> int:
        """As `drop`, in this process only. Who asks from now on does not wait for what was begun before."""
        wanted = frozenset(labels)
        for key, lead in list(self._leads.items()):
            if wanted.issubset(lead.question.labels):
                del self._leads[key]
        if self._alike is not None:
            self._alike.drop(wanted)
        return self._near.discard(labels)

    def forget(self) -> None:
        """Drops may have been missed: nothing that this process has in memory is given any more."""
        self._leads.clear()
        if self._alike is not None:
            self._alike.clear()
        self._near.clear()

    async def aclose(self) -> None:
        """What was begun is done."""
        if self._leaving:
            await asyncio.wait(set(self._leaving))
