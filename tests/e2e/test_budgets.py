"""A budget that two processes share: as many calls as it pays for, one of the processes killed, and what the ledger says of it."""

from __future__ import annotations

import asyncio
import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import httpx2
import pytest

from app.storage.postgres.pool import connect
from tests.e2e import service as services
from tests.e2e.conftest import KEY
from tests.e2e.provider import StandIn
from tests.e2e.service import Service
from tests.e2e.wires import says
from tests.faults.replicas import replicas
from tests.waiting import until

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="a process is killed")

ROOM = 9
FILES = {
    "agents/dear.yaml": (
        "description: d\nkind: chat\ninstructions: Be brief.\nmodel: dear\nmax_output_tokens: 100\n"
        "limits: {cost_usd: 50, timeout: 60}\n"
    ),
}
TOML = """
default_agent = "dear"
[providers.dear]
kind = "openai"
api = "chat"
base_url = "{url}/v1"
api_key_env = "STAND_IN_KEY"
[models.dear]
chain = ["dear/model-1"]
[[prices]]
model = "dear/model-1"
input = 1
output = 10000
[budgets]
tenant_monthly_usd = 9.5
"""
"""A call reserves a dollar and its input, and costs five cents and ten millionths."""


@pytest.mark.long
async def test_sixty_four_runs_over_two_processes_with_room_for_nine(
    tmp_path: Path, database: str, own_provider: StandIn
) -> None:
    gate = asyncio.Event()
    own_provider.script("go", *[says("x", gate, "y")] * 64)
    files = FILES | {"steadyhand.toml": TOML.replace("{url}", own_provider.url)}
    environ = {"DATABASE_URL": database, "STAND_IN_KEY": KEY, "STEADYHAND__WORKER__LEASE": "2"}
    admin = await connect(database)
    try:
        async with replicas(tmp_path, files, environ, "all", "all") as processes:
            one, two = processes.all
            asking = [asyncio.create_task(_ask((one, two)[n % 2].service)) for n in range(64)]
            await until(lambda: sum(task.done() for task in asking) == 64 - ROOM)
            assert len(own_provider.asked("go")) == ROOM
            held = await admin.fetchval("SELECT reserved FROM budgets")
            assert ROOM <= held <= 9.5
            open_rows = "SELECT lease_owner LIKE $1 AS of_one FROM usage u JOIN runs r ON r.id = u.run_id WHERE u.settled_at IS NULL"
            owned = Counter(row["of_one"] for row in await admin.fetch(open_rows, f"% {one.pid} on %"))
            assert owned.total() == ROOM

            await one.end()
            lost = "SELECT count(*) FROM usage WHERE basis = 'abandoned' AND cost_usd = estimated_usd"
            await until(lambda: _is(admin.fetchval(lost), owned[True]))
            gate.set()
            said = Counter(await asyncio.gather(*asking))
            live = "SELECT count(*) FROM runs WHERE status IN ('queued', 'running')"
            await until(lambda: _is(admin.fetchval(live), 0))
            assert said["completed"] == owned[False]
            assert said.keys() <= {"completed", "cost_budget", "budget_exhausted", "cut off"}
            (counter,) = await admin.fetch("SELECT spent, reserved FROM budgets")
            assert counter["reserved"] == 0
            assert counter["spent"] == await admin.fetchval("SELECT sum(cost_usd) FROM usage")
            assert await admin.fetchval("SELECT count(*) FROM usage") == len(own_provider.asked("go"))

            report = await two.service.json("/v1/usage?group_by=model")
            ((group,), total) = report["data"], report["total"]
            assert (group["key"], group["attempts"], group["abandoned"]) == (
                "dear/model-1", len(own_provider.asked("go")), owned[True],
            )  # fmt: skip
            assert total["cost_usd"] == pytest.approx(float(counter["spent"]))
            words = ["usage", "--group-by", "model", "--json", "--workspace", str(tmp_path / "workspace")]
            code, out, _ = await services.run(tmp_path, *words, environ=environ)
            assert (code, json.loads(out)) == (0, report)
    finally:
        await admin.close()


async def _ask(service: Service) -> str:
    try:
        answer = await service.post("/chat", {"message": "go"})
    except httpx2.TransportError:
        return "cut off"
    said = answer.json()
    return str(said["metadata"]["stop_reason"] if answer.status_code == 200 else said["code"])


async def _is(value: Any, wanted: int) -> bool:
    return bool(await value == wanted)
