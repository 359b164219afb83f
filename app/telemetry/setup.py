"""Opens tracing as the standard `OTEL_*` variables say. None of them set: a tracer that does nothing, and no SDK is imported."""

from __future__ import annotations

import asyncio
import logging
import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from opentelemetry.trace import NoOpTracer, Tracer

from app.domain.errors import ConfigError, ConfigProblem

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SpanExporter

ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
EXPORTERS = "OTEL_TRACES_EXPORTER"
CAPTURE = "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"
CAPTURES = {"": False, "false": False, "no_content": False, "true": True, "span_only": True, "span_and_event": True}
GRPC_PORT = 4317
"""Registered for OTLP over gRPC; without a protocol variable an endpoint on this port is taken for that."""
GIVE_UP = 0.5


class Tracing:
    """A tracer and what belongs to it. `content`: whether spans may carry prompts, arguments and results."""

    def __init__(
        self,
        *,
        tracer: Tracer,
        content: bool = False,
        provider: TracerProvider | None = None,
        exporters: tuple[SpanExporter, ...] = (),
    ) -> None:
        self.tracer = tracer
        self.content = content
        self.enabled = provider is not None
        self._provider = provider
        self._exporters = exporters

    async def aclose(self, timeout: float = 5.0) -> None:
        """Spans that ended before are delivered, or given up after `timeout` seconds. Never blocks the loop."""
        if self._provider is None:
            return
        provider, self._provider = self._provider, None
        await asyncio.sleep(0)  # spans of stopped attempts end with the loop's turn
        loop = asyncio.get_running_loop()
        done = asyncio.Event()

        def flush() -> None:
            try:
                provider.shutdown()
            finally:
                with suppress(RuntimeError):  # the loop is gone where the wait below was given up
                    loop.call_soon_threadsafe(done.set)

        # A daemon of its own: an executor's thread would hold up the end of the process for a collector that hangs.
        threading.Thread(target=flush, name="tracing-shutdown", daemon=True).start()
        try:
            async with asyncio.timeout(timeout):
                await done.wait()
        except TimeoutError:
            for exporter in self._exporters:
                exporter.shutdown()
            try:
                async with asyncio.timeout(GIVE_UP):
                    await done.wait()
            except TimeoutError:
                logging.getLogger(__name__).warning("traces_abandoned", extra={"timeout": timeout})


def open_tracing(environ: Mapping[str, str], version: str) -> Tracing:
    """Tracing as `environ` describes it; the process's own environment is not looked at.

    On when `OTEL_TRACES_EXPORTER` or an OTLP endpoint is given. Spans wait in a bounded queue and are dropped when it is
    full. Raises ConfigError for a value that cannot be used.
    """
    kinds = _exporters(environ)
    if not kinds:
        return Tracing(tracer=NoOpTracer())
    content = _content(environ)
    with _environment(environ):
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor

        from app.telemetry.export import Delivery

        try:
            resource = Resource.create()
            ours = {"service.name": "steadyhand", "service.version": version}
            unsaid = {k: v for k, v in ours.items() if _unsaid(resource.attributes.get(k))}
            resource = resource.merge(Resource(unsaid))
            exporters = tuple(Delivery(exporter=_exporter(kind, environ)) for kind in kinds)
            provider = TracerProvider(resource=resource, shutdown_on_exit=False)
            for exporter in exporters:
                provider.add_span_processor(BatchSpanProcessor(exporter))
        except ConfigError:
            raise
        except (
            Exception
        ) as error:  # the SDK and its exporters raise what they like for a variable that they cannot read
            raise _refused("OTEL_*", type(error).__name__, str(error)) from error
    tracer = provider.get_tracer("steadyhand", version)
    return Tracing(tracer=tracer, content=content, provider=provider, exporters=exporters)


def _unsaid(value: object) -> bool:
    """Whether the operator left this resource attribute open; the SDK fills in a name that is none."""
    return value is None or str(value).startswith("unknown_service")


def _exporters(environ: Mapping[str, str]) -> list[str]:
    if environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return []
    named = [name.strip().lower() for name in environ.get(EXPORTERS, "").split(",") if name.strip()]
    if not named:
        return ["otlp"] if any(environ.get(name) for name in ENDPOINTS) else []
    unknown = [name for name in named if name not in ("otlp", "console", "none")]
    if unknown:
        raise _refused(EXPORTERS, unknown[0], "must be otlp, console or none")
    return [name for name in dict.fromkeys(named) if name != "none"]


def _content(environ: Mapping[str, str]) -> bool:
    value = environ.get(CAPTURE, "").strip().lower()
    if value not in CAPTURES:
        raise _refused(CAPTURE, value, "must be NO_CONTENT, SPAN_ONLY or SPAN_AND_EVENT: content goes into spans only")
    return CAPTURES[value]


def _exporter(kind: str, environ: Mapping[str, str]) -> SpanExporter:
    if kind == "console":
        import sys

        from opentelemetry.sdk.trace.export import ConsoleSpanExporter

        return ConsoleSpanExporter(out=sys.stderr, formatter=lambda span: span.to_json(indent=None) + "\n")
    variable, endpoint = _first(environ, ENDPOINTS)
    scheme = urlsplit(endpoint).scheme
    port = _port(variable, endpoint)
    where, protocol = _first(environ, PROTOCOLS)
    protocol = protocol or ("grpc" if port == GRPC_PORT else "http/protobuf")
    if protocol == "grpc":
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter as GrpcExporter

        return GrpcExporter()
    if protocol != "http/protobuf":
        raise _refused(where, protocol, "must be grpc or http/protobuf")
    if endpoint and scheme not in ("http", "https"):
        raise _refused(variable, endpoint, "must be an http:// or https:// URL")
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter as HttpExporter

    return HttpExporter()


def _port(variable: str, endpoint: str) -> int | None:
    try:
        return urlsplit(endpoint if "://" in endpoint else f"//{endpoint}").port
    except ValueError as error:
        raise _refused(variable, endpoint, str(error)) from error


def _first(environ: Mapping[str, str], names: tuple[str, ...]) -> tuple[str, str]:
    """The first of these variables that is set, and its value."""
    return next(((name, environ[name].strip()) for name in names if environ.get(name)), (names[-1], ""))


def _refused(where: str, what: str, why: str) -> ConfigError:
    return ConfigError([ConfigProblem(where, what, why)])


@contextmanager
def _environment(environ: Mapping[str, str]) -> Iterator[None]:
    """The SDK reads `os.environ` and nothing else, while it is being built: for that long these are its `OTEL_*` variables."""
    own = {name: value for name, value in os.environ.items() if name.startswith("OTEL_")}
    given = {name: value for name, value in environ.items() if name.startswith("OTEL_")}
    for name in own:
        del os.environ[name]
    os.environ.update(given)
    try:
        yield
    finally:
        for name in given:
            os.environ.pop(name, None)
        os.environ.update(own)
