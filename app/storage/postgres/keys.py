"""`KeyStore` on PostgreSQL. The statements stand in keys.sql; keys of runs are stored with the run."""

from __future__ import annotations

from app.domain.errors import RequestError
from app.domain.idempotency import LIFETIME, IdempotencyKey, KeptAnswer
from app.domain.principals import Principal
from app.storage.postgres.pool import Database, queries

BATCH = 1_000
"""Keys that one statement forgets."""


class PostgresKeyStore:
    """Idempotency keys in PostgreSQL. Safe for concurrent use."""

    def __init__(self, *, database: Database) -> None:
        self._db = database
        self._sql = queries("keys.sql")

    async def take(self, principal: Principal, key: IdempotencyKey, seconds: float) -> KeptAnswer | bool:
        named = _named(principal, key)
        while True:
            if await self._db.fetchval(self._sql["take"], *named, key.fingerprint, seconds, LIFETIME) is not None:
                return True
            row = await self._db.fetchrow(self._sql["kept"], *named)
            if row is None:  # dropped between the two statements
                continue
            if row["fingerprint"] != key.fingerprint:
                raise RequestError(
                    "idempotency_key_reused",
                    "This Idempotency-Key was used for a request with another body; use a new key for a new request.",
                )
            return False if row["status"] is None else KeptAnswer(status=row["status"], body=row["response"])

    async def keep(self, principal: Principal, key: IdempotencyKey, answer: KeptAnswer) -> None:
        await self._db.execute(
            self._sql["keep"], *_named(principal, key), key.fingerprint, answer.status, answer.body
        )  # fmt: skip

    async def drop(self, principal: Principal, key: IdempotencyKey) -> None:
        await self._db.execute(self._sql["drop"], *_named(principal, key), key.fingerprint)

    async def sweep(self) -> int:
        swept = 0
        while True:
            done = int((await self._db.execute(self._sql["sweep"], LIFETIME, BATCH)).removeprefix("DELETE "))
            swept += done
            if done < BATCH:
                return swept


def _named(principal: Principal, key: IdempotencyKey) -> tuple[str, ...]:
    return principal.tenant, principal.user or "", key.method, key.path, key.key
