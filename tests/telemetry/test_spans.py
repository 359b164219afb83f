"""Spans of one tool turn over real OTLP: names, kinds, parents, attributes; and what of it is content."""

from __future__ import annotations

import asyncio
import time
from contextlib import aclosing

import pytest

from app.domain.errors import ProviderError
from app.domain.messages import ToolCall
from app.domain.models import Attempt, Recorder, TextDelta
from app.telemetry.http import HttpTelemetry, Receive, Scope, Send
from app.telemetry.runs import RunTelemetry
from app.telemetry.setup import open_tracing
from app.telemetry.traced import TracedProvider, TracedTarget, TracedToolbox
from tests.telemetry.fakes import (
    CANARY,
    REQUEST,
    SPEC,
    FakeRouter,
    FakeTarget,
    FakeToolbox,
    new_metrics,
    run_info,
    tool_context,
)
from tests.telemetry.receiver import otlp_receiver
from tests.telemetry.turns import CALL, CALLER, environment, read, tool_turn


@pytest.mark.parametrize("protocol", ["grpc", "http/protobuf"])
async def test_a_tool_turn_is_one_trace(protocol: str) -> None:
    async with otlp_receiver() as collector:
        tracing = open_tracing(
            environment(
                collector,
                protocol,
                OTEL_EXPORTER_OTLP_HEADERS="x-team=blue",
                OTEL_RESOURCE_ATTRIBUTES="deployment.environment.name=test",
            ),
            "0.1.0",
        )
        await tool_turn(tracing, new_metrics()[0])
        await tracing.aclose()
        await collector.wait(lambda spans: len(spans) == 5)

        server = collector.named("POST /chat")
        agent = collector.named("invoke_agent assistant")
        failed = collector.named("chat m-0")
        chat = collector.named("chat m-1")
        tool = collector.named("execute_tool calculator")
        assert {span.trace_id for span in collector.spans} == {CALLER.split("-")[1]}
        assert server.parent_id == CALLER.split("-")[2]
        assert agent.parent_id == server.span_id
        assert failed.parent_id == chat.parent_id == tool.parent_id == agent.span_id
        assert [s.kind for s in (server, agent, failed, chat, tool)] == [
            "SERVER", "INTERNAL", "CLIENT", "CLIENT", "INTERNAL"
        ]  # fmt: skip
        assert (
            agent.start <= failed.start <= failed.end <= chat.start <= chat.end <= tool.start <= tool.end <= agent.end
        )

        assert server.resource["service.name"] == "steadyhand"
        assert server.resource["service.version"] == "0.1.0"
        assert server.resource["deployment.environment.name"] == "test"
        assert collector.headers[0]["x-team"] == "blue"

        ours = {
            "gen_ai.conversation.id": "session-1",
            "steadyhand.run.id": "run-1",
            "steadyhand.session.id": "session-1",
        }
        totals = {
            "gen_ai.usage.input_tokens": 100,
            "gen_ai.usage.cache_read.input_tokens": 60,
            "gen_ai.usage.cache_write.input_tokens": 10,
            "gen_ai.usage.output_tokens": 20,
            "gen_ai.usage.reasoning.output_tokens": 5,
        }
        assert agent.attributes == {
            **ours,
            **totals,
            "gen_ai.operation.name": "invoke_agent",
            "gen_ai.agent.name": "assistant",
            "gen_ai.agent.version": "abc123",
            "gen_ai.response.model": "m-1-2026",
            "steadyhand.attempt": 1,
            "steadyhand.route": "default",
            "steadyhand.status": "succeeded",
            "steadyhand.stop_reason": "completed",
            "steadyhand.iterations": 2,
            "steadyhand.cost_usd": 0.00125,
        }
        asked = {
            **ours,
            "gen_ai.operation.name": "chat",
            "gen_ai.agent.name": "assistant",
            "gen_ai.request.stream": True,
            "gen_ai.request.temperature": 0.5,
            "gen_ai.request.max_tokens": 64,
            "gen_ai.request.reasoning.level": "low",
            "steadyhand.route": "default",
            "steadyhand.context.trimmed_tokens": 70,
        }
        answered = dict(chat.attributes)
        assert 0 <= answered.pop("gen_ai.response.time_to_first_chunk") < 5
        assert answered == {
            **asked,
            **totals,
            "gen_ai.provider.name": "openai",
            "steadyhand.provider": "openai",
            "gen_ai.request.model": "m-1",
            "gen_ai.response.model": "m-1-2026",
            "gen_ai.response.id": "resp-1",
            "gen_ai.response.finish_reasons": ["tool_calls"],
            "steadyhand.attempt": 2,
            "steadyhand.cost_usd": 0.00125,
        }
        refused = dict(failed.attributes)
        assert 0 <= refused.pop("gen_ai.response.time_to_first_chunk") < 5
        assert refused == {
            **asked,
            "gen_ai.provider.name": "openai",
            "steadyhand.provider": "local",
            "gen_ai.request.model": "m-0",
            "steadyhand.attempt": 1,
            "error.type": "overloaded",
        }
        assert (failed.status, failed.status_message) == ("ERROR", "busy")
        assert tool.attributes == {
            **ours,
            "gen_ai.operation.name": "execute_tool",
            "gen_ai.tool.name": "calculator",
            "gen_ai.tool.type": "function",
            "gen_ai.tool.call.id": "c1",
            "gen_ai.agent.name": "assistant",
            "steadyhand.tool.status": "ok",
        }
        assert CANARY not in repr(collector.spans)


