"""What operators see of a running service: spans over OTLP, log lines, the metrics page; and what none of them may hold."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from typing import Any, Literal

import pytest

from tests.e2e.conftest import KEY, Serve
from tests.e2e.provider import StandIn
from tests.e2e.service import Service
from tests.e2e.wires import fails, hangs, says
from tests.telemetry.receiver import ReceivedSpan, Receiver, otlp_receiver
from tests.telemetry.test_metrics import CONTRACT, NOT_BASE
from tests.waiting import until

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
CANARY = "canary-8d21"


@pytest.mark.parametrize("protocol", ["grpc", "http/protobuf"])
async def test_the_spans_and_log_lines_of_a_tool_turn(
    serve: Serve, own_provider: StandIn, protocol: Literal["grpc", "http/protobuf"]
) -> None:
    content = protocol == "http/protobuf"
    async with otlp_receiver() as collector:
        environ = {
            "OTEL_EXPORTER_OTLP_PROTOCOL": protocol,
            "OTEL_EXPORTER_OTLP_ENDPOINT": collector.http_endpoint if content else collector.grpc_endpoint,
            "OTEL_SERVICE_NAME": "the-shop",
            "OTEL_BSP_SCHEDULE_DELAY": "50",
            "STEADYHAND__WORKER__CONCURRENCY": "1",
        }
        if content:
            environ["OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"] = "true"
        async with serve(environ=environ) as service:
            turn = await _turn(service, own_provider)
            failure = await _failure(service, own_provider)
            await collector.wait(lambda spans: _turns(spans, "POST /chat") == _turns(spans, "invoke_agent") == 3)
            _check_tool_turn(collector, turn)
            _check_queued_turn(collector, turn)
            _check_failure(collector, failure)
            assert all(span.resource["service.name"] == "the-shop" for span in collector.spans)
            _check_logs(service, turn)

            spans = " ".join(repr(span) for span in collector.spans)
            assert KEY not in spans
            assert (CANARY in spans) == content
            metrics = (await service.get("/metrics")).text
            for place in (service.stderr, metrics, repr(failure)):
                assert KEY not in place
                assert CANARY not in place


def _turns(spans: Sequence[ReceivedSpan], name: str) -> int:
    return sum(span.name.startswith(name) for span in spans)


async def _turn(service: Service, provider: StandIn) -> dict[str, Any]:
    """A tool turn in the caller's trace, and one that had to wait for it in the queue."""
    gate = asyncio.Event()
    question, queued = f"What of {CANARY}?", f"And {CANARY}?"
    calls = [("call-1", "calculator", '{"expression": "6 * 7"}'), ("call-2", "clock", f'{{"timezone": "{CANARY}"}}')]
    provider.script(
        question, says(f"Hm, {CANARY}", calls=calls, usage=(20, 7), head=gate), says(f"{CANARY}!", usage=(30, 3))
    )
    provider.script(queued, says(CANARY))
    headers = {"traceparent": f"00-{TRACE}-{PARENT}-01", "X-Request-Id": "req-of-the-caller"}
    body = {"message": question, "session_id": "t1", "context": {"who": CANARY}, "agent": "responses"}
    first = asyncio.create_task(service.post("/chat", body, **headers))
    await provider.wait(question)
    second = asyncio.create_task(service.post("/chat", {"message": queued, "session_id": "t2", "agent": "chat"}))

    async def waits() -> bool:
        return len((await service.json("/v1/runs?status=queued"))["data"]) == 1

    await until(waits)
    gate.set()
    answered, after = await first, await second
    assert (answered.status_code, after.status_code) == (200, 200), (answered.text, after.text)
    assert answered.headers["x-request-id"] == "req-of-the-caller"
    told: dict[str, Any] = answered.json()
    return told | {"queued": after.json()["run_id"], "queued_request": after.headers["x-request-id"]}


async def _failure(service: Service, provider: StandIn) -> dict[str, Any]:
    """A provider that repeats what it was sent, key and all."""
    provider.script("fail", fails(401, "authentication_error", f"Incorrect API key provided: {KEY}, for {CANARY}"))
    response = await service.post("/chat", {"message": "fail", "agent": "anthropic"})
    assert response.status_code == 503
    problem: dict[str, Any] = response.json()
    return problem


def _of_run(collector: Receiver, run_id: str) -> dict[str, list[ReceivedSpan]]:
    spans: dict[str, list[ReceivedSpan]] = {}
    for span in sorted(collector.spans, key=lambda span: span.start):
        if span.attributes.get("steadyhand.run.id") == run_id:
            spans.setdefault(span.name, []).append(span)
    return spans


