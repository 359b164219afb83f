"""One cut of one run: the process that was at it dies there, and what becomes of the run is looked at."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Iterator
from typing import Literal

import msgspec

from tests.e2e.wires import APIS, ApiName
from tests.faults.cuts import Cut, drain, kill
from tests.faults.house import LEASE, House
from tests.faults.runs import Scripted, recovered_after
from tests.faults.script import WORK

PATIENCE = 2.0
"""Seconds beyond the lease that a recovery may take."""


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a run that was cut. Seconds: `recovery` from the kill to the next attempt without `restart`, the start
    of the process that was killed, where nobody else could go on; `took` all of it."""

    cut: str
    reached: bool
    attempts: int
    recovery: float | None
    restart: float
    took: float
    problems: tuple[str, ...]


How = Literal["kill", "lose", "drain"]
"""What happens at a cut: the process dies, or loses its connections to PostgreSQL, or is told to end."""


class Cutter:
    """Cuts runs, one after the other, in one house."""

    def __init__(self, *, house: House, how: How = "kill", runs: type[Scripted] = Scripted) -> None:
        self._house = house
        self._runs = runs
        self._how = how
        self._act = {"kill": kill, "lose": self._lose, "drain": drain}[how]
        self._apis: Iterator[ApiName] = itertools.cycle(APIS)
        self._numbers = itertools.count(1)

    async def uncut(self) -> int:
        """How many statements a run has that nobody disturbs. Raises AssertionError where it is not perfect itself."""
        self._house.knife.arm(None)
        run = await self._runs(house=self._house, name=f"uncut {next(self._numbers)}", api=next(self._apis)).finished()
        statements = self._house.knife.seen("statement")
        wrong = await run.problems()
        assert not wrong, wrong
        assert self._twice(run) == []
        return statements

    async def cut(self, cut: Cut) -> Outcome:
        """A run that is cut there, and its end."""
        began, knife = time.monotonic(), self._house.knife
        run = self._runs(house=self._house, name=f"{cut} {next(self._numbers)}", api=next(self._apis))
        knife.arm(cut, self._act)
        revival = asyncio.create_task(self._revive())
        wrong: list[str] = []
        try:
            await run.finished()
        except (AssertionError, TimeoutError) as error:
            wrong += [f"it did not end: {error}", await stuck(self._house, run)]
        await knife.lay_down()
        if not knife.reached.is_set():
            revival.cancel()
        restart = (await asyncio.gather(revival, return_exceptions=True))[0]
        if not isinstance(restart, float):
            restart = 0.0
        await self._complete()
        recovery, attempts = None, 0
        if run.run_id:
            wrong += await run.problems()
            wrong += self._twice(run) if self._how == "drain" else []
            events = await run.journal()
            attempts = sum(event["event"] == "run.started" for event in events)
            recovery = recovered_after(events, knife.at, restart) if knife.reached.is_set() else None
        if recovery is not None and recovery > LEASE + PATIENCE:
            wrong.append(f"recovered after {recovery:.2f} s")
        return Outcome(
            cut=str(cut),
            reached=knife.reached.is_set(),
            attempts=attempts,
            recovery=recovery,
            restart=restart,
            took=time.monotonic() - began,
            problems=tuple(wrong),
        )

    def _twice(self, run: Scripted) -> list[str]:
        """A process that ends in peace leaves nothing that has to be done again, or of which nobody knows how it ended."""
        effects, calls = self._house.world.of(run.run_id), self._house.model.of(run.question)
        counts = len(effects), len(calls)
        return (
            []
            if counts == (len(run.script.calls), len(run.script.steps))
            else [f"{counts[0]} effects and {counts[1]} model calls"]
        )

    def _lose(self, pid: int) -> bool:
        self._house.proxy.cut(pid)
        return False

    async def _revive(self) -> float:
        """What was killed runs again where nobody else can go on in its place. Seconds that this took."""
        knife = self._house.knife
        await knife.reached.wait()
        if self._how == "lose":
            return 0.0
        dead = next(replica for replica in self._house.replicas.all if replica._service and replica.pid == knife.pid)
        await dead.service.process.wait()
        if dead.kind == "worker":
            return 0.0
        began = time.monotonic()
        await dead.restart()
        return time.monotonic() - began

    async def _complete(self) -> None:
        """Every process runs."""
        await asyncio.gather(*(replica.restart() for replica in self._house.replicas.all if not replica.alive))


async def stuck(house: House, run: Scripted) -> str:
    """Where a run stands that does not go on, and what the processes said."""
    rows = await house.query(
        "SELECT status, attempt, failures, lease_owner, lease_until - clock_timestamp() AS left, last_seq, inbox"
        " FROM runs WHERE id = $1",
        run.run_id,
    )
    return f"it stands at {[dict(row) for row in rows]}\n{await house.replicas.log()}"


def cuts(statements: int, every: int = 1) -> list[Cut]:
    """Every place where a run of so many statements can be cut; of the statements every so manieth."""
    found: list[Cut] = []
    for number, step in enumerate(WORK.steps, 1):
        pieces = 1 + len(step.text)
        found += [Cut("model", number, moment) for moment in ("before", *map(str, range(1, pieces)), "after")]
        found += [Cut("model", number, str(pieces), linger) for linger in (0.0, 0.02)]
        found.append(Cut("model", number, "after", 0.01))
    for number in range(1, len(WORK.calls) + 1):
        found += [Cut("effect", number, moment) for moment in ("before", "after")]
    return found + statement_cuts(statements, every)


def statement_cuts(statements: int, every: int = 1) -> list[Cut]:
    """Before and after every so manieth statement."""
    numbers = range(1, statements + 1, every)
    return [Cut("statement", number, moment) for number in numbers for moment in ("before", "after")]
