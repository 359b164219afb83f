"""A run that ends every process that executes it is given up, visibly, and can be resumed as a new one."""

from __future__ import annotations

import sys
from contextlib import suppress
from pathlib import Path

import pytest

from tests.e2e.service import Ended
from tests.e2e.wires import says
from tests.faults.house import house
from tests.faults.runs import Scripted, ordered
from tests.waiting import until

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(sys.platform != "linux", reason="the kit reads /proc"),
    pytest.mark.timeout(300),  # it starts many processes, which takes its time on a busy machine
]


async def test_a_poisonous_run_is_given_up(tmp_path: Path, database: str) -> None:
    async with house(tmp_path, database, "all", environ={"STEADYHAND__WORKER__MAX_ATTEMPTS": "3"}) as opened:
        opened.world.deadly = True
        call = says("Watch ", "this.", calls=[("x", "explode", '{"what": "x"}')])
        opened.provider.script("boom", call, says("calm"))
        run = Scripted(house=opened, name="poison")
        run.question = "boom"
        await run.post()
        for _ in range(3):
            await until(lambda: not opened.edge.alive, within=20)
            with suppress(Ended):  # it goes on with the run before it listens
                await opened.edge.restart()
        await until(lambda: opened.edge.alive)
        follower = await run.follow()
        assert follower.problems == []
        assert follower.finished is not None
        found = follower.finished
        assert (found["status"], found["error"]["code"]) == ("failed", "interrupted")
        events = await run.journal()
        assert ordered(events, 1) == []
        assert [e["data"]["attempt"] for e in events if e["event"] == "run.started"] == [1, 2, 3]
        assert len({effect.key for effect in opened.world.effects}) == 1
        assert len(opened.world.effects) == 3
        assert len(opened.provider.asked("boom")) == 1
        messages = (await opened.edge.service.json(f"/v1/sessions/{run.session}/messages"))["data"]
        assert [message["role"] for message in messages] == ["user", "assistant", "tool"]

        opened.world.deadly = False
        answer = await opened.edge.service.post(f"/v1/runs/{run.run_id}/resume", {})
        assert answer.status_code in (200, 201, 202), answer.text
        resumed = answer.json()
        assert (resumed["resumed_from"], resumed["id"] == run.run_id) == (run.run_id, False)
        run.run_id = resumed["id"]
        follower = await run.follow()
        assert follower.problems == []
        assert follower.finished is not None
        assert (follower.finished["status"], follower.finished["output"]) == ("succeeded", "calm")
        assert len(opened.provider.asked("boom")) == 2, "the finished model call was not paid again"
