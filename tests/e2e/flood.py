"""One tenant floods a service with twenty times what it may, while another one asks as ever: both as clients see it. Linux only."""

from __future__ import annotations

import asyncio
import json
import os
import statistics
import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import msgspec

from tests.e2e import service as services
from tests.e2e.service import Service

LIMIT = 300
"""Runs a minute that a key may start: what the calm tenant asks is well below it."""
TIMES = 20
ASKS = 4.0
"""Calls a second of the calm tenant."""
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


class Flood(msgspec.Struct, frozen=True, kw_only=True):
    """What became of it. `grew`: by what part of it the service's memory grew in the time of the flood."""

    alone: Caller
    beside: Caller
    flood: Caller
    grew: float


@asynccontextmanager
async def flooded_service(folder: Path, environ: Mapping[str, str]) -> AsyncIterator[tuple[Service, dict[str, str]]]:
    """The service, and a key for each of its tenants, `calm` and `flood`."""
    services.workspace(folder, FILES)
    async with services.serve(folder, environ=environ) as service:
        yield service, {tenant: await _key_for(tenant, folder, environ) for tenant in ("calm", "flood")}


async def flooded(service: Service, keys: Mapping[str, str], *, calm: float, warm: float, seconds: float) -> Flood:
    """The calm tenant asks for `calm` seconds alone; then the other floods for `warm` and `seconds`, and in the latter it asks again."""
    alone, flood, beside = (Caller(service.url, keys[tenant]) for tenant in ("calm", "flood", "calm"))
    await Caller(service.url, keys["calm"]).keep_asking(ASKS, 2.0)
    await alone.keep_asking(ASKS, calm)
    flooding = asyncio.create_task(flood.keep_asking(TIMES * LIMIT / 60, warm + seconds))
    await asyncio.sleep(warm)
    asking = asyncio.create_task(beside.keep_asking(ASKS, seconds))
    grew = await slope(service.pid, seconds)
    await asyncio.gather(flooding, asking)
    return Flood(alone=alone, beside=beside, flood=flood, grew=grew)


async def _key_for(tenant: str, folder: Path, environ: Mapping[str, str]) -> str:
    code, out, errors = await services.run(folder, "keys", "create", "--tenant", tenant, "--json", environ=environ)
    assert code == 0, errors
    key: str = json.loads(out)["key"]
    return key
