"""Opens worlds."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import pytest

from app.domain.batches import BatchLimits
from app.domain.usage import Caps
from app.storage.postgres.pool import open_pool
from tests.batches.vendor import Vendor, vendor
from tests.batches.world import KINDS, Kind, World, opened_provider, tagger

Open = Callable[..., AbstractAsyncContextManager[World]]


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> Kind:
    found: Kind = request.param
    return found


@pytest.fixture
async def remote() -> AsyncIterator[Vendor]:
    async with vendor() as opened:
        yield opened


@pytest.fixture
def world(database: str, remote: Vendor) -> Open:
    """Opens a world: `async with world("anthropic", output_schema=…) as w`."""

    @asynccontextmanager
    async def opened(
        kind: Kind, *, limits: BatchLimits | None = None, caps: Caps | None = None, **agent: Any
    ) -> AsyncIterator[World]:
        provider = opened_provider(kind, remote.url)
        try:
            async with open_pool(database) as db:
                yield World(db, provider, tagger(**agent), limits, caps or Caps())
        finally:
            await provider.aclose()

    return opened
