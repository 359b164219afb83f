"""The database goes away in the middle of a run: for a moment, for one connection, for a restart."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable
from pathlib import Path

import pytest

from tests.faults.cuts import Cut
from tests.faults.house import TOPOLOGIES, house
from tests.faults.matrix import Cutter, statement_cuts
from tests.faults.private import private_postgres
from tests.faults.runs import Scripted

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(sys.platform != "linux", reason="the kit reads /proc"),
    pytest.mark.timeout(300),  # it starts many processes, which takes its time on a busy machine
]


async def test_a_connection_that_is_lost_with_a_statement_or_its_answer(tmp_path: Path, database: str) -> None:
    """The run goes on in its process, and nothing of it is done twice. `python -m ops.faults` does it at every statement."""
    async with house(tmp_path, database, "all") as opened:
        cutter = Cutter(house=opened, how="lose")
        wrong = {}
        for cut in statement_cuts(await cutter.uncut(), every=3):
            outcome = await cutter.cut(cut)
            if outcome.problems:
                wrong[str(cut)] = outcome
        assert not wrong


@pytest.mark.parametrize("topology", TOPOLOGIES)
async def test_a_database_that_is_restarted(tmp_path: Path, topology: str) -> None:
    async with (
        private_postgres(tmp_path / "pg") as server,
        house(tmp_path, server.dsn, *TOPOLOGIES[topology]) as opened,
    ):

        def restart(pid: int) -> Awaitable[bool]:
            async def again() -> bool:
                opened.proxy.away = True
                opened.proxy.cut()
                await server.stop()
                await server.start()
                opened.proxy.target, opened.database = server.socket, server.dsn
                opened.proxy.away = False
                return True

            return again()

        wrong = {}
        for cut in (Cut("effect", 3, "after"), Cut("model", 6, "before")):
            opened.knife.arm(cut, restart)
            run = await Scripted(house=opened, name=str(cut)).finished()
            if problems := await run.problems():
                wrong[str(cut)] = problems
            assert opened.knife.reached.is_set()
            await asyncio.gather(*(replica.service.ready() for replica in opened.replicas.all))
        assert not wrong
