"""What was decided for a run, on its spans and on the metrics page: its tier, its variants, parameters left out, shadows."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing

import msgspec

from app.domain.events import RunFinished
from app.domain.models import Attempt, ModelChunk, ModelRequest
from app.domain.observers import RunTimes
from app.domain.tiers import TierDecision
from app.telemetry.runs import RunTelemetry
from app.telemetry.setup import open_tracing
from app.telemetry.traced import TracedTarget
from tests.llm.wire import attempt
from tests.telemetry.fakes import COMPLETED, REQUEST, FakeTarget, new_metrics, run_info
from tests.telemetry.receiver import otlp_receiver
from tests.telemetry.turns import environment

MID = TierDecision(route="auto", tier="mid", by="raised", score=0.125, reasons=("tool_errors",))
ENDED = RunFinished(
    status="succeeded", stop_reason="completed", output="", usage=None, cost_usd=None, iterations=1, tier="mid"
)
TIMES = RunTimes(total=1.0, effects=0.5)


class Refused(FakeTarget):
    """A target that leaves out a parameter."""

    async def stream(self, request: ModelRequest, attempt: Attempt) -> AsyncGenerator[ModelChunk, None]:
        attempt.dropped_parameters = ("reasoning_effort", "temperature")
        async with aclosing(super().stream(request, attempt)) as chunks:
            async for chunk in chunks:
                yield chunk


async def test_decisions_are_on_the_spans() -> None:
    async with otlp_receiver() as collector:
        tracing = open_tracing(environment(collector, "http/protobuf"), "0.1.0")
        metrics, registry = new_metrics()
        observer = RunTelemetry(tracing=tracing, metrics=metrics)
        info = msgspec.structs.replace(run_info(), experiments={"tone": "terse"})
        request = msgspec.structs.replace(REQUEST, tier=MID)
        with observer.running(info) as watch:
            observer.tiered(MID)
            target = TracedTarget(target=Refused(), tracing=tracing)
            assert [chunk async for chunk in target.stream(request, attempt())][-1] == COMPLETED
            watch.finished(ENDED, None, TIMES)
        await tracing.aclose()
        await collector.wait(lambda spans: len(spans) == 2)
        run, chat = collector.named("invoke_agent assistant").attributes, collector.named("chat m-1").attributes
        decided = {
            "steadyhand.tier": "mid",
            "steadyhand.tier.route": "auto",
            "steadyhand.tier.by": "raised",
            "steadyhand.tier.score": 0.125,
            "steadyhand.tier.reasons": ["tool_errors"],
        }
        assert decided.items() <= run.items()
        assert decided.items() <= chat.items()
        assert run["steadyhand.experiment.tone"] == "terse"
        assert "steadyhand.shadow_of" not in run
        assert chat["steadyhand.dropped_parameters"] == ["reasoning_effort", "temperature"]
        labels = {"route": "auto", "tier": "mid", "by": "raised"}
        assert registry.get_sample_value("agent_llm_tier_decisions_total", labels) == 1
        assert registry.get_sample_value("agent_requests_total", {"agent": "assistant", "status": "succeeded"}) == 1


async def test_what_a_guard_did_is_counted_and_on_the_runs_span() -> None:
    async with otlp_receiver() as collector:
        tracing = open_tracing(environment(collector, "http/protobuf"), "0.1.0")
        metrics, registry = new_metrics()
        observer = RunTelemetry(tracing=tracing, metrics=metrics)
        with observer.running(run_info()) as watch:
            observer.guarded("secret", "removed")
            observer.guarded("secret", "removed")
            watch.finished(ENDED, None, TIMES)
        await tracing.aclose()
        await collector.wait(lambda spans: len(spans) == 1)
        assert collector.named("invoke_agent assistant").attributes["steadyhand.guard.secret"] == "removed"
        labels = {"guard": "secret", "action": "removed"}
        assert registry.get_sample_value("agent_guard_actions_total", labels) == 2


async def test_a_shadow_is_counted_apart() -> None:
    async with otlp_receiver() as collector:
        tracing = open_tracing(environment(collector, "http/protobuf"), "0.1.0")
        metrics, registry = new_metrics()
        observer = RunTelemetry(tracing=tracing, metrics=metrics)
        info = msgspec.structs.replace(run_info(), experiments={"quiet": "shadow"}, shadow_of="run-0")
        with observer.running(info) as watch:
            watch.finished(ENDED, None, TIMES)
        observer.shadowed("quiet", "dropped")
        await tracing.aclose()
        await collector.wait(lambda spans: len(spans) == 1)
        assert collector.named("invoke_agent assistant").attributes["steadyhand.shadow_of"] == "run-0"

        def shadows(outcome: str) -> float | None:
            return registry.get_sample_value("agent_shadow_runs_total", {"experiment": "quiet", "outcome": outcome})

        assert (shadows("succeeded"), shadows("dropped")) == (1, 1)
        assert registry.get_sample_value("agent_requests_total", {"agent": "assistant", "status": "succeeded"}) is None
        assert registry.get_sample_value("agent_request_duration_seconds_count", {"agent": "assistant"}) is None
        assert registry.get_sample_value("agent_queue_wait_seconds_count") == 0
