"""SIGKILL in the middle of a run, at a dozen places; `python -m ops.faults` does it at all of them."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path

import pytest

from tests.faults.attended import Attended
from tests.faults.cuts import Cut
from tests.faults.house import TOPOLOGIES, house
from tests.faults.matrix import Cutter, Outcome
from tests.faults.script import WORK

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(sys.platform != "linux", reason="the kit reads /proc"),
    pytest.mark.timeout(300),  # it starts many processes, which takes its time on a busy machine
]

CUTS = {
    "single": (
        Cut("model", 1, "before"),
        Cut("model", 3, "3"),
        Cut("model", 7, "after"),
        Cut("effect", 2, "after"),
        Cut("effect", 3, "after"),
        Cut("effect", 6, "before"),
        Cut("statement", 2, "after"),
        Cut("statement", 12, "before"),
    ),
    "split": (
        Cut("model", 4, "after"),
        Cut("effect", 5, "after"),
        Cut("statement", 3, "before"),
        Cut("statement", 10, "after"),
    ),
}


async def wrong(cutter: Cutter, cuts: Iterable[Cut]) -> dict[str, Outcome]:
    """What went wrong at those cuts, or did not come to one."""
    outcomes = {str(cut): await cutter.cut(cut) for cut in cuts}
    return {cut: outcome for cut, outcome in outcomes.items() if outcome.problems or not outcome.reached}


@pytest.mark.parametrize("topology", CUTS)
async def test_a_run_whose_process_is_killed_goes_on(tmp_path: Path, database: str, topology: str) -> None:
    async with house(tmp_path, database, *TOPOLOGIES[topology]) as opened:
        cutter = Cutter(house=opened)
        await cutter.uncut()
        assert not await wrong(cutter, CUTS[topology])


async def test_a_kill_after_each_piece_of_an_answer_leaves_a_row_that_is_settled(tmp_path: Path, database: str) -> None:
    """The last answer of the run, which has seven pieces: `problems` looks at the ledger, too."""
    last = len(WORK.steps)
    async with house(tmp_path, database, *TOPOLOGIES["single"]) as opened:
        cuts = [Cut("model", last, str(n + 1)) for n in range(len(WORK.steps[-1].text))]
        assert not await wrong(Cutter(house=opened), cuts)


async def test_what_people_said_survives_every_kill(tmp_path: Path, database: str) -> None:
    """An approval is given and a message comes on the way, while the process is killed that asked for them, or heard them."""
    cuts = (Cut("model", 2, "after"), Cut("effect", 3, "before"), Cut("effect", 4, "after"), Cut("model", 4, "2"))
    async with house(tmp_path, database, "all") as opened:
        assert not await wrong(Cutter(house=opened, runs=Attended), cuts)
