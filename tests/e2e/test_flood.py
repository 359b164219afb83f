"""One tenant's flood: nobody else is refused, and it gets what it may. How quick all that is, `python -m ops.flood` measures."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.flood import LIMIT, flooded, flooded_service

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="it reads what a process uses from /proc"),
]


async def test_a_flood_of_one_tenant_is_its_own(tmp_path: Path, database: str) -> None:
    async with flooded_service(tmp_path, {"DATABASE_URL": database}) as (service, keys):
        found = await flooded(service, keys, calm=2.0, warm=1.0, seconds=9.0)
        assert set(found.alone.counts) == set(found.beside.counts) == {200}
        assert set(found.flood.counts) == {200, 429}
        assert found.flood.counts[200] <= LIMIT
        assert all(1 <= wait <= 61 for wait in found.flood.waits)
        assert await service.metric("agent_rate_limited_total", scope="key") == found.flood.counts[429]
