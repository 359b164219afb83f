"""`ApiKeyStore` on PostgreSQL. The statements stand in api_keys.sql; `keys` beside it are those of idempotency."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import asyncpg
import msgspec

from app.domain.access import ApiKey, KeyState, NewKey, Valid
from app.domain.errors import DatabaseUnavailable
from app.domain.principals import Principal
from app.storage.postgres.pool import Database, queries


class PostgresApiKeyStore:
    """API keys in PostgreSQL. Safe for concurrent use."""

    def __init__(self, *, database: Database) -> None:
        self._db = database
        self._sql = queries("api_keys.sql")

    async def create(self, by: Principal, key: NewKey) -> ApiKey | None:
        detail = {"user_id": key.user_id, "scopes": key.scopes, "expires_at": key.expires_at}
        row = await self._db.fetchrow(
            self._sql["create"], key.id, key.tenant, key.user_id, key.digest, list(key.scopes), key.free_form,
            key.expires_at, by.actor, by.user, msgspec.json.encode(detail),
        )  # fmt: skip
        return None if row is None else _key(row)

    async def by_digest(self, digest: bytes) -> ApiKey | None:
        row = await self._db.fetchrow(self._sql["by_digest"], digest)
        return None if row is None else _key(row)

    async def keys(self, tenant: str | None) -> list[ApiKey]:
        return [_key(row) for row in await self._db.fetch(self._sql["keys"], tenant)]

    async def revoke(self, by: Principal, key_id: str) -> ApiKey | None:
        row = await self._db.fetchrow(self._sql["revoke"], key_id, by.actor, by.user)
        row = row or await self._db.fetchrow(self._sql["key"], key_id)
        return None if row is None else _key(row)

    async def state(self) -> KeyState:
        try:
            row = await self._db.fetchrow(self._sql["state"])
        except asyncpg.UndefinedTableError as error:  # older than keys are; nobody is served before it is migrated
            raise DatabaseUnavailable("the database lacks migrations") from error
        if row is None:  # somebody emptied the table: that there were no keys must not be taken from it
            raise DatabaseUnavailable("the database does not say whether there are API keys")
        return KeyState(changes=row["changes"], free_form=frozenset(row["free_form"]))

    async def valid(self, digests: Sequence[bytes]) -> dict[bytes, Valid]:
        return {row["digest"]: _valid(row) for row in await self._db.fetch(self._sql["valid"], digests)}

    async def usable(self) -> int:
        count: int = await self._db.fetchval(self._sql["usable"])
        return count

    async def used(self, ages: Mapping[str, float]) -> None:
        await self._db.execute(self._sql["used"], list(ages), list(ages.values()))


def _valid(row: Any) -> Valid:
    principal = Principal(
        tenant=row["tenant"], user=row["user_id"], scopes=frozenset(row["scopes"]), actor=f"key:{row['id']}"
    )
    return Valid(id=row["id"], principal=principal, seconds=row["seconds"])


def _key(row: Any) -> ApiKey:
    return ApiKey(**{**row, "scopes": tuple(row["scopes"])})
