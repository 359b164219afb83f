"""The metrics page: every name of the contract that has a source, by the rules of `promtool check metrics`."""

from __future__ import annotations

import re

import msgspec
import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families

from app.domain.events import RunFinished, RunWaiting
from app.domain.observers import EndedRun, RunTimes
from app.domain.runs import RunFailure
from app.telemetry.metrics import DURATION_BUCKETS, Metrics
from app.telemetry.runs import RunTelemetry
from app.telemetry.setup import open_tracing
from tests.telemetry.fakes import CANARY, new_metrics, run_info

CONTRACT = {
    "http_requests_total": ("method", "route", "status"),
    "http_request_duration_seconds": ("method", "route"),
    "agent_requests_total": ("agent", "status"),
    "agent_errors_total": ("agent", "reason"),
    "agent_loops_contained_total": (),
    "agent_approvals_total": ("risk", "decision"),
    "agent_approval_age_seconds": ("decision",),
    "agent_approvals_pending": (),
    "agent_approvals_oldest_age_seconds": (),
    "agent_degraded_total": ("agent", "reason"),
    "agent_request_duration_seconds": ("agent",),
    "agent_iterations": ("agent",),
    "agent_active_connections": (),
    "agent_active_runs": (),
    "agent_llm_calls_total": ("provider", "model", "outcome"),
    "agent_llm_call_duration_seconds": ("provider", "model"),
    "agent_llm_time_to_first_token_seconds": ("provider", "model"),
    "agent_llm_tokens_total": ("provider", "model", "type"),
    "agent_llm_cost_usd_total": ("provider", "model"),
    "agent_llm_unpriced_calls_total": (),
    "agent_context_trimmed_tokens_total": ("agent",),
    "agent_llm_fallbacks_total": ("route", "from", "to", "reason"),
    "agent_shadow_runs_total": ("experiment", "outcome"),
    "agent_llm_tier_decisions_total": ("route", "tier", "by"),
    "agent_llm_breaker_state": ("provider", "model"),
    "agent_cache_requests_total": ("cache", "result"),
    "agent_guard_actions_total": ("guard", "action"),
    "agent_tool_calls_total": ("tool", "outcome"),
    "agent_injection_signals_total": ("tool", "signal"),
    "agent_tool_duration_seconds": ("tool",),
    "agent_rate_limited_total": ("scope",),
    "agent_queue_depth": (),
    "agent_queue_oldest_age_seconds": (),
    "agent_queue_wait_seconds": (),
    "agent_runs_recovered_total": (),
    "agent_fenced_writes_total": (),
    "agent_cancel_seconds": (),
    "agent_overhead_seconds": (),
    "steadyhand_build_info": ("version",),
}
NOT_BASE = re.compile(r"_(milliseconds|ms|minutes|hours|days|kilobytes|megabytes|percent)(_|$)")


def filled() -> tuple[Metrics, CollectorRegistry]:
    """A page on which every metric has a sample."""
    metrics, registry = new_metrics()
    for family in (
        metrics.http_requests, metrics.runs, metrics.run_errors, metrics.llm_calls, metrics.llm_tokens,
        metrics.llm_cost, metrics.llm_fallbacks, metrics.trimmed_tokens, metrics.degraded, metrics.tool_calls,
        metrics.tier_decisions, metrics.shadow_runs, metrics.cache_requests, metrics.approvals, metrics.injection_signals,
        metrics.rate_limited, metrics.guard_actions,
    ):  # fmt: skip
        family[tuple("x" for _ in family._metric._labelnames)].inc()
    for histogram in (
        metrics.http_duration, metrics.run_duration, metrics.iterations, metrics.llm_duration, metrics.llm_first_token,
        metrics.tool_duration, metrics.approval_age,
    ):  # fmt: skip
        histogram[tuple("x" for _ in histogram._metric._labelnames)].observe(1.0)
    metrics.llm_breaker_state["x", "x"].set(1)
    return metrics, registry


def test_the_page_has_the_names_and_labels_of_the_contract() -> None:
    metrics, _ = filled()
    body, content_type = metrics.render()
    assert content_type.startswith("text/plain; version=0.0.4")
    labels: dict[str, set[str]] = {}
    for family in text_string_to_metric_families(body.decode()):
        name = family.name + ("_total" if family.type == "counter" else "")
        labels[name] = {label for sample in family.samples for label in sample.labels} - {"le"}
    ours = {name: names for name, names in labels.items() if not name.startswith("process_")}
    assert ours == {name: set(names) for name, names in CONTRACT.items()}


