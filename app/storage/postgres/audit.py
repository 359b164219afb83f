"""`AuditLog` on PostgreSQL. The statements stand in audit.sql."""

from __future__ import annotations

import msgspec

from app.domain.audit import AuditEntry
from app.domain.messages import JsonObject
from app.domain.principals import Principal
from app.storage.postgres.pool import Database, queries


class PostgresAuditLog:
    """The audit log in PostgreSQL, which refuses to change or remove an entry. Safe for concurrent use."""

    def __init__(self, *, database: Database) -> None:
        self._db = database
        self._sql = queries("audit.sql")

    async def record(self, principal: Principal, action: str, target: str, detail: JsonObject) -> None:
        await self._db.execute(
            self._sql["record"], principal.tenant, principal.actor, principal.user, action, target,
            msgspec.json.encode(detail),
        )  # fmt: skip

    async def entries(
        self, principal: Principal, action: str | None, target: str | None, before: int | None, limit: int
    ) -> list[AuditEntry]:
        rows = await self._db.fetch(
            self._sql["entries"], principal.tenant, principal.sees, action, target, before, limit
        )
        return [AuditEntry(**{**row, "detail": msgspec.json.decode(row["detail"])}) for row in rows]
