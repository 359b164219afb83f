"""One tenant floods the service with twenty times what it may: what the other one feels of it, and what it costs.

pytest -m long -n 0 -s tests/e2e/test_flood.py
"""

from __future__ import annotations

import asyncio
import json
import os
import statistics
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import aiohttp
import pytest

from tests.e2e import service as services
from tests.e2e.service import Service

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="it reads what a process uses from /proc"),
    pytest.mark.timeout(400),
]

LIMIT = 300
"""Runs a minute that a key may start: what the calm tenant asks is well below it."""
TIMES = 20
WARM = float(os.environ.get("FLOOD_WARM", "10"))
SECONDS = float(os.environ.get("FLOOD_SECONDS", "60"))
CALM = float(os.environ.get("FLOOD_CALM", "20"))
"""Seconds that the service is warmed up, flooded, and asked by the calm tenant alone before."""
ASKS = 4.0
"""Calls a second of the calm tenant."""
REFUSED_WITHIN = 0.05
SLOPE = 0.05
FILES = {
    "steadyhand.toml": (
        'default_agent = "plain"\n'
        f'[limits]\nrequests = {LIMIT}\nwindow = 60\nper = ["key"]\n'
        "[worker]\nconcurrency = 32\n[admission]\nper_tenant = 16\nqueue_max = 500\n"
    ),
    "agents/plain.yaml": "description: d\nkind: chat\ninstructions: Be brief.\n",
}


class Caller:
    """One tenant's client: what it was answered, and in how many seconds."""

    def __init__(self, url: str, key: str) -> None:
        self._url = url
        self._headers = {"Authorization": f"Bearer {key}"}
        self.took: dict[int, list[float]] = {}
        self.waits: list[int] = []

    @property
    def counts(self) -> Counter[int]:
        return Counter({status: len(times) for status, times in self.took.items()})

    async def ask(self, http: aiohttp.ClientSession) -> None:
        began = time.perf_counter()
        async with http.post(f"{self._url}/chat", json={"message": "hello"}, headers=self._headers) as response:
            await response.read()
        self.took.setdefault(response.status, []).append(time.perf_counter() - began)
        if response.status == 429:
            self.waits.append(int(response.headers["Retry-After"]))

    async def keep_asking(self, rate: float, seconds: float) -> None:
        """So many calls a second, whether or not the ones before were answered."""
        loop = asyncio.get_running_loop()
        end = loop.time() + seconds
        connector = aiohttp.TCPConnector(limit=64)
        async with aiohttp.ClientSession(connector=connector) as http, asyncio.TaskGroup() as group:
            due = loop.time()
            while due < end:
                await asyncio.sleep(due - loop.time())
                group.create_task(self.ask(http))
                due += 1 / rate


def p95(times: Sequence[float]) -> float:
    return statistics.quantiles(times, n=20)[-1]


def rss(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


async def slope(pid: int, seconds: float) -> float:
    """By what part of it the memory grows in that time, along the line that fits best."""
    at, sizes = [], []
    for n in range(int(seconds)):
        at.append(float(n))
        sizes.append(float(rss(pid)))
        await asyncio.sleep(1)
    line = statistics.linear_regression(at, sizes)
    return line.slope * seconds / sizes[0]


async def key_for(tenant: str, folder: Path, environ: dict[str, str]) -> str:
    code, out, errors = await services.run(folder, "keys", "create", "--tenant", tenant, "--json", environ=environ)
    assert code == 0, errors
    key: str = json.loads(out)["key"]
    return key


async def test_a_flood_of_one_tenant_is_not_felt_by_the_other(tmp_path: Path, database: str) -> None:
    services.workspace(tmp_path, FILES)
    environ = {"DATABASE_URL": database}
    keys = {tenant: await key_for(tenant, tmp_path, environ) for tenant in ("calm", "flood")}
    async with services.serve(tmp_path, environ=environ) as service:
        await measure(service, keys)


async def measure(service: Service, keys: dict[str, str]) -> None:
    alone = Caller(service.url, keys["calm"])
    await Caller(service.url, keys["calm"]).keep_asking(ASKS, 2.0)
    await alone.keep_asking(ASKS, CALM)
    assert set(alone.counts) == {200}, alone.counts

    flood, beside = Caller(service.url, keys["flood"]), Caller(service.url, keys["calm"])
    flooding = asyncio.create_task(flood.keep_asking(TIMES * LIMIT / 60, WARM + SECONDS))
    await asyncio.sleep(WARM)
    asking = asyncio.create_task(beside.keep_asking(ASKS, SECONDS))
    grew = await slope(service.pid, SECONDS)
    await asyncio.gather(flooding, asking)

    calm, flooded, refused = p95(alone.took[200]), p95(beside.took[200]), p95(flood.took[429])
    sys.stdout.write(
        f"calm p95 {calm * 1000:.1f} ms, beside the flood {flooded * 1000:.1f} ms; refusals p50 "
        f"{statistics.median(flood.took[429]) * 1000:.1f} ms, p95 {refused * 1000:.1f} ms; "
        f"flood {dict(flood.counts)}; memory {grew:+.1%} in {SECONDS:g} s\n"
    )
    assert set(beside.counts) == {200}, beside.counts
    assert flooded <= max(1.5 * calm, calm + 0.05)
    assert refused <= REFUSED_WITHIN
    assert grew < SLOPE
    assert set(flood.counts) == {200, 429}, flood.counts
    assert flood.counts[200] <= LIMIT * (1 + (WARM + SECONDS) // 60)
    assert all(1 <= wait <= 61 for wait in flood.waits)
    assert await service.metric("agent_rate_limited_total", scope="key") == flood.counts[429]
