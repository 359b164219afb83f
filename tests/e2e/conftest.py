"""What the end-to-end tests share: a provider that does as it is told, and a service in front of it."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from uuid import uuid4

import pytest

from app.storage.postgres.pool import connect
from tests.e2e import service as services
from tests.e2e.provider import StandIn, stand_in
from tests.e2e.service import Service
from tests.e2e.wires import APIS
from tests.postgres_server import TEMPLATE, sibling

KEY = "sk-canary-4f1d0c77"
TOOLS = '''
import asyncio
from pathlib import Path

from app.tools import tool


@tool(risk="low", effect="write", timeout=20)
async def wait_for(path: str) -> str:
    """Wait until that file exists."""
    Path(path + ".begun").touch()
    while not Path(path).exists():
        await asyncio.sleep(0.01)
    return "it is there"


@tool(risk="high", returns="trusted")
async def launch_rocket() -> str:
    """Launch the rocket."""
    return "launched"
'''


def agent(model: str, *, iterations: int = 10) -> str:
    return (
        f"description: Speaks {model}\nkind: react\ninstructions: Be brief and exact.\nmodel: {model}\n"
        "tools: [calculator, clock, wait_for, launch_rocket]\n"
        f"limits: {{iterations: {iterations}, timeout: 60}}\n"
    )


IMPATIENT = "timeout = 20\nfirst_token_timeout = 1.5\nidle_timeout = 1.5"
SHUT = ("401", "404")
"""Failures that open a breaker at once: whoever plays them has a model of his own."""
HURRIED = "timeout = 1\nfirst_token_timeout = 0.6\nidle_timeout = 0.9"


def files(url: str) -> dict[str, str]:
    """A workspace with, for each API of the stand-in, an agent, one that may ask twice, and one that is impatient; and two that
    ask them in a row: `all`, impatient, and `hurried`, whose whole call may take a second. No breaker opens by counting."""
    toml = f"""
default_agent = "responses"
[breaker]
failures = 1000000
open_seconds = 0.001
[providers.responses]
kind = "openai"
api = "responses"
base_url = "{url}/v1"
api_key_env = "STAND_IN_KEY"
[providers.chat]
kind = "openai"
api = "chat"
base_url = "{url}/v1"
api_key_env = "STAND_IN_KEY"
[providers.anthropic]
base_url = "{url}"
api_key_env = "STAND_IN_KEY"
"""
    found = {"tools/waiting.py": TOOLS}
    for name in APIS:
        toml += f'[models.{name}]\nchain = ["{name}/model-1"]\n'
        toml += f'[models.short-{name}]\nchain = ["{name}/model-1"]\n{IMPATIENT}\n'
        found[f"agents/{name}.yaml"] = agent(name)
        found[f"agents/twice-{name}.yaml"] = agent(name, iterations=2)
        found[f"agents/short-{name}.yaml"] = agent(f"short-{name}")
        for case in SHUT:
            for mode in ("json", "streamed"):
                alone = f"{mode}-{case}-{name}"
                toml += f'[models.{alone}]\nchain = ["{name}/model-{alone}"]\n{IMPATIENT}\n'
                found[f"agents/{alone}.yaml"] = agent(alone)
    toml += '[[prices]]\nmodel = "responses/model-1"\ninput = 2\noutput = 10.1\n'
    toml += f'[providers.away]\nkind = "openai"\nbase_url = "{unused()}"\napi_key_env = ""\n'
    toml += '[models.away]\nchain = ["away/model-1", "chat/model-1"]\n'
    found["agents/away.yaml"] = agent("away")
    for chain, times in (("all", IMPATIENT), ("hurried", HURRIED), *((f"all-{case}", IMPATIENT) for case in SHUT)):
        first = "model-1" if chain in ("all", "hurried") else f"model-{chain}"
        toml += f'[models.{chain}]\nchain = ["responses/{first}", "chat/model-2", "anthropic/model-3"]\n{times}\n'
        found[f"agents/{chain}.yaml"] = agent(chain)
    return found | {"steadyhand.toml": toml}


def unused() -> str:
    """A URL at which nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{probe.getsockname()[1]}/v1"


@pytest.fixture(scope="session")
async def house(
    anyio_backend: object, postgres: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[tuple[Service, StandIn]]:
    """One service for all tests that leave it as it is, and the provider that its agents ask."""
    folder, name = tmp_path_factory.mktemp("house"), f"t_{uuid4().hex}"
    admin = await connect(postgres)
    try:
        await admin.execute(f"CREATE DATABASE {name} TEMPLATE {TEMPLATE}")
        async with stand_in() as opened:
            services.workspace(folder, files(opened.url))
            environ = {"DATABASE_URL": sibling(postgres, name), "STAND_IN_KEY": KEY}
            async with services.serve(folder, environ=environ) as service:
                yield service, opened
        await admin.execute(f"DROP DATABASE {name} WITH (FORCE)")
    finally:
        await admin.close()


@pytest.fixture
def service(house: tuple[Service, StandIn]) -> Service:
    """The shared service."""
    return house[0]


@pytest.fixture
async def provider(house: tuple[Service, StandIn]) -> AsyncIterator[StandIn]:
    """The shared service's provider; at the end it was asked what the test expected, and no more."""
    opened = house[1]
    yield opened
    unscripted, opened.unscripted = opened.unscripted, []
    assert not unscripted, f"not scripted: {unscripted}"


@pytest.fixture
async def own_provider() -> AsyncIterator[StandIn]:
    """A provider for a service of the test's own."""
    async with stand_in() as opened:
        yield opened
        assert not opened.unscripted, f"not scripted: {opened.unscripted}"


Serve = Callable[..., AbstractAsyncContextManager[Service]]


@pytest.fixture
def serve(tmp_path: Path, database: str, own_provider: StandIn) -> Serve:
    """Opens a service of the test's own, on a database of its own: `async with serve(environ={…})`."""

    def opened(
        *arguments: str, port: int = 0, environ: Mapping[str, str] | None = None
    ) -> AbstractAsyncContextManager[Service]:
        services.workspace(tmp_path, files(own_provider.url))
        own = {"DATABASE_URL": database, "STAND_IN_KEY": KEY} | dict(environ or {})
        return services.serve(tmp_path, *arguments, port=port, environ=own)

    return opened


@pytest.fixture
async def empty_database(postgres: str) -> AsyncIterator[str]:
    """The DSN of a fresh database without a single table."""
    name = f"t_{uuid4().hex}"
    admin = await connect(postgres)
    try:
        await admin.execute(f"CREATE DATABASE {name}")
        yield sibling(postgres, name)
        await admin.execute(f"DROP DATABASE {name} WITH (FORCE)")
    finally:
        await admin.close()
