"""The HTTP edge in process."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx2
import pytest

from tests.api.edge import Edge, listening, open_edge


@pytest.fixture
def edge(database: str) -> Any:
    """Opens a process on the test's database: `async with edge(provider, *agents, max_body=…) as e`."""

    def start(*arguments: Any, **more: Any) -> Any:
        return open_edge(database, *arguments, **more)

    return start


@pytest.fixture
def served(edge: Any) -> Any:
    """The same behind the real server, with a client of it: `async with served(provider) as (e, client)`."""

    @asynccontextmanager
    async def start(*arguments: Any, **more: Any) -> AsyncIterator[tuple[Edge, httpx2.AsyncClient]]:
        async with (
            edge(*arguments, **more) as e,
            listening(e.app) as port,
            httpx2.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=30, verify=False) as client,
        ):
            yield e, client

    return start