def test_the_page_keeps_the_naming_rules() -> None:
    body = filled()[0].render()[0].decode()
    helped = dict(re.findall(r"^# HELP (\S+) (.+)$", body, re.MULTILINE))
    typed = dict(re.findall(r"^# TYPE (\S+) (\S+)$", body, re.MULTILINE))
    assert helped.keys() == typed.keys()
    for name, kind in typed.items():
        assert re.fullmatch(r"[a-z][a-z0-9_]*", name), name
        assert helped[name].strip(), name
        assert (kind == "counter") == name.endswith("_total"), name
        assert not NOT_BASE.search(name), name
        assert not name.endswith(("_count", "_sum", "_bucket", "_created")), name
        assert kind not in name.split("_"), name
    series = re.findall(r"^([a-z_]+)(?:\{.*\})? \S+$", body, re.MULTILINE)
    for name in series:
        assert name in typed or re.sub(r"_(bucket|sum|count)$", "", name) in typed, name


def test_duration_buckets_are_those_of_the_contract() -> None:
    assert {0.01, 5, 10, 30, 60, 120} <= set(DURATION_BUCKETS)


def run(status: str, reason: str, error: RunFailure | None = None) -> RunFinished:
    return RunFinished(
        status=status,  # type: ignore[arg-type]  # one of the words, by parametrisation
        stop_reason=reason,  # type: ignore[arg-type]  # one of the words, by parametrisation
        output=CANARY,
        usage=None,
        cost_usd=None,
        iterations=3,
        error=error,
    )


def test_a_run_is_counted_once_with_its_times() -> None:
    metrics, registry = new_metrics()
    observer = RunTelemetry(tracing=open_tracing({}, "0"), metrics=metrics)
    value = registry.get_sample_value
    with observer.running(run_info()) as watch:
        assert value("agent_active_runs") == 1
        watch.finished(run("succeeded", "completed"), None, RunTimes(total=3.0, effects=2.5))
    assert value("agent_active_runs") == 0
    assert value("agent_requests_total", {"agent": "assistant", "status": "succeeded"}) == 1
    assert value("agent_request_duration_seconds_sum", {"agent": "assistant"}) == 3.0
    assert value("agent_iterations_sum", {"agent": "assistant"}) == 3
    assert value("agent_overhead_seconds_sum") == 0.5
    assert value("agent_queue_wait_seconds_sum") == 0.25


def test_a_degraded_run_is_counted_and_said(caplog: pytest.LogCaptureFixture) -> None:
    metrics, registry = new_metrics()
    observer = RunTelemetry(tracing=open_tracing({}, "0"), metrics=metrics)
    end = msgspec.structs.replace(run("succeeded", "timeout"), degraded=True)
    with observer.running(run_info()) as watch:
        watch.finished(end, None, RunTimes(total=1.0, effects=1.0))
    observer.unstarted(EndedRun(run_id="r", session_id="s", agent="chat"), end)
    observer.unstarted(EndedRun(run_id="r", session_id="s", agent="chat"), run("succeeded", "completed"))
    for agent in ("assistant", "chat"):
        assert registry.get_sample_value("agent_degraded_total", {"agent": agent, "reason": "timeout"}) == 1
    warned = [record for record in caplog.records if record.message == "agent_degraded"]
    assert [(record.levelname, vars(record)["stop_reason"]) for record in warned] == [("WARNING", "timeout")] * 2


def test_a_contained_loop_is_counted_and_said(caplog: pytest.LogCaptureFixture) -> None:
    metrics, registry = new_metrics()
    observer = RunTelemetry(tracing=open_tracing({}, "0"), metrics=metrics)
    for reason in ("loop_detected", "completed"):
        with observer.running(run_info()) as watch:
            watch.finished(run("succeeded", reason), None, RunTimes(total=1.0, effects=1.0))
    assert registry.get_sample_value("agent_loops_contained_total") == 1
    assert [record.levelname for record in caplog.records if record.message == "loop_contained"] == ["WARNING"]


