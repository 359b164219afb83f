"""The kill switch: agents, tools and tenants, off and on."""

from __future__ import annotations

from litestar import Response, delete, get, put
from litestar.di import NamedDependency
from litestar.params import FromPath, JSONBody

from app.api.authentication import SCOPE
from app.api.control_shapes import Control, ControlList, DisableRequest
from app.api.described import BODY_ERRORS
from app.api.once import Once
from app.api.paging import no_nul
from app.api.problems import responses
from app.domain.controls import ControlKind
from app.domain.principals import Principal
from app.runs.controls import ControlService


@get(
    "/v1/controls",
    opt={SCOPE: "admin"},
    tags=["controls"],
    summary="What is switched off",
    responses=responses("internal", "not_ready"),
)
async def list_controls(
    controls: NamedDependency[ControlService], principal: NamedDependency[Principal]
) -> ControlList:
    """Agents, tools and tenants that are off."""
    return ControlList(await controls.controls(principal))


@put(
    "/v1/controls/{kind:str}/{name:str}",
    opt={SCOPE: "admin"},
    tags=["controls"],
    summary="Switch off an agent, a tool or a tenant",
    response_description="It is off",
    responses=responses(*BODY_ERRORS),
)
async def disable_control(
    kind: FromPath[ControlKind],
    name: FromPath[str],
    controls: NamedDependency[ControlService],
    principal: NamedDependency[Principal],
    once: NamedDependency[Once],
    data: JSONBody[DisableRequest | None] = None,
) -> Response[Control]:
    """Switches it off for this tenant, in every process within a second: new runs get 403 `disabled`, running ones are cancelled, queued
    ones end when their turn comes; calls of a tool are denied to the model, also approved ones. A tenant can only switch itself off.
    """
    no_nul(name)
    reason = None if data is None else data.reason
    return await once.answer(lambda: controls.disable(principal, kind, name, reason))


@delete(
    "/v1/controls/{kind:str}/{name:str}",
    status_code=204,
    opt={SCOPE: "admin"},
    tags=["controls"],
    summary="Switch it on again",
    responses=responses("not_found", "validation_error", "idempotency_key_reused", "internal", "not_ready"),
)
async def enable_control(
    kind: FromPath[ControlKind],
    name: FromPath[str],
    controls: NamedDependency[ControlService],
    principal: NamedDependency[Principal],
    once: NamedDependency[Once],
) -> Response[None]:
    """Lifts what this tenant switched off. What is off for everybody stays off."""
    no_nul(name)
    return await once.answer(lambda: controls.enable(principal, kind, name), status=204)


HANDLERS = [list_controls, disable_control, enable_control]