def _check_tool_turn(collector: Receiver, turn: dict[str, Any]) -> None:
    spans = _of_run(collector, turn["run_id"])
    assert {name: len(found) for name, found in spans.items()} == {
        "invoke_agent responses": 1, "chat model-1": 2, "execute_tool calculator": 1, "execute_tool clock": 1,
    }  # fmt: skip
    (server,) = [s for s in collector.spans if s.kind == "SERVER" and s.trace_id == TRACE]
    (agent,), (tool,) = spans["invoke_agent responses"], spans["execute_tool calculator"]
    (failed,) = spans["execute_tool clock"]
    assert (server.name, server.parent_id) == ("POST /chat", PARENT)
    assert (server.attributes["http.route"], server.attributes["http.response.status_code"]) == ("/chat", 200)
    assert server.attributes["http.request.method"] == "POST"
    assert agent.parent_id == server.span_id
    for child in (*spans["chat model-1"], tool, failed):
        assert (child.trace_id, child.parent_id) == (TRACE, agent.span_id), child.name
        assert agent.start <= child.start <= child.end <= agent.end
    common = {"steadyhand.run.id": turn["run_id"], "steadyhand.session.id": "t1", "gen_ai.conversation.id": "t1"}
    assert (
        agent.attributes.items()
        >= (
            common
            | {
                "gen_ai.operation.name": "invoke_agent",
                "gen_ai.agent.name": "responses",
                "gen_ai.agent.version": turn["metadata"]["agent_version"],
                "steadyhand.attempt": 1,
                "steadyhand.route": "responses",
                "gen_ai.usage.input_tokens": 50,
                "gen_ai.usage.output_tokens": 10,
            }
        ).items()
    )
    for span, usage, finish in zip(spans["chat model-1"], ((20, 7), (30, 3)), ("tool_calls", "stop"), strict=True):
        assert span.kind == "CLIENT"
        assert (
            span.attributes.items()
            >= (
                common
                | {
                    "gen_ai.operation.name": "chat",
                    "gen_ai.provider.name": "openai",
                    "steadyhand.provider": "responses",
                    "gen_ai.request.model": "model-1",
                    "gen_ai.response.model": "stand-in-2026",
                    "gen_ai.usage.input_tokens": usage[0],
                    "gen_ai.usage.output_tokens": usage[1],
                    "steadyhand.attempt": 1,
                    "steadyhand.route": "responses",
                }
            ).items()
        )
        assert list(span.attributes["gen_ai.response.finish_reasons"]) == [finish]
        assert span.attributes["gen_ai.response.time_to_first_chunk"] >= 0
    assert (
        tool.attributes.items()
        >= (
            common
            | {
                "gen_ai.operation.name": "execute_tool",
                "gen_ai.tool.name": "calculator",
                "gen_ai.tool.call.id": "call-1",
                "gen_ai.tool.type": "function",
            }
        ).items()
    )


def _check_queued_turn(collector: Receiver, turn: dict[str, Any]) -> None:
    """Through the queue, too, the run hangs under the request that made it."""
    (agent,) = _of_run(collector, turn["queued"])["invoke_agent chat"]
    (server,) = [s for s in collector.spans if s.attributes.get("steadyhand.request.id") == turn["queued_request"]]
    assert (agent.trace_id, agent.parent_id, server.parent_id) == (server.trace_id, server.span_id, None)


def _check_failure(collector: Receiver, problem: dict[str, Any]) -> None:
    spans = _of_run(collector, problem["run_id"])
    (agent,), (chat,) = spans["invoke_agent anthropic"], spans["chat model-1"]
    assert (agent.status, chat.status) == ("ERROR", "ERROR")
    assert (chat.attributes["error.type"], agent.attributes["error.type"]) == ("auth", "providers_unavailable")


def _check_logs(service: Service, turn: dict[str, Any]) -> None:
    lines = service.logs
    for line in lines:
        assert {"time", "level", "logger", "event"} <= line.keys()
    of_run = [line for line in lines if line.get("run_id") == turn["run_id"]]
    assert {"agent_start", "agent_success"} <= {line["event"] for line in of_run}
    for line in of_run:
        assert (line["session_id"], line["request_id"], line["trace_id"]) == ("t1", "req-of-the-caller", TRACE)
    (access,) = [
        line for line in lines if line["event"] == "http_request" and line["request_id"] == "req-of-the-caller"
    ]
    assert (access["method"], access["route"], access["status"], access["trace_id"]) == ("POST", "/chat", 200, TRACE)


Samples = dict[str, float]


def _samples(page: str) -> Samples:
    lines = (line.rpartition(" ") for line in page.splitlines() if line and not line.startswith("#"))
    return {series: float(value) for series, _, value in lines}


