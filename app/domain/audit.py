"""The audit log: who decided what, about what, when. Entries are only ever added."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Protocol

import msgspec

from app.domain.messages import JsonObject
from app.domain.principals import Principal


class AuditEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One decision. `actor` as in `Principal`; `action` a noun and what became of it (`approval.approved`); `target` the noun's id.

    `id` grows with time, but entries that are written at once may become visible in another order.
    """

    id: int
    at: datetime
    actor: str
    user_id: str | None
    action: str
    target: str
    detail: Any


class AuditLog(Protocol):
    """The entries of all tenants. Every method may raise `DatabaseUnavailable`; see `stores` for principals."""

    async def record(self, principal: Principal, action: str, target: str, detail: JsonObject) -> None:
        """Add an entry of the principal's tenant. `detail` holds no credentials and nothing that people or models wrote."""
        ...

    async def entries(
        self, principal: Principal, action: str | None, target: str | None, before: int | None, limit: int
    ) -> list[AuditEntry]:
        """A page of the tenant's entries and, but for a principal with a user, of those about all tenants, newest first: those older than
        the entry `before`.
        """
        ...
