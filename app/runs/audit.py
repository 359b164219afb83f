"""The audit log, for those who may read it."""

from __future__ import annotations

import msgspec

from app.domain.audit import AuditEntry, AuditLog
from app.domain.errors import RequestError
from app.domain.principals import Principal


class AuditService:
    """Reads the audit log. Safe for concurrent use."""

    def __init__(self, *, log: AuditLog) -> None:
        self._log = log

    async def entries(
        self, principal: Principal, action: str | None, target: str | None, before: int | None, limit: int
    ) -> list[AuditEntry]:
        """A page of the tenant's entries and of those about all tenants, newest first: those older than the entry `before`. Raises
        `RequestError` forbidden where the principal is no admin.
        """
        if not principal.may("admin"):
            raise RequestError("forbidden", "Reading the audit log needs the scope `admin`.")
        whole = msgspec.structs.replace(principal, user=None)
        return await self._log.entries(whole, action, target, before, limit)
