"""SIGKILL in the middle of a run, at a dozen places; `python -m ops.faults` does it at all of them."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.faults.attended import Attended
from tests.faults.cuts import Cut
from tests.faults.house import TOPOLOGIES, house
from tests.faults.matrix import Cutter

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


@pytest.mark.parametrize("topology", CUTS)
async def test_a_run_whose_process_is_killed_goes_on(tmp_path: Path, database: str, topology: str) -> None:
    async with house(tmp_path, database, *TOPOLOGIES[topology]) as opened:
        cutter = Cutter(house=opened)
        await cutter.uncut()
        wrong = {}
        for cut in CUTS[topology]:
            outcome = await cutter.cut(cut)
            if outcome.problems or not outcome.reached:
                wrong[str(cut)] = outcome
        assert not wrong


async def test_what_people_said_survives_every_kill(tmp_path: Path, database: str) -> None:
    """An approval is given and a message comes on the way, while the process is killed that asked for them, or heard them."""
    async with house(tmp_path, database, "all") as opened:
        cutter = Cutter(house=opened, runs=Attended)
        wrong = {}
        for cut in (
            Cut("model", 2, "after"),
            Cut("effect", 3, "before"),
            Cut("effect", 4, "after"),
            Cut("model", 4, "2"),
        ):
            outcome = await cutter.cut(cut)
            if outcome.problems or not outcome.reached:
                wrong[str(cut)] = outcome
        assert not wrong