@pytest.mark.parametrize("capture", ["SPAN_ONLY", "span_and_event", "true"])
async def test_content_is_there_on_request(capture: str) -> None:
    async with otlp_receiver() as collector:
        capturing = {"OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT": capture}
        tracing = open_tracing(environment(collector, "http/protobuf", **capturing), "0.1.0")
        await tool_turn(tracing, new_metrics()[0])
        await tracing.aclose()
        await collector.wait(lambda spans: len(spans) == 5)
        chat, tool = collector.named("chat m-1").attributes, collector.named("execute_tool calculator").attributes
        for name in ("input.messages", "output.messages", "system_instructions"):
            assert CANARY in chat[f"gen_ai.{name}"]
        assert '"name":"calculator"' in chat["gen_ai.tool.definitions"]
        assert '"tool_call_response"' in chat["gen_ai.input.messages"]
        assert tool["gen_ai.tool.call.arguments"] == CALL.arguments
        assert tool["gen_ai.tool.call.result"] == f"result {CANARY}"


async def test_a_later_attempt_is_a_trace_of_its_own_linked_to_the_request() -> None:
    async with otlp_receiver() as collector:
        tracing = open_tracing(environment(collector, "http/protobuf"), "0.1.0")
        observer = RunTelemetry(tracing=tracing, metrics=new_metrics()[0])
        with observer.running(run_info(CALLER, attempt=2)):
            pass
        await tracing.aclose()
        await collector.wait(lambda spans: len(spans) == 1)
        span = collector.named("invoke_agent assistant")
        assert span.parent_id is None
        assert span.trace_id != CALLER.split("-")[1]
        assert span.links == ((CALLER.split("-")[1], CALLER.split("-")[2]),)


async def test_a_run_of_the_queue_belongs_to_its_own_request_whoever_starts_it() -> None:
    async with otlp_receiver() as collector:
        tracing = open_tracing(environment(collector, "http/protobuf"), "0.1.0")
        observer = RunTelemetry(tracing=tracing, metrics=new_metrics()[0])
        with observer.running(run_info(None)):  # somebody else's span is current
            for stored in (CALLER, None):
                with observer.running(run_info(stored)):
                    pass
        await tracing.aclose()
        await collector.wait(lambda spans: len(spans) == 3)
        assert [span.parent_id for span in collector.spans] == [CALLER.split("-")[2], None, None]
        assert len({span.trace_id for span in collector.spans}) == 3


async def test_how_an_attempt_ended_is_on_its_span() -> None:
    async with otlp_receiver() as collector:
        tracing = open_tracing(environment(collector, "http/protobuf"), "0.1.0")
        metrics, registry = new_metrics()

        def provider(target: FakeTarget, patience: float | None = None) -> TracedProvider:
            router = FakeRouter(TracedTarget(target=target, tracing=tracing), patience=patience)
            return TracedProvider(provider=router, metrics=metrics)

        with pytest.raises(ProviderError):
            await read(provider(FakeTarget(model="slow", hangs=True), patience=0.01))
        with pytest.raises(ZeroDivisionError):
            await read(provider(FakeTarget(model="broken", error=ZeroDivisionError(CANARY))))
        left = FakeTarget(model="left", hangs=True)
        async with aclosing(provider(left).stream(REQUEST, Recorder())) as chunks:
            assert await anext(chunks) == TextDelta(f"answer {CANARY}")
        assert left.closed
        cancelled = FakeTarget(model="cancelled", hangs=True)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await read(provider(cancelled))
        assert cancelled.closed
        await tracing.aclose()
        await collector.wait(lambda spans: len(spans) == 4)
        ends = {s.name: (s.attributes["error.type"], s.status) for s in collector.spans}
        assert ends == {
            "chat slow": ("idle_timeout", "ERROR"),
            "chat broken": ("ZeroDivisionError", "ERROR"),
            "chat left": ("cancelled", "UNSET"),
            "chat cancelled": ("cancelled", "UNSET"),
        }
        assert CANARY not in repr(collector.spans)
        calls = {
            (s.labels["model"], s.labels["outcome"]): s.value
            for metric in registry.collect()
            for s in metric.samples
            if s.name == "agent_llm_calls_total"
        }
        assert calls[("slow", "idle_timeout")] == calls[("left", "cancelled")] == calls[("cancelled", "cancelled")] == 1


