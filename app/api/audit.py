"""The audit log over HTTP."""

from __future__ import annotations

from typing import Annotated

from litestar import get
from litestar.di import NamedDependency
from litestar.params import QueryParameter

from app.api.authentication import SCOPE
from app.api.paging import Limit, PageCursor, cursor_below, no_nul, number
from app.api.problems import responses
from app.api.schemas import AuditPage
from app.domain.principals import Principal
from app.runs.audit import AuditService


@get(
    "/v1/audit",
    opt={SCOPE: "admin"},
    tags=["audit"],
    summary="Who decided what",
    responses=responses("invalid_cursor", "forbidden", "validation_error", "internal", "not_ready"),
)
async def list_audit(
    audit_log: NamedDependency[AuditService],
    principal: NamedDependency[Principal],
    action: Annotated[str | None, QueryParameter(description="Only of this kind, such as `approval.approved`.")] = None,
    target: Annotated[str | None, QueryParameter(description="Only about this one: an approval, a key, a run.")] = None,
    page_cursor: PageCursor = None,
    limit: Limit = 50,
) -> AuditPage:
    """Decisions of people and of the service itself, newest first, those about all tenants too. Entries are never changed or removed,
    and hold nothing that people or models wrote. Needs the scope `admin`.
    """
    no_nul(action, target)
    found = await audit_log.entries(principal, action, target, number(page_cursor), limit)
    return AuditPage(data=found, next_cursor=cursor_below(found[-1].id) if len(found) == limit else None)


HANDLERS = [list_audit]
