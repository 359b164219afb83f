"""The HTTP applications: the only `Litestar(...)` call, its routes and its dependency table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.metadata import version as installed_version
from typing import Any

from litestar import Litestar, Response, get
from litestar.datastructures import State
from litestar.di import NamedDependency, Provide

from app.api import (
    agents,
    approvals,
    asynchronous,
    batches,
    cache,
    callbacks,
    commands,
    docs,
    health,
    models,
    prompts,
    quick,
    runs,
    sessions,
    ws,
)
from app.api import controls as control_routes
from app.api import usage as usages
from app.api.decoding import StrictRequest
from app.api.docs import openapi_config
from app.api.document import published
from app.api.guards import Gate, no_nul_in_path, when_serving
from app.api.health import Readings
from app.api.idempotency import Idempotent
from app.api.limits import Limits, within_limits
from app.api.once import once_for_requests
from app.api.problems import HANDLERS
from app.api.prompts import Prompts
from app.api.streams import OpenStreams
from app.api.targets import Targets
from app.api.turns import turns_of_requests
from app.api.ws import Sockets
from app.batches.service import BatchService
from app.callbacks.service import CallbackService
from app.domain.principals import ANONYMOUS, Principal
from app.runs.approvals import ApprovalService
from app.runs.cache_service import CacheService
from app.runs.controls import ControlService
from app.runs.service import RunService
from app.runs.sessions import SessionService
from app.runs.usage import UsageService
from app.telemetry.http import AsgiApp, HttpTelemetry
from app.telemetry.metrics import Metrics
from app.telemetry.setup import Tracing

VERSION = installed_version("steadyhand")
WORKER_BODY = 1_000
"""Bytes that a body may have where no route takes one."""


@get("/metrics", tags=["health"], summary="Prometheus metrics", media_type="text/plain", opt={"always": True})
async def metrics_page(metrics: NamedDependency[Metrics]) -> Response[bytes]:
    """What this process counted, in Prometheus' text format."""
    text, media_type = metrics.render()
    return Response(text, media_type=media_type.partition("; charset")[0])  # litestar adds it


HEALTH = [*health.HANDLERS, metrics_page]
SERVICE = [
    *agents.HANDLERS,
    *models.HANDLERS,
    *prompts.HANDLERS,
    *quick.HANDLERS,
    *asynchronous.HANDLERS,
    *runs.HANDLERS,
    *commands.HANDLERS,
    *callbacks.HANDLERS,
    *batches.HANDLERS,
    *cache.HANDLERS,
    *control_routes.HANDLERS,
    *approvals.HANDLERS,
    *sessions.HANDLERS,
    *usages.HANDLERS,
    *ws.HANDLERS,
    *docs.HANDLERS,
    *HEALTH,
]
NAMES = (
    "service", "sessions", "approvals", "usage", "callbacks", "batches", "caches", "controls", "idempotent", "turns", "once", "readings",
    "targets", "prompts", "metrics", "streams", "limits", "sockets", "principal",
)  # fmt: skip
"""What handlers may ask for."""


def create_app(
    *,
    service: RunService,
    sessions: SessionService,
    approvals: ApprovalService,
    usage: UsageService,
    callbacks: CallbackService,
    batches: BatchService,
    caches: CacheService,
    controls: ControlService,
    idempotent: Idempotent,
    readings: Readings,
    targets: Targets,
    prompt_list: Prompts,
    metrics: Metrics,
    tracing: Tracing,
    gate: Gate,
    limits: Limits,
    max_body: int,
    max_streams: int,
    max_stream_age: float,
    principal: Principal = ANONYMOUS,
) -> AsgiApp:
    """The ASGI application over those objects, every request of which is the principal's.

    `max_stream_age`: seconds after which clients of streams must connect again.
    """
    streams = OpenStreams(limit=max_streams, max_age=max_stream_age, refused=metrics.refused)
    dependencies = {
        "service": service,
        "sessions": sessions,
        "approvals": approvals,
        "usage": usage,
        "callbacks": callbacks,
        "batches": batches,
        "caches": caches,
        "controls": controls,
        "idempotent": idempotent,
        "turns": turns_of_requests(
            service=service, principal=principal, streams=streams, callbacks=callbacks, limits=limits
        ),
        "once": once_for_requests(idempotent=idempotent, principal=principal),
        "readings": readings,
        "targets": targets,
        "prompts": prompt_list,
        "metrics": metrics,
        "streams": streams,
        "limits": limits,
        "sockets": Sockets(
            service=service, streams=streams, gate=gate, limits=limits, max_frame=max_body, max_age=max_stream_age
        ),
        "principal": principal,
    }
    state = State({"gate": gate, "limits": limits, "principal": principal})
    litestar = _litestar(SERVICE, dependencies, state, max_body)
    return HttpTelemetry(app=litestar, tracing=tracing, metrics=metrics)  # type: ignore[arg-type]  # litestar's scope is a TypedDict


def create_worker_app(*, readings: Readings, metrics: Metrics, tracing: Tracing, gate: Gate) -> AsgiApp:
    """The ASGI application of a process that only executes runs: its health and what it counted."""
    litestar = _litestar(HEALTH, {"readings": readings, "metrics": metrics}, State({"gate": gate}), WORKER_BODY)
    return HttpTelemetry(app=litestar, tracing=tracing, metrics=metrics)  # type: ignore[arg-type]  # litestar's scope is a TypedDict


def describe() -> dict[str, Any]:
    """The OpenAPI document; needs no running service."""
    return published(_litestar(SERVICE, dict.fromkeys(NAMES), State(), 1).openapi_schema.to_schema())


def _litestar(handlers: Sequence[Any], dependencies: Mapping[str, Any], state: State, max_body: int) -> Litestar:
    return Litestar(
        route_handlers=handlers,
        dependencies={name: _provided(value) for name, value in dependencies.items()},
        guards=[when_serving, no_nul_in_path, within_limits],
        state=state,
        exception_handlers=HANDLERS,
        request_class=StrictRequest,
        request_max_body_size=max_body,
        openapi_config=openapi_config(VERSION) if "service" in dependencies else None,
        logging_config=None,
        signature_types=[Principal],
    )


def _provided(value: Any) -> Provide:
    return value if isinstance(value, Provide) else Provide(lambda: value, sync_to_thread=False, use_cache=True)
