"""`ApprovalStore` on PostgreSQL; the statements stand in approvals.sql."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import uuid4

import msgspec

from app.domain.approvals import Approval, ApprovalStatus, PendingApproval
from app.domain.principals import Principal
from app.storage.postgres.pool import Database, queries


class PostgresApprovalStore:
    """Approvals in PostgreSQL. Safe for concurrent use."""

    def __init__(self, *, database: Database) -> None:
        self._db = database
        self._sql = queries("approvals.sql")

    async def approvals(
        self,
        principal: Principal,
        status: ApprovalStatus | None,
        run_id: str | None,
        before: tuple[datetime, str] | None,
        limit: int,
    ) -> list[Approval]:
        at, last = before or (None, None)
        rows = await self._db.fetch(
            self._sql["approvals"], principal.tenant, principal.sees, status, run_id, at, last, limit
        )
        return [_approval(row) for row in rows]

    async def approval(self, principal: Principal, approval_id: str) -> Approval | None:
        row = await self._db.fetchrow(self._sql["approval"], principal.tenant, principal.sees, approval_id)
        return None if row is None else _approval(row)

    async def resolve(
        self,
        approval_id: str,
        status: ApprovalStatus,
        by: str | None,
        comment: str | None,
        edited: bytes | None,
        event: bytes,
    ) -> tuple[str, int, bool] | None:
        async with self._db.transaction() as connection:
            await connection.fetchrow(self._sql["session_of"], approval_id)
            row = await connection.fetchrow(
                self._sql["resolve"], approval_id, status, by, comment, edited, uuid4(), event
            )
        return None if row is None else (row["run_id"], row["last_seq"], row["queued"])

    async def expired(self, limit: int) -> list[tuple[str, PendingApproval]]:
        rows = await self._db.fetch(self._sql["expired"], limit)
        return [
            (
                row["run_id"],
                PendingApproval(
                    id=row["id"], call_id=row["call_id"], name=row["name"], risk=row["risk"],
                    arguments=msgspec.json.decode(row["arguments"]), expires_at=row["expires_at"],
                ),
            )
            for row in rows
        ]  # fmt: skip


def _approval(row: Any) -> Approval:
    fields = dict(row)
    fields["arguments"] = msgspec.json.decode(fields["arguments"])
    fields["edited"] = None if fields["edited"] is None else msgspec.json.decode(fields["edited"])
    return Approval(**fields)
