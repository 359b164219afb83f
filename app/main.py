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
    audit,
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
from app.api.aside import Aside
from app.api.authentication import METRICS, SCOPE, Access, allowed, principal_of_requests, scopes_of
from app.api.cors import Origins
from app.api.decoding import StrictRequest
from app.api.docs import openapi_config
from app.api.document import published
from app.api.guards import Gate, no_nul_in_path, when_serving
from app.api.health import Readings
from app.api.hygiene import HttpEdge
from app.api.idempotency import Idempotent
from app.api.limits import Limits, within_limits
from app.api.methods import options_of
from app.api.once import once_for_requests
from app.api.problems import HANDLERS
from app.api.prompts import Prompts
from app.api.proxies import behind_proxies
from app.api.streams import OpenStreams
from app.api.targets import Targets
from app.api.turns import turns_of_requests
from app.api.ws import Sockets
from app.batches.service import BatchService
from app.callbacks.service import CallbackService
from app.domain.principals import Principal
from app.runs.approvals import ApprovalService
from app.runs.audit import AuditService
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
READ_TIMEOUT = 30.0


@get(
    "/metrics",
    tags=["health"],
    summary="Prometheus metrics",
    media_type="text/plain",
    opt={"always": True, SCOPE: METRICS},
)
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
    *audit.HANDLERS,
    *sessions.HANDLERS,
    *usages.HANDLERS,
    *ws.HANDLERS,
    *docs.HANDLERS,
    *HEALTH,
]
NAMES = (
    "service", "sessions", "approvals", "audit_log", "usage", "callbacks", "batches", "caches", "controls", "idempotent", "turns", "once", "readings",
    "targets", "prompts", "metrics", "streams", "limits", "sockets", "principal",
)  # fmt: skip
"""What handlers may ask for."""


def create_app(
    *,
    service: RunService,
    sessions: SessionService,
    approvals: ApprovalService,
    audit_log: AuditService,
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
    aside: Aside,
    max_body: int,
    max_streams: int,
    max_stream_age: float,
    access: Access,
    cors_origins: Sequence[str] = (),
    trusted_proxies: Sequence[str] = (),
    root_path: str = "",
    read_timeout: float = READ_TIMEOUT,
) -> AsgiApp:
    """The ASGI application over those objects.

    `max_stream_age`: seconds after which clients of streams must connect again. `cors_origins`, `trusted_proxies`, `root_path` and
    `read_timeout` as in the settings.
    """
    origins = Origins(cors_origins)
    streams = OpenStreams(
        limit=max_streams, max_age=max_stream_age, revocations=access.revocations, refused=metrics.refused
    )
    dependencies = {
        "service": service,
        "sessions": sessions,
        "approvals": approvals,
        "audit_log": audit_log,
        "usage": usage,
        "callbacks": callbacks,
        "batches": batches,
        "caches": caches,
        "controls": controls,
        "idempotent": idempotent,
        "turns": turns_of_requests(service=service, streams=streams, callbacks=callbacks, limits=limits),
        "once": once_for_requests(idempotent=idempotent),
        "readings": readings,
        "targets": targets,
        "prompts": prompt_list,
        "metrics": metrics,
        "streams": streams,
        "limits": limits,
        "sockets": Sockets(
            service=service,
            streams=streams,
            gate=gate,
            access=access,
            limits=limits,
            max_frame=max_body,
            aside=aside,
            max_age=max_stream_age,
            origins=origins,
        ),
        "principal": principal_of_requests(),
    }
    state = State({"gate": gate, "access": access, "limits": limits, "aside": aside})
    litestar: Any = _litestar(SERVICE, dependencies, state, max_body, root_path)
    edge = HttpEdge(app=litestar, origins=origins, read_timeout=read_timeout)
    telemetry = HttpTelemetry(app=edge, tracing=tracing, metrics=metrics)
    return behind_proxies(telemetry, trusted=trusted_proxies, root_path=root_path)


def create_worker_app(*, readings: Readings, metrics: Metrics, tracing: Tracing, gate: Gate, access: Access) -> AsgiApp:
    """The ASGI application of a process that only executes runs: its health and what it counted."""
    state = State({"gate": gate, "access": access})
    litestar: Any = _litestar(HEALTH, {"readings": readings, "metrics": metrics}, state, WORKER_BODY)
    edge = HttpEdge(app=litestar, origins=Origins(), read_timeout=READ_TIMEOUT)
    return HttpTelemetry(app=edge, tracing=tracing, metrics=metrics)


def describe() -> dict[str, Any]:
    """The OpenAPI document; needs no running service."""
    app = _litestar(SERVICE, dict.fromkeys(NAMES), State(), 1)
    return published(app.openapi_schema.to_schema(), scopes_of(app))


def _litestar(
    handlers: Sequence[Any], dependencies: Mapping[str, Any], state: State, max_body: int, root_path: str = ""
) -> Litestar:
    return Litestar(
        route_handlers=[*options_of(handlers), *handlers],  # in this order, or litestar makes its own
        dependencies={name: _provided(value) for name, value in dependencies.items()},
        guards=[when_serving, no_nul_in_path, allowed, within_limits],
        state=state,
        exception_handlers=HANDLERS,
        request_class=StrictRequest,
        request_max_body_size=max_body,
        openapi_config=openapi_config(VERSION, root_path) if "service" in dependencies else None,
        logging_config=None,
        signature_types=[Principal],
    )


def _provided(value: Any) -> Provide:
    return value if isinstance(value, Provide) else Provide(lambda: value, sync_to_thread=False, use_cache=True)
