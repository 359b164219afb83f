"""One JSON object a line, whatever is logged; with the ids of the request and the run."""

from __future__ import annotations

import io
import json
import logging
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from app.domain.events import RunFinished
from app.domain.observers import RunTimes
from app.domain.runs import RunFailure
from app.telemetry import context
from app.telemetry.hiding import Hiding
from app.telemetry.logs import JsonFormatter, PrettyFormatter
from app.telemetry.runs import RunTelemetry
from app.telemetry.setup import open_tracing
from tests.telemetry.fakes import CANARY, new_metrics, run_info
from tests.telemetry.receiver import otlp_receiver


class Page:
    """A logger's output so far."""

    def __init__(self, formatter: logging.Formatter) -> None:
        self.stream = io.StringIO()
        self.handler = logging.StreamHandler(self.stream)
        self.handler.setFormatter(formatter)
        self.logger = logging.Logger("app.x")  # nobody's child: pytest's own handlers refuse what ours must not
        self.logger.addHandler(self.handler)

    @property
    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.stream.getvalue().splitlines()]


@pytest.fixture
def page() -> Iterator[Page]:
    """Everything that `app` logs, as JSON."""
    page, logger = Page(JsonFormatter()), logging.getLogger("app")
    level = logger.level
    logger.addHandler(page.handler)
    logger.setLevel(logging.DEBUG)
    yield page
    logger.removeHandler(page.handler)
    logger.setLevel(level)


class Rude:
    def __str__(self) -> str:
        raise ZeroDivisionError

    __repr__ = __str__


def nested() -> list[Any]:
    value: list[Any] = []
    for _ in range(100_000):
        value = [value]
    return value


@pytest.mark.parametrize(
    "text",
    ["plain", "two\nlines\r\n", "\x1b[31mred\x00\x7f", "\x85 \u2028 \u2029 next line", "\udc00 alone", '"}{"', "ü 🦆"],
)
def test_no_text_breaks_a_line(page: Page, text: str) -> None:
    page.logger.warning("%s", text, extra={"field": text, "deep": {"key": [text]}})
    assert page.stream.getvalue().count("\n") == 1
    (line,) = page.lines
    assert (line["level"], line["logger"]) == ("warning", "app.x")
    assert line["event"] == line["field"] == text.replace("\udc00", "\ufffd")
    assert line["time"].endswith("Z")


@pytest.mark.parametrize(
    "value", [Rude(), {Rude(): 1}, {1: Rude()}, float("nan"), 10**40, nested(), b"\xff", {1, 2}, object]
)
def test_no_value_loses_the_line(page: Page, value: object) -> None:
    page.logger.info("kept", extra={"field": value})
    (line,) = page.lines
    assert line["event"] == "kept"
    assert "field" in line


def test_arguments_that_do_not_fit_are_shown() -> None:
    page = Page(JsonFormatter())
    page.handler.handle(logging.makeLogRecord({"msg": "%d files of %d", "args": ("no number",)}))
    assert page.lines[0]["event"] == "%d files of %d ('no number',)"


def test_an_exception_is_text_in_its_line(page: Page) -> None:
    try:
        raise KeyError("gone")
    except KeyError:
        page.logger.exception("lookup")
    (line,) = page.lines
    assert line["exception"].startswith("Traceback")
    assert line["exception"].endswith("KeyError: 'gone'")


def test_extra_does_not_replace_what_a_line_is_made_of(page: Page) -> None:
    page.logger.info("real", extra={"event": "fake", "level": "fake", "time": 0, "run_id": "given"})
    (line,) = page.lines
    assert (line["event"], line["level"], line["run_id"]) == ("real", "info", "given")


def finished(status: str, reason: str, error: RunFailure | None = None) -> RunFinished:
    return RunFinished(
        status=status,  # type: ignore[arg-type]  # one of the words, by the callers
        stop_reason=reason,  # type: ignore[arg-type]  # one of the words, by the callers
        output=f"answer {CANARY}",
        usage=None,
        cost_usd=None,
        iterations=10,
        error=error,
    )


