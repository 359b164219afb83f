"""The HTTP edge in process."""

from __future__ import annotations

from typing import Any

import pytest

from tests.api.edge import open_edge


@pytest.fixture
def edge(database: str) -> Any:
    """Opens a process on the test's database: `async with edge(provider, *agents, max_body=…) as e`."""

    def start(*arguments: Any, **more: Any) -> Any:
        return open_edge(database, *arguments, **more)

    return start