async def test_the_metrics_page_moves_with_what_happens(service: Service, provider: StandIn) -> None:
    page = await service.get("/metrics")
    assert page.headers["content-type"].startswith("text/plain; version=0.0.4")
    before = _samples(page.text)
    gate = asyncio.Event()
    call = ("m1", "calculator", '{"expression": "6 * 7"}')
    provider.script(f"count {CANARY}", says(calls=[call], head=gate), says("42"))
    provider.script("count a failure", *[fails(500)] * 3)
    provider.script("count a reset", hangs())
    turn = asyncio.create_task(service.chat(f"count {CANARY}", agent="chat"))
    await provider.wait(f"count {CANARY}")
    during = _samples((await service.get("/metrics")).text)
    gate.set()
    await turn
    assert (await service.post("/chat", {"message": "count a failure", "agent": "chat"})).status_code == 503
    stuck = asyncio.create_task(
        service.post("/chat", {"message": "count a reset", "agent": "chat", "session_id": "count"})
    )
    await provider.wait("count a reset")
    await service.post("/reset", {"session_id": "count"})
    assert (await stuck).status_code == 409
    assert (await service.get("/no/such/path")).status_code == 404
    page = await service.get("/metrics")
    after = _samples(page.text)
    _check_names(page.text)
    assert CANARY not in page.text
    assert "/no/such/path" not in page.text

    def moved(series: str, since: Samples = before) -> float:
        return after.get(series, 0) - since.get(series, 0)

    assert during["agent_active_runs"] >= 1
    assert during["agent_active_connections"] >= 1
    for series, by in {
        'agent_requests_total{agent="chat",status="succeeded"}': 1,
        'agent_requests_total{agent="chat",status="failed"}': 1,
        'agent_requests_total{agent="chat",status="cancelled"}': 1,
        'agent_errors_total{agent="chat",reason="providers_unavailable"}': 1,
        'agent_request_duration_seconds_count{agent="chat"}': 3,
        'agent_iterations_sum{agent="chat"}': 2,
        'agent_llm_calls_total{model="model-1",outcome="ok",provider="chat"}': 2,
        'agent_llm_calls_total{model="model-1",outcome="server_error",provider="chat"}': 3,
        'agent_llm_calls_total{model="model-1",outcome="cancelled",provider="chat"}': 1,
        'agent_llm_call_duration_seconds_count{model="model-1",provider="chat"}': 6,
        'agent_llm_time_to_first_token_seconds_count{model="model-1",provider="chat"}': 2,
        'agent_llm_tokens_total{model="model-1",provider="chat",type="output"}': 10,
        'agent_tool_calls_total{outcome="ok",tool="calculator"}': 1,
        'agent_tool_duration_seconds_count{tool="calculator"}': 1,
        'http_requests_total{method="POST",route="/chat",status="200"}': 1,
        'http_requests_total{method="POST",route="/chat",status="409"}': 1,
        'http_requests_total{method="POST",route="/chat",status="503"}': 1,
        'http_requests_total{method="GET",route="unmatched",status="404"}': 1,
        'http_request_duration_seconds_count{method="POST",route="/chat"}': 3,
        "agent_cancel_seconds_count": 1,
        "agent_overhead_seconds_count": 3,
        "agent_queue_wait_seconds_count": 3,
    }.items():
        assert moved(series) == by, series
    # Twenty of the two that answered, and an estimate for the one that was cancelled.
    assert moved('agent_llm_tokens_total{model="model-1",provider="chat",type="input"}') > 20
    assert after["agent_active_runs"] == 0
    assert after["agent_queue_depth"] == 0
    assert any(series.startswith('steadyhand_build_info{version="') for series in after)


def _check_names(page: str) -> None:
    helped = dict(re.findall(r"^# HELP (\S+) (.+)$", page, re.MULTILINE))
    typed = dict(re.findall(r"^# TYPE (\S+) (\S+)$", page, re.MULTILINE))
    assert typed.keys() >= CONTRACT.keys()
    assert helped.keys() == typed.keys()
    for name, kind in typed.items():
        assert re.fullmatch(r"[a-z][a-z0-9_]*", name), name
        assert (kind == "counter") == name.endswith("_total"), name
        assert not NOT_BASE.search(name), name
    labels: dict[str, set[str]] = {name: set() for name in typed}
    for name, given in re.findall(r"^([a-z0-9_]+)(?:\{(.*)\})? \S+$", page, re.MULTILINE):
        family = name if name in typed else re.sub(r"_(bucket|sum|count)$", "", name)
        labels[family] |= set(re.findall(r'(\w+)="', given)) - {"le"}
    for name, wanted in CONTRACT.items():
        assert labels[name] in (set(wanted), set()), name
