"""The callback of a run: how its delivery went, and sending it again."""

from __future__ import annotations

from typing import Any

from litestar import Request, Response, get, post
from litestar.di import NamedDependency
from litestar.params import FromPath

from app.api.authentication import SCOPE
from app.api.idempotency import Idempotent, key_of
from app.api.problems import responses
from app.callbacks.service import CallbackService
from app.domain.callbacks import Callback
from app.domain.principals import Principal


@get(
    "/v1/runs/{run_id:str}/callbacks",
    opt={SCOPE: "runs"},
    tags=["runs"],
    summary="A run's callback",
    responses=responses("not_found", "internal", "not_ready"),
)
async def get_callbacks(
    run_id: FromPath[str], callbacks: NamedDependency[CallbackService], principal: NamedDependency[Principal]
) -> Callback:
    """How often its end was sent to its `callback_url`, how that went, and when it is sent next."""
    return await callbacks.callback(principal, run_id)


@post(
    "/v1/runs/{run_id:str}/callbacks",
    opt={SCOPE: "runs"},
    tags=["runs"],
    summary="Send a run's callback again",
    status_code=202,
    response_description="It is sent now",
    responses=responses(
        "not_found", "state_conflict", "validation_error", "idempotency_key_reused", "internal", "not_ready"
    ),
)
async def replay_callback(
    run_id: FromPath[str],
    request: Request[Any, Any, Any],
    callbacks: NamedDependency[CallbackService],
    idempotent: NamedDependency[Idempotent],
    principal: NamedDependency[Principal],
) -> Response[Callback]:
    """Sends it now, delivered or given up before, under the same `webhook-id` and with all its attempts again.

    Refused with 409 before the run has ended: it is sent then.
    """
    return await idempotent.answer(
        principal, await key_of(request), lambda: callbacks.replay(principal, run_id), status=202
    )


HANDLERS = [get_callbacks, replay_callback]
