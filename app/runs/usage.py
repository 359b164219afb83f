"""What was used and what it cost, for whoever may know."""

from __future__ import annotations

from app.domain.errors import FieldError, RequestError
from app.domain.principals import Principal
from app.domain.usage import GROUPS, TAG, UsageLedger, UsageQuery, UsageReport


class UsageService:
    """Reports of the ledger. Safe for concurrent use."""

    def __init__(self, *, ledger: UsageLedger) -> None:
        self._ledger = ledger

    async def report(self, principal: Principal, query: UsageQuery) -> UsageReport:
        """What was used, within the principal: a user's is that user's alone. Raises `RequestError` validation_error."""
        if (why := wrong(query)) is not None:
            raise RequestError("validation_error", f"`{why.path}` {why.message}.", [why])
        return await self._ledger.report(principal, query)


def wrong(query: UsageQuery) -> FieldError | None:
    """What is wrong with a query: one cannot be grouped by that, or it ends before it begins."""
    if query.group_by not in GROUPS and not (query.group_by.startswith(TAG) and len(query.group_by) > len(TAG)):
        return FieldError("group_by", f"must be one of {', '.join(GROUPS)}, or {TAG}NAME")
    if query.since is not None and query.until is not None and query.since >= query.until:
        return FieldError("to", "must be after `from`")
    return None
