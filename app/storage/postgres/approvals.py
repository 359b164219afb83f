"""`ApprovalStore` on PostgreSQL; the statements stand in approvals.sql."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import uuid4

import msgspec

from app.domain.approvals import Approval, ApprovalFilter, Grounds, PendingApproval, Resolved, Verdict
from app.domain.changes import changes
from app.domain.principals import Principal
from app.storage.postgres.pool import Database, queries

_grounds = msgspec.json.Decoder(Grounds).decode


class PostgresApprovalStore:
    """Approvals in PostgreSQL. Safe for concurrent use."""

    def __init__(self, *, database: Database) -> None:
        self._db = database
        self._sql = queries("approvals.sql")

    async def approvals(self, principal: Principal, wanted: ApprovalFilter) -> list[Approval]:
        at, last = wanted.before or (None, None)
        rows = await self._db.fetch(
            self._sql["approvals"], principal.tenant, principal.sees, wanted.status, wanted.run_id, wanted.agent,
            wanted.tool, wanted.risk, at, last, wanted.limit,
        )  # fmt: skip
        return [_approval(row) for row in rows]

    async def approval(self, principal: Principal, approval_id: str) -> Approval | None:
        row = await self._db.fetchrow(self._sql["approval"], principal.tenant, principal.sees, approval_id)
        return None if row is None else _approval(row)

    async def resolve(self, verdict: Verdict) -> Resolved | None:
        async with self._db.transaction() as connection:
            await connection.fetchrow(self._sql["session_of"], verdict.approval_id)
            row = await connection.fetchrow(
                self._sql["resolve"], verdict.approval_id, verdict.status, verdict.by, verdict.comment, verdict.edited,
                uuid4(), verdict.event, verdict.actor, verdict.digest,
            )  # fmt: skip
        return None if row is None else Resolved(**row)

    async def expired(self, limit: int) -> list[PendingApproval]:
        rows = await self._db.fetch(self._sql["expired"], limit)
        return [PendingApproval(**{**row, "arguments": msgspec.json.decode(row["arguments"])}) for row in rows]

    async def pending(self) -> tuple[int, float]:
        row = await self._db.fetchrow(self._sql["pending"])
        assert row is not None
        return row["waiting"], row["age"]


def asked_columns(asked: Sequence[PendingApproval]) -> tuple[list[Any], ...]:
    """The new rows, column by column, as `park` takes them."""
    return (
        [a.id for a in asked], [a.call_id for a in asked], [a.name for a in asked],
        [msgspec.json.encode(a.arguments) for a in asked], [a.risk for a in asked], [a.expires_at for a in asked],
        [a.digest or None for a in asked], [msgspec.json.encode(a.grounds) if a.grounds else None for a in asked],
    )  # fmt: skip


def _approval(row: Any) -> Approval:
    fields = dict(row)
    fields["arguments"] = msgspec.json.decode(fields["arguments"])
    fields["grounds"] = None if fields["grounds"] is None else _grounds(fields["grounds"])
    if fields["edited"] is not None:
        fields["edited"] = msgspec.json.decode(fields["edited"])
        fields["changes"] = changes(fields["arguments"], fields["edited"])
    return Approval(**fields)
