"""An OTLP collector in the test's own process: real gRPC and HTTP/protobuf, spans as plain Structs.

async with otlp_receiver() as collector:
    … OTEL_EXPORTER_OTLP_ENDPOINT = collector.grpc_endpoint or collector.http_endpoint …
    await collector.wait(lambda spans: len(spans) == 3)
"""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import grpc  # type: ignore[import-untyped]  # ships no types
import msgspec
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2_grpc import (
    TraceServiceServicer,
    add_TraceServiceServicer_to_server,
)
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue

KINDS = ("UNSPECIFIED", "INTERNAL", "SERVER", "CLIENT", "PRODUCER", "CONSUMER")
STATUSES = ("UNSET", "OK", "ERROR")


class ReceivedSpan(msgspec.Struct, frozen=True, kw_only=True):
    """A span as it came over the wire; ids in hex, `parent_id` None for a root, times in nanoseconds."""

    name: str
    kind: str
    trace_id: str
    span_id: str
    parent_id: str | None
    attributes: Mapping[str, Any]
    status: str
    status_message: str
    links: tuple[tuple[str, str], ...]
    start: int
    end: int
    resource: Mapping[str, Any]


class Receiver(TraceServiceServicer):
    """What has arrived so far: `spans`, and the headers of every export."""

    def __init__(self) -> None:
        self.grpc_endpoint = ""
        self.http_endpoint = ""
        self.spans: list[ReceivedSpan] = []
        self.headers: list[dict[str, str]] = []
        self._arrived = asyncio.Condition()

    def named(self, name: str) -> ReceivedSpan:
        """The one span of that name."""
        found = [span for span in self.spans if span.name == name]
        assert len(found) == 1, f"{len(found)} spans {name!r} among {[span.name for span in self.spans]}"
        return found[0]

    async def wait(self, condition: Callable[[Sequence[ReceivedSpan]], bool], timeout: float = 10.0) -> None:
        """Until the spans fulfil the condition. Raises TimeoutError naming what did arrive."""
        try:
            async with asyncio.timeout(timeout), self._arrived:
                await self._arrived.wait_for(lambda: condition(self.spans))
        except TimeoutError:
            raise TimeoutError(f"arrived: {[span.name for span in self.spans]}") from None

    async def take(self, request: ExportTraceServiceRequest, headers: dict[str, str]) -> None:
        """One export, by either protocol."""
        async with self._arrived:
            self.headers.append(headers)
            self.spans.extend(_spans(request))
            self._arrived.notify_all()

    async def Export(
        self, request: ExportTraceServiceRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> ExportTraceServiceResponse:
        """The gRPC method."""
        await self.take(request, {str(key): str(value) for key, value in context.invocation_metadata() or ()})
        return ExportTraceServiceResponse()

    async def answer_http(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One HTTP/1.1 connection: any number of POSTs to /v1/traces."""
        try:
            while head := await _head(reader):
                line, *fields = head.decode("latin-1").split("\r\n")
                headers = {
                    name.lower(): value.strip()
                    for name, _, value in (field.partition(":") for field in fields if field)
                }
                body = await reader.readexactly(int(headers.get("content-length", 0)))
                if headers.get("content-encoding") == "gzip":
                    body = gzip.decompress(body)
                status, answer = b"404 Not Found", b""
                if line.startswith("POST /v1/traces "):
                    await self.take(ExportTraceServiceRequest.FromString(body), headers)
                    status, answer = b"200 OK", ExportTraceServiceResponse().SerializeToString()
                writer.write(
                    b"HTTP/1.1 %b\r\nContent-Type: application/x-protobuf\r\nContent-Length: %d\r\n\r\n%b"
                    % (status, len(answer), answer)
                )
                await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # the exporter went away
        finally:
            writer.close()


@asynccontextmanager
async def otlp_receiver() -> AsyncIterator[Receiver]:
    """A collector on two free loopback ports, for as long as the block runs."""
    receiver = Receiver()
    connections: set[asyncio.Task[None]] = set()

    def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(receiver.answer_http(reader, writer))
        connections.add(task)
        task.add_done_callback(connections.discard)

    rpc = grpc.aio.server()
    add_TraceServiceServicer_to_server(receiver, rpc)  # type: ignore[no-untyped-call]  # generated code
    receiver.grpc_endpoint = f"http://127.0.0.1:{rpc.add_insecure_port('127.0.0.1:0')}"
    await rpc.start()
    http = await asyncio.start_server(connected, "127.0.0.1", 0)
    receiver.http_endpoint = f"http://127.0.0.1:{http.sockets[0].getsockname()[1]}"
    try:
        yield receiver
    finally:
        http.close()
        for task in connections:
            task.cancel()
        await asyncio.gather(*connections, return_exceptions=True)
        await rpc.stop(grace=None)


async def _head(reader: asyncio.StreamReader) -> bytes:
    try:
        return (await reader.readuntil(b"\r\n\r\n")).removesuffix(b"\r\n\r\n")
    except asyncio.IncompleteReadError as error:
        if error.partial:
            raise
        return b""


def _spans(request: ExportTraceServiceRequest) -> Iterable[ReceivedSpan]:
    for group in request.resource_spans:
        resource = _attributes(group.resource.attributes)
        for scope in group.scope_spans:
            for span in scope.spans:
                yield ReceivedSpan(
                    name=span.name,
                    kind=KINDS[span.kind],
                    trace_id=span.trace_id.hex(),
                    span_id=span.span_id.hex(),
                    parent_id=span.parent_span_id.hex() or None,
                    attributes=_attributes(span.attributes),
                    status=STATUSES[span.status.code],
                    status_message=span.status.message,
                    links=tuple((link.trace_id.hex(), link.span_id.hex()) for link in span.links),
                    start=span.start_time_unix_nano,
                    end=span.end_time_unix_nano,
                    resource=resource,
                )


def _attributes(pairs: Iterable[KeyValue]) -> dict[str, Any]:
    return {pair.key: _value(pair.value) for pair in pairs}


def _value(value: AnyValue) -> Any:
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [_value(item) for item in value.array_value.values]
    return None if kind is None else getattr(value, kind)
