"""What every test has: one real PostgreSQL and one real Redis a session, a fresh database on request, no network, no keys, no leaks."""

from __future__ import annotations

import asyncio
import inspect
import os
import re
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from redis.asyncio import Redis

from app.storage.postgres.pool import connect
from tests.network_guard import GuardedLoop, forbid_network
from tests.postgres_server import TEMPLATE, TestServer, in_memory, sibling, wait_ready
from tests.redis_server import DATABASES, RedisServer

_SERVER = pytest.StashKey[TestServer]()
_REDIS = pytest.StashKey[RedisServer]()
_FOREIGN = re.compile(
    r"DATABASE_URL|REDIS_URL|APP_ENV|STEADYHAND_.*|.*_API_KEY|(OPENAI|ANTHROPIC|OTEL|PG)[A-Z_]*|.*_PROXY", re.IGNORECASE
)

for _name in [name for name in os.environ if _FOREIGN.fullmatch(name)]:
    del os.environ[_name]
forbid_network()
if (memory := in_memory()) is not None:
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", memory)  # tmp_path: services put whole databases there


def _server(config: pytest.Config) -> TestServer:
    if _SERVER not in config.stash:
        config.stash[_SERVER] = TestServer()
    return config.stash[_SERVER]


def _redis(config: pytest.Config) -> RedisServer:
    if _REDIS not in config.stash:
        config.stash[_REDIS] = RedisServer()
        config.stash[_REDIS].start()
    return config.stash[_REDIS]


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """With xdist, its controller runs the servers and tells its workers where."""
    node.workerinput["postgres_folder"] = str(_server(node.config).folder)
    node.workerinput["redis_url"] = _redis(node.config).url


def pytest_unconfigure(config: pytest.Config) -> None:
    if _REDIS in config.stash:
        config.stash[_REDIS].kill()
    if _SERVER in config.stash:
        config.stash[_SERVER].stop()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if isinstance(item, pytest.Function) and inspect.iscoroutinefunction(item.function):
            item.fixturenames.insert(0, "no_leaked_tasks")


@pytest.fixture(scope="session")
def anyio_backend() -> tuple[str, dict[str, Any]]:
    """The product's event loop, which refuses to leave this machine."""
    return "asyncio", {"loop_factory": GuardedLoop}


@pytest.fixture
async def no_leaked_tasks() -> AsyncIterator[None]:
    """Every task that a test began has ended when the test and its other fixtures have."""
    before = asyncio.all_tasks()
    yield
    deadline = time.monotonic() + 1.0
    while (left := _tasks() - before) and time.monotonic() < deadline:  # noqa: ASYNC110 - waits for any task of any test
        await asyncio.sleep(0.005)
    assert not left, f"tasks were left behind: {left}"


def _tasks() -> set[asyncio.Task[Any]]:
    """Every task of this loop but the two by which the runner drives a fixture."""
    return {
        task
        for task in asyncio.all_tasks()
        if task is not asyncio.current_task() and "TestRunner" not in getattr(task.get_coro(), "__qualname__", "")
    }


@pytest.fixture(scope="session")
def postgres(request: pytest.FixtureRequest) -> str:
    """The DSN of the session's server, as its superuser. For a database of your own take `database`."""
    given = getattr(request.config, "workerinput", {}).get("postgres_folder")
    return wait_ready(Path(given) if given else _server(request.config).folder)


@pytest.fixture
async def database(postgres: str) -> AsyncIterator[str]:
    """The DSN of a fresh, migrated database. At the end nobody may be connected to it any more."""
    name = f"t_{uuid4().hex}"
    admin = await connect(postgres)
    try:
        await admin.execute(f"CREATE DATABASE {name} TEMPLATE {TEMPLATE} STRATEGY FILE_COPY")
        yield sibling(postgres, name)
        left = await _connections_left(admin, name)
        await admin.execute(f"DROP DATABASE {name} WITH (FORCE)")
        assert not left, f"connections were left open: {left}"
    finally:
        await admin.close()


async def _connections_left(admin: Any, name: str) -> list[tuple[str, str]]:
    deadline = time.monotonic() + 2.0
    while True:
        rows = await admin.fetch("SELECT application_name, query FROM pg_stat_activity WHERE datname = $1", name)
        if not rows or time.monotonic() >= deadline:
            return [tuple(row) for row in rows]
        await asyncio.sleep(0.01)


@pytest.fixture
async def redis(request: pytest.FixtureRequest) -> AsyncIterator[str]:
    """The URL of an empty database of the session's Redis. At the end nobody may be connected to it any more."""
    url = getattr(request.config, "workerinput", {}).get("redis_url") or _redis(request.config).url
    async with Redis.from_url(url) as admin:
        number = 1 + await admin.incr("databases") % (DATABASES - 1)
        yield f"{url}/{number}"
        left = await _clients_left(admin, number)
        async with Redis.from_url(f"{url}/{number}") as own:
            await own.flushdb()
        assert not left, f"connections were left open: {left}"


async def _clients_left(admin: Redis, number: int) -> list[Any]:
    deadline = time.monotonic() + 2.0
    while True:
        left = [client for client in await admin.client_list() if client["db"] == str(number)]
        if not left or time.monotonic() >= deadline:
            return left
        await asyncio.sleep(0.01)


@pytest.fixture
def own_redis() -> Iterator[RedisServer]:
    """A Redis of the test's own, running, that it may kill, pause and start again."""
    server = RedisServer()
    server.start()
    yield server
    server.kill()
