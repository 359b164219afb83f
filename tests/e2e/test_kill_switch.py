"""A switch thrown on the machine, on two processes that run what it switches off: how long until nothing of it is left."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from datetime import datetime
from pathlib import Path

import pytest

from tests.e2e import service as services
from tests.e2e.conftest import KEY
from tests.e2e.provider import StandIn
from tests.e2e.service import Service
from tests.e2e.wires import hangs
from tests.waiting import until

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="it starts several processes on one machine")

EFFECTIVE = 1.0
"""Seconds after a switch was thrown in which it works everywhere."""
FILES = {
    "agents/rogue.yaml": "description: d\nkind: chat\ninstructions: Be brief.\nmodel: slow\nlimits: {timeout: 120}\n",
    "agents/calm.yaml": "description: d\nkind: chat\ninstructions: Be brief.\nmodel: slow\nlimits: {timeout: 120}\n",
}
TOML = """
default_agent = "calm"
[providers.slow]
kind = "openai"
api = "chat"
base_url = "{url}/v1"
api_key_env = "STAND_IN_KEY"
[models.slow]
chain = ["slow/model-1"]
idle_timeout = 100
timeout = 110
"""


async def begun(service: Service, agent: str) -> str:
    """A run of that agent that hangs at its model, executed by that process."""
    answer = await service.post("/v1/runs", {"agent": agent, "input": "go", "background": True})
    assert answer.status_code == 202, answer.text
    run_id: str = answer.json()["id"]

    async def runs() -> bool:
        return (await service.json(f"/v1/runs/{run_id}"))["status"] == "running"  # type: ignore[no-any-return]

    await until(runs)
    return run_id


async def test_what_is_switched_off_is_over_in_every_process_within_a_second(
    tmp_path: Path, database: str, own_provider: StandIn
) -> None:
    own_provider.script("go", *[hangs("Hm")] * 6)
    files = FILES | {"steadyhand.toml": TOML.replace("{url}", own_provider.url)}
    environ = {"DATABASE_URL": database, "STAND_IN_KEY": KEY}
    folders = [tmp_path / name for name in ("one", "two")]
    for folder in folders:
        folder.mkdir()
        services.workspace(folder, files)
    async with (
        services.serve(folders[0], environ=environ) as one,
        services.serve(folders[1], environ=environ) as two,
    ):
        rogue = [await begun(service, "rogue") for service in (one, two) for _ in range(2)]
        calm = [await begun(service, "calm") for service in (one, two)]
        assert await one.metric("agent_active_runs") == await two.metric("agent_active_runs") == 3

        code, out, _ = await services.run(
            folders[0], "controls", "disable", "agent", "rogue", "--reason", "it misbehaves", "--json", environ=environ
        )
        assert code == 0, out

        async def over() -> bool:
            return all([(await one.json(f"/v1/runs/{run_id}"))["status"] == "cancelled" for run_id in rogue])

        await until(over)
        ended = [await one.json(f"/v1/runs/{run_id}") for run_id in rogue]
        assert {run["error"]["detail"] for run in ended} == {"Cancelled: Agent rogue is switched off: it misbehaves"}
        assert [(await two.json(f"/v1/runs/{run_id}"))["status"] for run_id in calm] == ["running"] * 2
        # The database's clock has both: when it was thrown, and when the last run had ended.
        thrown = _seconds(json.loads(out)["at"])
        took = max(_seconds(run["finished_at"]) for run in ended) - thrown
        sys.stdout.write(f"four runs of two processes had ended {took * 1000:.0f} ms after the switch\n")
        assert took <= EFFECTIVE
        for service in (one, two):
            refused = await service.post("/agents/rogue", {"input": "go"})
            assert (refused.status_code, refused.json()["code"]) == (403, "disabled")

        # By HTTP, seen from the other process: how long until it refuses.
        began = time.monotonic()
        assert (await one.client.put("/v1/controls/agent/calm", json={})).status_code == 200
        while (await two.post("/agents/calm", {"input": "go", "timeout": 0.05})).status_code != 403:
            assert time.monotonic() - began <= EFFECTIVE
        sys.stdout.write(f"the other process refused {(time.monotonic() - began) * 1000:.0f} ms after the request\n")
        own_provider.unscripted.clear()
        await asyncio.gather(*(service.client.delete("/v1/controls/agent/calm") for service in (one, two)))


def _seconds(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()
