"""The Prometheus metrics, one typed attribute each, on a registry that is passed in."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Generic, TypeVar

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.metrics import MetricWrapperBase
from prometheus_client.metrics_core import Metric

DURATION_BUCKETS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)
OVERHEAD_BUCKETS = (0.001, 0.0025, 0.005, *DURATION_BUCKETS)
PATIENCE_BUCKETS = (1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3600.0, 14_400.0, 43_200.0, 86_400.0)
ITERATION_BUCKETS = (1, 2, 3, 4, 5, 7, 10, 15, 20, 30, 50)

M = TypeVar("M", bound=MetricWrapperBase)


class Family(dict[tuple[str, ...], M], Generic[M]):
    """The labelled children of one metric, made when first asked for: `family["chat", "succeeded"].inc()`.

    Label values must come from a bounded set: children are kept for good.
    """

    def __init__(self, metric: M) -> None:
        super().__init__()
        self._metric: M = metric

    def __missing__(self, labels: tuple[str, ...]) -> M:
        child = self[labels] = self._metric.labels(*labels)
        return child


class Metrics:
    """Every metric of this process. One instance a registry; updates are thread-safe and take about a microsecond."""

    def __init__(self, *, registry: CollectorRegistry, version: str) -> None:
        self._registry = registry

        def counter(name: str, text: str, labels: Sequence[str]) -> Family[Counter]:
            return Family(Counter(name, text, labels, registry=registry))

        def histogram(
            name: str, text: str, labels: Sequence[str], buckets: Sequence[float] = DURATION_BUCKETS
        ) -> Family[Histogram]:
            return Family(Histogram(name, text, labels, buckets=buckets, registry=registry))

        self.http_requests = counter("http_requests_total", "HTTP requests answered.", ("method", "route", "status"))
        self.http_duration = histogram(
            "http_request_duration_seconds", "Time from a request to the end of its answer.", ("method", "route")
        )
        self.active_connections = Gauge(
            "agent_active_connections",
            "HTTP requests and sockets being served, health checks apart.",
            registry=registry,
        )
        self.runs = counter("agent_requests_total", "Runs that reached their end.", ("agent", "status"))
        self.run_errors = counter("agent_errors_total", "Runs that failed, by reason.", ("agent", "reason"))
        self.degraded = counter(
            "agent_degraded_total",
            "Runs that were answered without the model, or without the time.",
            ("agent", "reason"),
        )
        self.loops_contained = Counter(
            "agent_loops_contained_total",
            "Runs that went round in circles and were made to answer.",
            registry=registry,
        )
        self.run_duration = histogram("agent_request_duration_seconds", "Execution time of a run.", ("agent",))
        self.iterations = histogram("agent_iterations", "Model calls of a run.", ("agent",), ITERATION_BUCKETS)
        self.active_runs = Gauge("agent_active_runs", "Runs being executed by this process.", registry=registry)
        self.overhead = Histogram(
            "agent_overhead_seconds",
            "Execution time of a run minus its model and tool time.",
            buckets=OVERHEAD_BUCKETS,
            registry=registry,
        )
        self.llm_calls = counter("agent_llm_calls_total", "Model call attempts.", ("provider", "model", "outcome"))
        self.llm_duration = histogram(
            "agent_llm_call_duration_seconds", "Time of a model call attempt.", ("provider", "model")
        )
        self.llm_first_token = histogram(
            "agent_llm_time_to_first_token_seconds", "Time to the first content of an attempt.", ("provider", "model")
        )
        self.llm_tokens = counter(
            "agent_llm_tokens_total",
            "Tokens; input includes cache_read and cache_write, output includes reasoning.",
            ("provider", "model", "type"),
        )
        self.llm_cost = counter(
            "agent_llm_cost_usd_total", "US dollars that attempts cost, where that is known.", ("provider", "model")
        )
        self.llm_unpriced = Counter(
            "agent_llm_unpriced_calls_total",
            "Attempts that used tokens of which no price is known.",
            registry=registry,
        )
        self.trimmed_tokens = counter(
            "agent_context_trimmed_tokens_total",
            "Tokens, by estimate, that model calls were spared of their conversations.",
            ("agent",),
        )
        self.llm_fallbacks = counter(
            "agent_llm_fallbacks_total", "Moves to another target of a route.", ("route", "from", "to", "reason")
        )
        self.tier_decisions = counter(
            "agent_llm_tier_decisions_total",
            "Runs that were given a tier of a route, or another one: by score, classifier, default, or raised.",
            ("route", "tier", "by"),
        )
        self.llm_breaker_state = Family(
            Gauge(
                "agent_llm_breaker_state",
                "Whether a model target may be asked: 0 closed, 1 open, 2 half-open.",
                ("provider", "model"),
                registry=registry,
            )
        )
        self.shadow_runs = counter(
            "agent_shadow_runs_total",
            "Runs that were to have a shadow (started, dropped, error), and ends of shadows (their run status).",
            ("experiment", "outcome"),
        )
        self.guard_actions = counter(
            "agent_guard_actions_total",
            "What guards of inputs and answers did: length, pii, secret, prompt, link; refused, redacted, removed.",
            ("guard", "action"),
        )
        self.tool_calls = counter("agent_tool_calls_total", "Tool calls that ended.", ("tool", "outcome"))
        self.injection_signals = counter(
            "agent_injection_signals_total", "Results of tools in which the detector saw something.", ("tool", "signal")
        )
        self.tool_duration = histogram("agent_tool_duration_seconds", "Time of a tool call.", ("tool",))
        self.approvals = counter(
            "agent_approvals_total",
            "Calls that a person decided on, or nobody in time: approved, denied, expired.",
            ("risk", "decision"),
        )
        self.approval_age = histogram(
            "agent_approval_age_seconds",
            "Time from asking a person to their decision.",
            ("decision",),
            PATIENCE_BUCKETS,
        )
        self.approvals_pending = Gauge(
            "agent_approvals_pending", "Calls that wait for a person, of all replicas.", registry=registry
        )
        self.approvals_oldest_age = Gauge(
            "agent_approvals_oldest_age_seconds", "How long the oldest of them has waited.", registry=registry
        )
        self.cache_requests = counter(
            "agent_cache_requests_total", "Look-ups in the cache of answers, by level.", ("cache", "result")
        )
        self.rate_limited = counter(
            "agent_rate_limited_total",
            "Calls refused by a limit: of a user, key, tenant or instance, or because the queue or the streams are full.",
            ("scope",),
        )
        self.queue_depth = Gauge("agent_queue_depth", "Runs that wait for an owner.", registry=registry)
        self.queue_oldest_age = Gauge(
            "agent_queue_oldest_age_seconds", "How long the oldest waiting run has waited.", registry=registry
        )
        self.queue_wait = Histogram(
            "agent_queue_wait_seconds",
            "Time a run waited before its execution.",
            buckets=DURATION_BUCKETS,
            registry=registry,
        )
        self.recovered = Counter(
            "agent_runs_recovered_total", "Runs taken over from an owner that died.", registry=registry
        )
        self.fenced_writes = Counter(
            "agent_fenced_writes_total", "Writes of stale owners that were refused.", registry=registry
        )
        self.cancel = Histogram(
            "agent_cancel_seconds",
            "Time from a stop to the end of what the run was doing.",
            buckets=DURATION_BUCKETS,
            registry=registry,
        )
        Gauge("steadyhand_build_info", "The running version.", ("version",), registry=registry).labels(version).set(1)
        ProcessCollector(registry=registry)

    def refused(self, scope: str) -> None:
        """A limit refused a call."""
        self.rate_limited[(scope,)].inc()

    def render(self) -> tuple[bytes, str]:
        """The page for a scrape, and its content type."""
        return generate_latest(self), CONTENT_TYPE_PLAIN_0_0_4

    def collect(self) -> Iterator[Metric]:
        """What the registry holds, without the client's `_created` series: they double the page and say nothing."""
        for metric in self._registry.collect():
            metric.samples = [sample for sample in metric.samples if not sample.name.endswith("_created")]
            yield metric