def test_what_people_decide_is_counted_with_its_age() -> None:
    metrics, registry = new_metrics()
    observer = RunTelemetry(tracing=open_tracing({}, "0"), metrics=metrics)
    observer.decided("high", "approved", 12.0)
    observer.decided("high", "approved", 3.0)
    observer.decided("critical", "expired", 86_400.0)
    observer.approvals(3, 61.5)
    value = registry.get_sample_value
    assert value("agent_approvals_total", {"risk": "high", "decision": "approved"}) == 2
    assert value("agent_approvals_total", {"risk": "critical", "decision": "expired"}) == 1
    assert value("agent_approval_age_seconds_sum", {"decision": "approved"}) == 15.0
    assert value("agent_approval_age_seconds_bucket", {"decision": "expired", "le": "86400.0"}) == 1
    assert (value("agent_approvals_pending"), value("agent_approvals_oldest_age_seconds")) == (3, 61.5)


@pytest.mark.parametrize("faulty", [False, True])
def test_a_failed_run_is_an_error_by_its_code(faulty: bool) -> None:
    metrics, registry = new_metrics()
    observer = RunTelemetry(tracing=open_tracing({}, "0"), metrics=metrics)
    with observer.running(run_info()) as watch:
        if faulty:
            watch.failed(ZeroDivisionError())
        watch.finished(run("failed", "error", RunFailure("internal", "")), None, RunTimes(total=1.0, effects=2.0))
    observer.unstarted(EndedRun(run_id="r", session_id="s", agent="chat"), run("failed", "timeout"))
    observer.unstarted(EndedRun(run_id="r", session_id="s", agent="chat"), run("cancelled", "cancelled"))
    value = registry.get_sample_value
    assert value("agent_errors_total", {"agent": "assistant", "reason": "internal"}) == 1
    assert value("agent_requests_total", {"agent": "assistant", "status": "failed"}) == 1
    assert value("agent_overhead_seconds_sum") == 0
    assert value("agent_errors_total", {"agent": "chat", "reason": "timeout"}) == 1
    assert value("agent_requests_total", {"agent": "chat", "status": "cancelled"}) == 1
    assert value("agent_errors_total", {"agent": "chat", "reason": "cancelled"}) is None
    assert value("agent_request_duration_seconds_count", {"agent": "chat"}) is None


def test_a_run_that_waits_or_goes_on_elsewhere_has_not_ended() -> None:
    metrics, registry = new_metrics()
    observer = RunTelemetry(tracing=open_tracing({}, "0"), metrics=metrics)
    with observer.running(run_info()) as watch:
        watch.waiting(RunWaiting(stop_reason="approval_required"), RunTimes(total=3.0, effects=2.0))
    with observer.running(run_info(attempt=2)) as watch:
        watch.left()
    observer.recovered()
    value = registry.get_sample_value
    assert value("agent_requests_total", {"agent": "assistant", "status": "succeeded"}) is None
    assert (value("agent_overhead_seconds_sum"), value("agent_active_runs")) == (1.0, 0)
    assert value("agent_runs_recovered_total") == 1


def test_the_time_of_a_run_is_that_of_all_its_attempts() -> None:
    metrics, registry = new_metrics()
    observer = RunTelemetry(tracing=open_tracing({}, "0"), metrics=metrics)
    with observer.running(run_info(attempt=2)) as watch:
        end = msgspec.structs.replace(run("succeeded", "completed"), duration_ms=5_000.0)
        watch.finished(end, None, RunTimes(total=3.0, effects=2.5))
    assert registry.get_sample_value("agent_request_duration_seconds_sum", {"agent": "assistant"}) == 5.0


def test_a_broken_execution_leaves_no_active_run() -> None:
    metrics, registry = new_metrics()
    observer = RunTelemetry(tracing=open_tracing({}, "0"), metrics=metrics)
    with pytest.raises(ZeroDivisionError), observer.running(run_info()):
        raise ZeroDivisionError
    assert registry.get_sample_value("agent_active_runs") == 0


def test_what_the_worker_says_of_queue_and_stops() -> None:
    metrics, registry = new_metrics()
    observer = RunTelemetry(tracing=open_tracing({}, "0"), metrics=metrics)
    observer.queue(3, 12.5)
    observer.fenced()
    observer.stopped(0.4)
    value = registry.get_sample_value
    assert (value("agent_queue_depth"), value("agent_queue_oldest_age_seconds")) == (3, 12.5)
    assert (value("agent_fenced_writes_total"), value("agent_cancel_seconds_sum")) == (1, 0.4)
    assert observer.traceparent() is None
