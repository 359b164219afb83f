"""The HTTP application: the only `Litestar(...)` call, its routes and its dependency table."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import version as installed_version
from typing import Any

from litestar import Litestar, Response, get
from litestar.datastructures import State
from litestar.di import NamedDependency, Provide

from app.api import docs, health, quick, runs, sessions
from app.api.decoding import StrictRequest
from app.api.docs import openapi_config
from app.api.document import published
from app.api.guards import Gate, no_nul_in_path, when_serving
from app.api.health import Readings
from app.api.problems import HANDLERS
from app.api.streams import OpenStreams
from app.api.targets import Targets
from app.domain.principals import ANONYMOUS, Principal
from app.runs.service import RunService
from app.telemetry.http import AsgiApp, HttpTelemetry
from app.telemetry.metrics import Metrics
from app.telemetry.setup import Tracing

VERSION = installed_version("steadyhand")


@get("/metrics", tags=["health"], summary="Prometheus metrics", media_type="text/plain", opt={"always": True})
async def metrics_page(metrics: NamedDependency[Metrics]) -> Response[bytes]:
    """What this process counted, in Prometheus' text format."""
    text, media_type = metrics.render()
    return Response(text, media_type=media_type.partition("; charset")[0])  # litestar adds it


def create_app(
    *,
    service: RunService,
    readings: Readings,
    targets: Targets,
    metrics: Metrics,
    tracing: Tracing,
    gate: Gate,
    max_body: int,
    max_streams: int,
) -> AsgiApp:
    """The ASGI application over those objects."""
    dependencies = {
        "service": service,
        "readings": readings,
        "targets": targets,
        "metrics": metrics,
        "streams": OpenStreams(limit=max_streams),
        "principal": ANONYMOUS,
    }
    litestar = _litestar(dependencies, gate, max_body)
    return HttpTelemetry(app=litestar, tracing=tracing, metrics=metrics)  # type: ignore[arg-type]  # litestar's scope is a TypedDict


def describe() -> dict[str, Any]:
    """The OpenAPI document; needs no running service."""
    names = ("service", "readings", "targets", "metrics", "streams", "principal")
    return published(_litestar(dict.fromkeys(names), Gate(None), 1).openapi_schema.to_schema())


def _litestar(dependencies: Mapping[str, Any], gate: Gate, max_body: int) -> Litestar:
    return Litestar(
        route_handlers=[
            *quick.HANDLERS,
            *runs.HANDLERS,
            *sessions.HANDLERS,
            *health.HANDLERS,
            *docs.HANDLERS,
            metrics_page,
        ],
        dependencies={name: _always(value) for name, value in dependencies.items()},
        guards=[when_serving, no_nul_in_path],
        state=State({"gate": gate}),
        exception_handlers=HANDLERS,
        request_class=StrictRequest,
        request_max_body_size=max_body,
        openapi_config=openapi_config(VERSION),
        logging_config=None,
        signature_types=[Principal],
    )


def _always(value: Any) -> Provide:
    return Provide(lambda: value, sync_to_thread=False, use_cache=True)
