"""Watches runs: the `invoke_agent` span, the run metrics, the named log events, and the ids on every log line inside."""

from __future__ import annotations

import logging
from contextlib import AbstractContextManager
from contextvars import Token
from types import TracebackType

import msgspec
from opentelemetry import context as otel
from opentelemetry.context import Context
from opentelemetry.trace import Link, SpanContext, StatusCode, get_current_span, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from opentelemetry.util.types import AttributeValue

from app.domain.approvals import Decision
from app.domain.events import RunFinished, RunWaiting
from app.domain.observers import EndedRun, RunInfo, RunTimes
from app.domain.tiers import TierDecision
from app.domain.tools import Risk
from app.telemetry import context, names
from app.telemetry.metrics import Metrics
from app.telemetry.setup import Tracing
from app.telemetry.traced import tier_attributes, usage_attributes

log = logging.getLogger(__name__)

SLOW = 10.0
"""Seconds of execution from which a run is logged as slow."""
FAULT = "internal"
_W3C = TraceContextTextMapPropagator()


class RunTelemetry:
    """The `RunObserver` of a process."""

    def __init__(self, *, tracing: Tracing, metrics: Metrics) -> None:
        self._tracing = tracing
        self._metrics = metrics

    def traceparent(self) -> str | None:
        """The current trace context as a W3C header; None where nothing is traced."""
        span = get_current_span().get_span_context()
        return traceparent(span) if span.is_valid else None

    def running(self, info: RunInfo) -> AbstractContextManager[_Watch]:
        """To be entered and left in the task that executes the run."""
        return _Watch(info, self._tracing, self._metrics)

    def unstarted(self, run: EndedRun, event: RunFinished) -> None:
        """Counted like any other run; it has no times."""
        _count_end(self._metrics, run.agent, event)
        _log_end(run.agent, event, {"run_id": run.run_id, "session_id": run.session_id})

    def tiered(self, decision: TierDecision) -> None:
        """Counted, and on the run's span."""
        self._metrics.tier_decisions[decision.route, decision.tier, decision.by].inc()
        get_current_span().set_attributes(tier_attributes(decision))

    def shadowed(self, experiment: str, outcome: str) -> None:
        self._metrics.shadow_runs[experiment, outcome].inc()

    def guarded(self, guard: str, action: str) -> None:
        """Counted, and on the span of the run, or of the request where there is none yet."""
        self._metrics.guard_actions[guard, action].inc()
        get_current_span().set_attribute(f"{names.GUARD}.{guard}", action)

    def denied(self, tool: str) -> None:
        self._metrics.tool_calls[tool, "denied"].inc()

    def recovered(self) -> None:
        self._metrics.recovered.inc()

    def fenced(self) -> None:
        self._metrics.fenced_writes.inc()

    def stopped(self, seconds: float) -> None:
        self._metrics.cancel.observe(seconds)

    def decided(self, risk: Risk, decision: Decision, age: float) -> None:
        self._metrics.approvals[risk, decision].inc()
        self._metrics.approval_age[(decision,)].observe(age)
        log.info("approval_decided", extra={"risk": risk, "decision": decision, "age": round(age, 3)})

    def approvals(self, waiting: int, oldest_age: float) -> None:
        self._metrics.approvals_pending.set(waiting)
        self._metrics.approvals_oldest_age.set(oldest_age)

    def queue(self, depth: int, oldest_age: float) -> None:
        self._metrics.queue_depth.set(depth)
        self._metrics.queue_oldest_age.set(oldest_age)