async def test_the_life_of_a_run_is_named_events_with_ids(page: Page) -> None:
    async with otlp_receiver() as collector:
        tracing = open_tracing({"OTEL_EXPORTER_OTLP_ENDPOINT": collector.http_endpoint}, "0")
        observer = RunTelemetry(tracing=tracing, metrics=new_metrics()[0])
        token = context.request_id.set("req-1")
        with observer.running(run_info()) as watch:
            logging.getLogger("app.tools").info("inside")
            watch.finished(finished("succeeded", "max_iterations"), None, RunTimes(total=10.5, effects=9.0))
        logging.getLogger("app.tools").info("outside")
        context.request_id.reset(token)
        await tracing.aclose()
        await collector.wait(lambda spans: len(spans) == 1)
        span = collector.named("invoke_agent assistant")

    *inside, outside = page.lines
    assert [line["event"] for line in inside] == [
        "agent_start", "inside", "agent_success", "max_iterations_reached", "slow_response"
    ]  # fmt: skip
    for line in inside:
        ids = {name: line[name] for name in ("run_id", "session_id", "user_id", "request_id", "trace_id", "span_id")}
        assert ids == {
            "run_id": "run-1",
            "session_id": "session-1",
            "user_id": "ann",
            "request_id": "req-1",
            "trace_id": span.trace_id,
            "span_id": span.span_id,
        }
    assert inside[2]["duration_ms"] == 10500
    assert outside.keys() == {"time", "level", "logger", "event", "request_id"}
    assert CANARY not in page.stream.getvalue()


def test_a_failed_run_is_logged_once_with_the_traceback_if_it_was_our_fault(page: Page) -> None:
    observer = RunTelemetry(tracing=open_tracing({}, "0"), metrics=new_metrics()[0])
    with observer.running(run_info()) as watch:
        watch.failed(ZeroDivisionError("division"))
        watch.finished(finished("failed", "error", RunFailure("internal", "")), None, RunTimes(total=1, effects=1))
    with observer.running(run_info()) as watch:
        watch.finished(finished("failed", "timeout", RunFailure("timeout", "")), None, RunTimes(total=1, effects=1))
    ends = [(line["reason"], "exception" in line) for line in page.lines if line["event"] == "agent_failed"]
    assert ends == [("internal", True), ("timeout", False)]


def test_pretty_lines_show_controls_and_send_none() -> None:
    page = Page(PrettyFormatter(colour=False))
    record = logging.makeLogRecord(
        {
            "name": "app.x",
            "levelname": "INFO",
            "msg": "hello\x1b[2J",
            "field": "a\nb",
            "exc_text": "Traceback\n  Boom\x07",
        }
    )
    page.handler.handle(record)
    first, *rest = page.stream.getvalue().splitlines()
    assert first[8:] == " INFO    hello\\u001b[2J field=a\\u000ab (app.x)"
    assert rest == ["    Traceback", "      Boom\\u0007"]


CONFIGURED = """
import logging, sys, warnings
logging.getLogger("litestar").addHandler(logging.StreamHandler(sys.stdout))
logging.getLogger("granian.access").propagate = False
from app.telemetry.hiding import Hiding
from app.telemetry.logs import configure_logging
configure_logging(level="debug", format=sys.argv[1])
logging.getLogger("litestar").info("from litestar")
logging.getLogger("granian.access").info("from granian")
for name in ("openai", "anthropic._client", "httpx2"):
    logging.getLogger(name).debug("prompt")
    logging.getLogger(name).info("request")
    logging.getLogger(name).warning("from %s", name)
warnings.warn("careful")
logging.getLogger("app").debug("done")
"""


@pytest.mark.parametrize("format", ["json", "auto"])
def test_configured_every_library_goes_through_it(format: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", CONFIGURED, format], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout == ""
    lines = [json.loads(line) for line in done.stderr.splitlines()]
    events = [line["event"] for line in lines]
    assert [event for event in events if "careful" not in event] == [
        "from litestar", "from granian", "from openai", "from anthropic._client", "from httpx2", "done"
    ]  # fmt: skip
    assert sum("careful" in event for event in events) == 1


def test_a_level_that_does_not_exist_is_refused() -> None:
    code = "from app.telemetry.logs import configure_logging; configure_logging(level='loud')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert "ValueError" in done.stderr


def test_a_secret_is_in_no_line_however_it_is_spelled() -> None:
    secrets = ['s3cret"\\first', "s3cret-second"]
    record = logging.makeLogRecord({"msg": f"key {secrets[0]} and {secrets[1]}", "levelname": "INFO"})
    record.url = f"x://u:{secrets[1]}@h"
    lines = [
        Hiding(formatter=f, secrets=secrets).format(record) for f in (JsonFormatter(), PrettyFormatter(colour=False))
    ]
    assert not [line for line in lines if "first" in line or "second" in line]
    found = json.loads(lines[0])
    assert (found["event"], found["url"]) == ("key *** and ***", "x://u:***@h")
