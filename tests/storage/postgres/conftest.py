"""Fixtures of stores."""

from __future__ import annotations

from collections.abc import AsyncIterator
from decimal import Decimal

import pytest

from app.domain.usage import Caps
from app.storage.postgres.pool import open_pool
from tests.storage.postgres.books import LEVELS, Books


@pytest.fixture
async def books(database: str) -> AsyncIterator[Books]:
    """A tenant's month of 10 dollars, a user's of 4."""
    async with open_pool(database) as opened:
        yield Books(opened, Caps(tenant=Decimal(10), user=Decimal(4), levels=LEVELS))
