"""Tracing by the standard variables: off costs nothing, wrong values are refused, a dead collector harms nobody."""

from __future__ import annotations

import asyncio
import logging
import os
import subprocess
import sys
import time

import pytest

from app.domain.errors import ConfigError
from app.telemetry.setup import open_tracing
from tests.telemetry.receiver import otlp_receiver


class Keeper(logging.Handler):
    """Keeps what reaches it."""

    def __init__(self, records: list[logging.LogRecord]) -> None:
        super().__init__(logging.WARNING)
        self._records = records

    def emit(self, record: logging.LogRecord) -> None:
        self._records.append(record)


OFF = """
import sys, warnings
warnings.simplefilter("error")
from prometheus_client import CollectorRegistry
import app.telemetry.http, app.telemetry.logs, app.telemetry.runs, app.telemetry.traced
from app.telemetry.metrics import Metrics
from app.telemetry.setup import open_tracing
Metrics(registry=CollectorRegistry(), version="0")
assert not open_tracing({}, "0").enabled
assert not open_tracing({"OTEL_SDK_DISABLED": "TRUE", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://localhost:4317"}, "0").enabled
assert not open_tracing({"OTEL_TRACES_EXPORTER": "none", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://localhost"}, "0").enabled
bad = [name for name in sys.modules if name.startswith(("opentelemetry.sdk", "opentelemetry.exporter", "grpc", "requests"))]
assert not bad, bad
"""


def test_nothing_configured_loads_no_sdk_and_says_nothing() -> None:
    done = subprocess.run([sys.executable, "-c", OFF], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize(
    ("environ", "where"),
    [
        ({"OTEL_TRACES_EXPORTER": "zipkin"}, "OTEL_TRACES_EXPORTER"),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://h", "OTEL_EXPORTER_OTLP_PROTOCOL": "http/json"}, "OTEL_EXPORTER_OTLP_PROTOCOL"),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "collector:4318"}, "OTEL_EXPORTER_OTLP_ENDPOINT"),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://h:port"}, "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://h", "OTEL_BSP_MAX_QUEUE_SIZE": "0"}, "OTEL_*"),
        (
            {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://h", "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT": "EVENT_ONLY"},
            "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT",
        ),
    ],
)  # fmt: skip
def test_a_wrong_value_is_refused_by_name(environ: dict[str, str], where: str) -> None:
    with pytest.raises(ConfigError) as refused:
        open_tracing(environ, "0")
    assert refused.value.problems[0].where == where


async def test_names_and_sampling_come_from_the_mapping_alone() -> None:
    before = dict(os.environ)
    async with otlp_receiver() as collector:
        named = open_tracing(
            {
                "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": collector.http_endpoint + "/v1/traces",
                "OTEL_SERVICE_NAME": "mine",
                "OTEL_RESOURCE_ATTRIBUTES": "service.version=9",
            },
            "0.1.0",
        )
        unsampled = open_tracing(
            {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.http_endpoint, "OTEL_TRACES_SAMPLER": "always_off"}, "0.1.0"
        )
        assert dict(os.environ) == before
        unsampled.tracer.start_span("dropped").end()
        await unsampled.aclose()
        named.tracer.start_span("kept").end()
        await named.aclose()
        await collector.wait(lambda spans: len(spans) == 1)
        span = collector.named("kept")
        assert (span.resource["service.name"], span.resource["service.version"]) == ("mine", "9")


@pytest.mark.parametrize("protocol", ["grpc", "http/protobuf"])
async def test_a_dead_collector_is_given_up_in_time_and_mentioned_once(
    protocol: str,
) -> None:
    """Nothing listens on the port; the queue stays bounded and the loop runs on."""
    records: list[logging.LogRecord] = []
    root, keeper = logging.getLogger(), Keeper(records)
    root.addHandler(keeper)
    tracing = open_tracing(
        {
            "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9",
            "OTEL_EXPORTER_OTLP_PROTOCOL": protocol,
            "OTEL_BSP_MAX_QUEUE_SIZE": "64",
            "OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "8",
        },
        "0.1.0",
    )
    started = time.monotonic()
    for _ in range(1000):
        tracing.tracer.start_span("lost").end()
    assert time.monotonic() - started < 5.0
    closing = asyncio.create_task(tracing.aclose(timeout=0.2))
    ticks = 0
    while not closing.done():
        await asyncio.sleep(0)
        ticks += 1
    await closing
    assert ticks > 100
    assert time.monotonic() - started < 5.0
    root.removeHandler(keeper)
    ours = [record for record in records if "telemetry" in record.name]
    assert [record.getMessage() for record in ours if record.name.startswith("app.")].count("traces_not_delivered") <= 1
    assert len(ours) <= 4, [record.getMessage() for record in ours]


async def test_a_collector_that_never_answers_does_not_hold_up_the_end() -> None:
    silent: set[asyncio.StreamWriter] = set()
    arrived = asyncio.Event()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        silent.add(writer)
        arrived.set()

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    endpoint = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    tracing = open_tracing({"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint, "OTEL_BSP_SCHEDULE_DELAY": "1"}, "0.1.0")
    tracing.tracer.start_span("stuck").end()
    await asyncio.wait_for(arrived.wait(), 5)
    started = time.monotonic()
    await tracing.aclose(timeout=0.1)
    assert time.monotonic() - started < 3.0
    server.close()
    for writer in silent:
        writer.close()
