"""Fixtures of commands."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

import pytest

from app.cli.embedded.cluster import embedded_postgres
from tests.cli.holder import FAST


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder as a clean stop leaves it; copied, because initdb takes half a second."""

    data = tmp_path_factory.mktemp("made") / "data"

    async def make() -> None:
        async with embedded_postgres(data, exclusive=True, settings=FAST):
            pass

    asyncio.run(make())
    return data


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    return shutil.copytree(made, tmp_path / "data")
