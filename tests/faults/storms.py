"""Several faults in one run, chosen by chance from a seed: processes killed and frozen, connections lost."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import time
from contextlib import suppress

from tests.e2e.wires import APIS
from tests.faults.cuts import Cut, kill, stop
from tests.faults.house import LEASE, House
from tests.faults.matrix import Outcome, cuts, stuck
from tests.faults.runs import Scripted

FROZEN = 1.6 * LEASE
"""Seconds that a process stands still."""
WITHIN = 60.0
"""Seconds for a run."""


class Storm:
    """Storms over one house, one after the other."""

    def __init__(self, *, house: House) -> None:
        self._house = house
        self._thaws: set[asyncio.Task[None]] = set()

    async def blow(self, seed: int) -> Outcome:
        """A run in which two or three things go wrong, each counted from the one before; at most two of them end an owner."""
        chance = random.Random(seed)
        acts = chance.choice((["kill", "kill"], ["kill", "lose"], ["freeze", "kill"], ["lose", "freeze", "kill"]))
        chance.shuffle(acts)
        wanted = [(act, chance.choice(cuts(12))) for act in acts]
        began, knife = time.monotonic(), self._house.knife
        run = Scripted(house=self._house, name=f"storm {seed} {time.time_ns()}", api=chance.choice(APIS))
        knife.arm(None)
        blows = asyncio.create_task(self._blows(wanted))
        keeping = asyncio.create_task(self._keep())
        wrong: list[str] = []
        try:
            await run.finished(WITHIN)
        except (AssertionError, TimeoutError) as error:
            wrong += [f"it did not end: {error}", await stuck(self._house, run)]
        await knife.lay_down()
        for task in (blows, keeping):
            task.cancel()
        await asyncio.gather(blows, keeping, *self._thaws, return_exceptions=True)
        await asyncio.gather(*(r.restart() for r in self._house.replicas.all if not r.alive))
        attempts = 0
        if run.run_id:
            wrong += await run.problems(zombies="freeze" in acts)
            attempts = sum(event["event"] == "run.started" for event in await run.journal())
        return Outcome(
            cut=f"{seed}: " + ", ".join(f"{act} at {cut}" for act, cut in wanted),
            reached=knife.reached.is_set(),
            attempts=attempts,
            recovery=None,
            restart=0.0,
            took=time.monotonic() - began,
            problems=tuple(wrong),
        )

    async def _blows(self, wanted: list[tuple[str, Cut]]) -> None:
        knife = self._house.knife
        for act, cut in wanted:
            lose = self._lose if cut.site == "statement" else self._lose_meanwhile
            knife.arm(cut, {"kill": kill, "freeze": self._freeze, "lose": lose}[act])
            await knife.reached.wait()

    async def _keep(self) -> None:
        """What is dead is started again."""
        while True:
            for replica in self._house.replicas.all:
                if not replica.alive:
                    await replica.restart()
            await asyncio.sleep(0.05)

    def _lose(self, pid: int) -> bool:
        self._house.proxy.cut(pid)
        return False

    def _lose_meanwhile(self, pid: int) -> bool:
        self._house.proxy.cut(pid)
        return True

    def _freeze(self, pid: int) -> bool:
        stop(pid)
        thaw = asyncio.create_task(self._thaw(pid))
        self._thaws.add(thaw)
        thaw.add_done_callback(self._thaws.discard)
        return True

    async def _thaw(self, pid: int) -> None:
        await asyncio.sleep(FROZEN)
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)
