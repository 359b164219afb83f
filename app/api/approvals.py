"""The inbox of calls that need a person's word."""

from __future__ import annotations

from typing import Annotated

from litestar import Response, get, post
from litestar.di import NamedDependency
from litestar.params import FromPath, JSONBody, QueryParameter

from app.api.authentication import SCOPE
from app.api.bodies import DecisionRequest
from app.api.described import BODY_ERRORS
from app.api.once import Once
from app.api.paging import Limit, PageCursor, cursor_after, no_nul, position
from app.api.problems import responses
from app.api.schemas import Approval, ApprovalPage
from app.domain.approvals import ApprovalFilter, ApprovalStatus
from app.domain.principals import Principal
from app.domain.tools import Risk
from app.runs.approvals import ApprovalService


@get(
    "/v1/approvals",
    opt={SCOPE: "approvals"},
    tags=["approvals"],
    summary="List approvals",
    responses=responses("invalid_cursor", "validation_error", "internal", "not_ready"),
)
async def list_approvals(
    approvals: NamedDependency[ApprovalService],
    principal: NamedDependency[Principal],
    approval_status: Annotated[
        ApprovalStatus | None,
        QueryParameter(name="status", description="Only in this state; `pending`: to be decided."),
    ] = None,
    run_id: Annotated[str | None, QueryParameter(description="Only of this run.")] = None,
    agent: Annotated[str | None, QueryParameter(description="Only of this agent's runs.")] = None,
    tool: Annotated[str | None, QueryParameter(description="Only of this tool.")] = None,
    risk: Annotated[Risk | None, QueryParameter(description="Only of this risk.")] = None,
    page_cursor: PageCursor = None,
    limit: Limit = 50,
) -> ApprovalPage:
    """Calls that waited, or wait, for a person's word; newest first."""
    no_nul(run_id, agent, tool)
    wanted = ApprovalFilter(
        status=approval_status,
        run_id=run_id,
        agent=agent,
        tool=tool,
        risk=risk,
        before=position(page_cursor),
        limit=limit,
    )
    found = await approvals.approvals(principal, wanted)
    more = cursor_after(found[-1].created_at, found[-1].id) if len(found) == limit else None
    return ApprovalPage(data=found, next_cursor=more)


@get(
    "/v1/approvals/{approval_id:str}",
    opt={SCOPE: "approvals"},
    tags=["approvals"],
    summary="One approval",
    responses=responses("not_found", "internal", "not_ready"),
)
async def get_approval(
    approval_id: FromPath[str], approvals: NamedDependency[ApprovalService], principal: NamedDependency[Principal]
) -> Approval:
    """The call and its arguments, and what became of it."""
    return await approvals.approval(principal, approval_id)


@post(
    "/v1/approvals/{approval_id:str}",
    opt={SCOPE: "approvals"},
    status_code=200,
    tags=["approvals"],
    summary="Decide on a call",
    responses=responses(*BODY_ERRORS, "forbidden", "approval_resolved"),
)
async def decide(
    approval_id: FromPath[str],
    data: JSONBody[DecisionRequest],
    approvals: NamedDependency[ApprovalService],
    principal: NamedDependency[Principal],
    once: NamedDependency[Once],
) -> Response[Approval]:
    """Lets the call run, with other `arguments` if some are given, or not run; either way the run goes on.

    The word is for this call with these arguments, once. The same decision again is answered as the first time. It needs the
    scope `approvals`, to approve a critical call `approvals.critical` too.
    """

    return await once.answer(
        lambda: approvals.decide(principal, approval_id, data.decision, data.arguments, data.comment)
    )


HANDLERS = [list_approvals, get_approval, decide]