class _Watch:
    """One execution: the context manager and the `RunWatch` in it."""

    def __init__(self, info: RunInfo, tracing: Tracing, metrics: Metrics) -> None:
        self._info = info
        self._metrics = metrics
        self._fault = False
        self._tracing = tracing
        self._tokens: tuple[Token[RunInfo | None], Token[Context]]

    def __enter__(self) -> _Watch:
        info = self._info
        parent, links = _origin(info)
        self._span = self._tracing.tracer.start_span(
            f"{names.SPAN_AGENT} {info.agent}", parent, attributes=_described(info), links=links
        )
        self._tokens = (context.run.set(info), otel.attach(set_span_in_context(self._span, parent)))
        self._metrics.active_runs.inc()
        if info.shadow_of is None:
            self._metrics.queue_wait.observe(info.queued)
        log.info(
            "agent_start",
            extra={
                "agent": info.agent,
                "agent_version": info.agent_version,
                "attempt": info.attempt,
                "queue_ms": _ms(info.queued),
            },
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            self._span.set_attribute(names.ERROR_TYPE, kind.__qualname__)
            self._span.set_status(StatusCode.ERROR, kind.__qualname__)
        self._metrics.active_runs.dec()
        self._span.end()
        run, trace_context = self._tokens
        otel.detach(trace_context)
        context.run.reset(run)

    def finished(self, event: RunFinished, response_model: str | None, times: RunTimes) -> None:
        agent, metrics = self._info.agent, self._metrics
        if self._info.shadow_of is not None:  # nobody asked for it
            for experiment in self._info.experiments:
                metrics.shadow_runs[experiment, event.status].inc()
        else:
            _count_end(metrics, agent, event)
            metrics.run_duration[(agent,)].observe(max(times.total, event.duration_ms / 1000))  # earlier owners' too
            metrics.iterations[(agent,)].observe(event.iterations)
        metrics.overhead.observe(max(0.0, times.total - times.effects))
        if self._span.is_recording():
            self._span.set_attributes(_ended(event, response_model))
            if event.status == "failed":
                self._span.set_status(StatusCode.ERROR, _reason(event))
        fields: dict[str, object] = {"duration_ms": _ms(times.total), "iterations": event.iterations}
        if not self._fault:
            _log_end(agent, event, fields)
        if event.stop_reason == "max_iterations":
            log.warning("max_iterations_reached", extra={"agent": agent, "iterations": event.iterations})
        elif event.stop_reason == "loop_detected":
            log.warning("loop_contained", extra={"agent": agent, "iterations": event.iterations})
        if times.total > SLOW:
            log.warning("slow_response", extra={"agent": agent, "effects_ms": _ms(times.effects), **fields})

    def waiting(self, event: RunWaiting, times: RunTimes) -> None:
        self._metrics.overhead.observe(max(0.0, times.total - times.effects))
        self._span.set_attributes({names.STATUS: "waiting", names.STOP_REASON: event.stop_reason})
        log.info("agent_waiting", extra={"agent": self._info.agent, "stop_reason": event.stop_reason})

    def left(self) -> None:
        self._span.set_attribute(names.STATUS, "queued")
        log.info("agent_handed_on", extra={"agent": self._info.agent})

    def failed(self, error: BaseException) -> None:
        self._fault = True
        log.error("agent_failed", exc_info=error, extra={"agent": self._info.agent, "reason": FAULT})
        self._span.set_attribute(names.ERROR_TYPE, type(error).__qualname__)
        self._span.set_status(StatusCode.ERROR, type(error).__qualname__)


def traceparent(span: SpanContext) -> str:
    """The W3C header of a span."""
    return f"00-{span.trace_id:032x}-{span.span_id:016x}-{span.trace_flags:02x}"


def _origin(info: RunInfo) -> tuple[Context, list[Link]]:
    """Where the run's span hangs: under the request that made it; from the second attempt on in a trace of its own, linked to it.

    The request's own span is taken where this task still has it. Any other current span belongs to whoever happened to
    start this task and is no parent.
    """
    if info.traceparent is None:
        return Context(), []
    current = get_current_span().get_span_context()
    if info.attempt == 1 and current.is_valid and traceparent(current) == info.traceparent:
        return otel.get_current(), []
    origin = _W3C.extract({"traceparent": info.traceparent}, Context())
    if info.attempt == 1:
        return origin, []
    span = get_current_span(origin).get_span_context()
    return Context(), [Link(span)] if span.is_valid else []


def _described(info: RunInfo) -> dict[str, AttributeValue]:
    attributes: dict[str, AttributeValue] = {
        names.OPERATION: names.SPAN_AGENT,
        names.AGENT_NAME: info.agent,
        names.AGENT_VERSION: info.agent_version,
        names.CONVERSATION_ID: info.session_id,
        names.RUN_ID: info.run_id,
        names.SESSION_ID: info.session_id,
        names.ATTEMPT: info.attempt,
        names.ROUTE: info.route,
    }
    attributes |= {f"{names.EXPERIMENT}.{name}": variant for name, variant in info.experiments.items()}
    if info.shadow_of is not None:
        attributes[names.SHADOW_OF] = info.shadow_of
    return attributes


def _ended(event: RunFinished, response_model: str | None) -> dict[str, AttributeValue]:
    attributes: dict[str, AttributeValue] = {
        names.STATUS: event.status,
        names.STOP_REASON: event.stop_reason,
        names.ITERATIONS: event.iterations,
    }
    if response_model:
        attributes[names.RESPONSE_MODEL] = response_model
    if event.tier is not msgspec.UNSET:
        attributes[names.TIER] = event.tier
    if event.cached:
        attributes[names.CACHED] = True
    if event.usage is not None:
        attributes.update(usage_attributes(event.usage))
    if event.cost_usd is not None:
        attributes[names.COST_USD] = event.cost_usd
    if event.status in ("failed", "cancelled"):
        attributes[names.ERROR_TYPE] = _reason(event)
    return attributes


def _count_end(metrics: Metrics, agent: str, event: RunFinished) -> None:
    metrics.runs[agent, event.status].inc()
    if event.status == "failed":
        metrics.run_errors[agent, _reason(event)].inc()
    if event.stop_reason == "loop_detected":
        metrics.loops_contained.inc()
    if event.degraded:
        metrics.degraded[agent, event.stop_reason].inc()


def _log_end(agent: str, event: RunFinished, fields: dict[str, object]) -> None:
    fields = {"agent": agent, "status": event.status, "stop_reason": event.stop_reason, **fields}
    if event.status == "succeeded":
        log.info("agent_success", extra=fields)
        if event.degraded:
            log.warning("agent_degraded", extra=fields)
    elif event.status == "cancelled":
        log.info("agent_cancelled", extra=fields)
    else:
        log.error("agent_failed", extra={**fields, "reason": _reason(event)})


def _reason(event: RunFinished) -> str:
    return event.error.code if event.error is not None else event.stop_reason


def _ms(seconds: float) -> float:
    return round(seconds * 1000, 3)
