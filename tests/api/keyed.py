"""A process on a database with keys, and who has them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, get_args

import httpx2

from app.access.keys import KeyService
from app.domain.access import ApiKey
from app.domain.principals import Principal, Scope
from app.storage.postgres.api_keys import PostgresApiKeyStore
from app.storage.postgres.pool import open_pool
from app.telemetry.http import AsgiApp

OPERATOR = Principal(tenant="default")
EVERYTHING: tuple[Scope, ...] = get_args(Scope)
ALL_BUT_ADMIN: tuple[Scope, ...] = tuple(scope for scope in EVERYTHING if scope != "admin")


@asynccontextmanager
async def key_service(dsn: str) -> AsyncIterator[KeyService]:
    """Another process, as `steadyhand keys` is one."""
    async with open_pool(dsn, pool_min=1, pool_max=1) as database:
        yield KeyService(store=PostgresApiKeyStore(database=database))


async def make_key(
    dsn: str,
    tenant: str = "default",
    user: str | None = None,
    scopes: Sequence[Scope] = EVERYTHING,
    expires: timedelta | None = None,
) -> tuple[ApiKey, str]:
    async with key_service(dsn) as keys:
        until = None if expires is None else datetime.now(UTC) + expires
        return await keys.create(OPERATOR, tenant=tenant, user=user, scopes=scopes, expires_at=until)


@asynccontextmanager
async def client_of(app: AsgiApp, key: str | None = None, **headers: str) -> AsyncIterator[httpx2.AsyncClient]:
    """A client of that process with that key."""
    sent = headers if key is None else {"Authorization": f"Bearer {key}"} | headers
    transport = httpx2.ASGITransport(app=app, raise_app_exceptions=True)
    async with httpx2.AsyncClient(
        transport=transport, base_url="http://steadyhand", timeout=30, headers=sent
    ) as client:
        yield client


@asynccontextmanager
async def clients_of(app: AsgiApp, *keys: str) -> AsyncIterator[list[httpx2.AsyncClient]]:
    """A client for each key."""
    if not keys:
        yield []
        return
    async with client_of(app, keys[0]) as first, clients_of(app, *keys[1:]) as others:
        yield [first, *others]


def sent(operation: dict[str, Any], path: str, ids: dict[str, str]) -> str:
    """The path with those ids in it. Fails for a parameter that nobody has an id for."""
    for parameter in operation.get("parameters", ()):
        if parameter["in"] == "path":
            name = parameter["name"]
            assert name in ids, (
                f"{operation['operationId']}: nothing is known of the path parameter {name!r}: make such a thing in `everything` "
                "of tests/api/test_tenancy.py, so that strangers are shown not to find it"
            )
            path = path.replace(f"{{{name}}}", ids[name])
    return path