async def test_what_the_detector_saw_is_told_without_the_words() -> None:
    async with otlp_receiver() as collector:
        tracing = open_tracing(environment(collector, "http/protobuf"), "0.1.0")
        metrics, registry = new_metrics()
        seen = FakeToolbox(signals=("hidden", "override"))
        for inner in (seen, seen, FakeToolbox()):
            await TracedToolbox(toolbox=inner, tracing=tracing, metrics=metrics).run(SPEC, CALL, tool_context())
        await tracing.aclose()
        await collector.wait(lambda spans: len(spans) == 3)
        told = [span.attributes.get("steadyhand.tool.injection_signals") for span in collector.spans]
        assert [None if words is None else list(words) for words in told] == [["hidden", "override"]] * 2 + [None]
        assert CANARY not in repr(collector.spans)
        labels = {"tool": "calculator", "signal": "override"}
        assert registry.get_sample_value("agent_injection_signals_total", labels) == 2


async def test_how_a_tool_ended_is_on_its_span() -> None:
    async with otlp_receiver() as collector:
        tracing = open_tracing(environment(collector, "http/protobuf"), "0.1.0")
        metrics, registry = new_metrics()

        def toolbox(inner: FakeToolbox) -> TracedToolbox:
            return TracedToolbox(toolbox=inner, tracing=tracing, metrics=metrics)

        await toolbox(FakeToolbox("timeout")).run(SPEC, CALL, tool_context())
        await toolbox(FakeToolbox("error")).run(None, ToolCall("c1", f"made-up {CANARY}", "{}"), tool_context())
        with pytest.raises(asyncio.CancelledError):
            await toolbox(FakeToolbox(error=asyncio.CancelledError())).run(SPEC, CALL, tool_context())
        await tracing.aclose()
        await collector.wait(lambda spans: len(spans) == 3)
        ends = [(s.name, s.attributes["error.type"], s.status) for s in collector.spans]
        assert ends == [
            ("execute_tool calculator", "timeout", "ERROR"),
            ("execute_tool unknown", "error", "ERROR"),
            ("execute_tool calculator", "cancelled", "UNSET"),
        ]
        assert CANARY not in repr(collector.spans)
        assert CANARY.encode() not in metrics.render()[0]
        value = registry.get_sample_value
        assert value("agent_tool_calls_total", {"tool": "unknown", "outcome": "error"}) == 1
        assert value("agent_tool_calls_total", {"tool": "calculator", "outcome": "timeout"}) == 1
        assert value("agent_tool_calls_total", {"tool": "calculator", "outcome": "cancelled"}) == 1
        assert value("agent_tool_duration_seconds_count", {"tool": "calculator"}) == 2


async def test_without_tracing_the_target_is_not_wrapped_and_a_callers_trace_passes_through() -> None:
    tracing = open_tracing({}, "0.1.0")
    metrics, registry = new_metrics()
    await tool_turn(tracing, metrics)
    inner = FakeTarget()
    attempt = Attempt(number=1, provider="openai", model="m-1", started=time.monotonic())
    stream = TracedTarget(target=inner, tracing=tracing).stream(REQUEST, attempt)
    assert stream.ag_code is FakeTarget.stream.__code__  # type: ignore[attr-defined]  # the very generator of the target
    await stream.aclose()

    seen: list[str | None] = []
    observer = RunTelemetry(tracing=tracing, metrics=metrics)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        with observer.running(run_info(observer.traceparent())):
            seen.append(observer.traceparent())

    async def nothing(*_: object) -> dict[str, object]:
        return {}

    http = HttpTelemetry(app=app, tracing=tracing, metrics=metrics)
    for headers in ([(b"traceparent", CALLER.encode())], []):
        await http({"type": "http", "method": "GET", "path": "/", "headers": headers}, nothing, nothing)  # type: ignore[arg-type]  # sends nothing
    assert seen == [CALLER, None]

    value = registry.get_sample_value
    fallback = {"route": "default", "from": "local/m-0", "to": "openai/m-1", "reason": "overloaded"}
    assert value("agent_llm_fallbacks_total", fallback) == 1
    model = {"provider": "openai", "model": "m-1"}
    assert value("agent_llm_calls_total", {**model, "outcome": "ok"}) == 1
    assert value("agent_llm_calls_total", {"provider": "local", "model": "m-0", "outcome": "overloaded"}) == 1
    assert value("agent_llm_time_to_first_token_seconds_count", model) == 1
    tokens = {
        kind: value("agent_llm_tokens_total", {**model, "type": kind})
        for kind in ("input", "cache_read", "cache_write", "output", "reasoning")
    }
    assert value("agent_context_trimmed_tokens_total", {"agent": "assistant"}) == 70
    assert tokens == {"input": 100, "cache_read": 60, "cache_write": 10, "output": 20, "reasoning": 5}
    assert (value("agent_llm_cost_usd_total", model), value("agent_llm_unpriced_calls_total")) == (0.00125, 0)
    await read(TracedProvider(provider=FakeRouter(FakeTarget()), metrics=metrics))
    assert (value("agent_llm_cost_usd_total", model), value("agent_llm_unpriced_calls_total")) == (0.00125, 1)
    assert CANARY.encode() not in metrics.render()[0]
