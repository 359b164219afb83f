"""Workers whose clocks are an hour apart: leases are the database's time, and nobody else's."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.e2e.service import ROOT
from tests.faults.cuts import Cut
from tests.faults.house import TOPOLOGIES, house
from tests.faults.matrix import Cutter

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(sys.platform != "linux", reason="the kit reads /proc"),
    pytest.mark.timeout(300),  # it starts many processes, which takes its time on a busy machine
]

SHIM = """
import os, time

_skew, _time, _time_ns = float(os.environ["SKEW"]), time.time, time.time_ns
time.time = lambda: _time() + _skew
time.time_ns = lambda: _time_ns() + int(_skew * 1e9)
"""


async def test_a_run_goes_on_at_a_worker_with_another_clock(tmp_path: Path, database: str) -> None:
    shim = tmp_path / "shim"
    shim.mkdir()
    (shim / "sitecustomize.py").write_text(SHIM)
    each = [{"PYTHONPATH": f"{shim}:{ROOT}", "SKEW": str(skew)} for skew in (0, 3600, -3600)]
    async with house(tmp_path, database, *TOPOLOGIES["split"], each=each) as opened:
        for cut in (Cut("effect", 3, "after"), Cut("model", 5, "before")):
            outcome = await Cutter(house=opened).cut(cut)
            assert outcome.reached
            assert not outcome.problems
            assert outcome.attempts == 2
