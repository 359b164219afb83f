"""What the benchmark says: one table of medians and ratios, the goals, and the same as JSON."""

from __future__ import annotations

import os
import platform
from statistics import median

import msgspec

from ops.bench.measure import Plan, Samples

METRICS = {
    "turns_per_s": "turns/s, 16 users, one core",
    "cpu_ms_per_turn": "CPU ms per turn",
    "commits_per_turn": "commits per turn",
    "cpu_ms_empty": "CPU ms per turn, empty history",
    "cpu_ms_history": "CPU ms per turn, 100 messages",
    "history_ratio": "  100 messages / empty",
    "latency_1_p50": "added latency ms, 1 user, p50",
    "latency_32_p50": "added latency ms, 32 users, p50",
    "latency_32_p99": "added latency ms, 32 users, p99",
    "idle_ms_per_s": "CPU ms per second, idle",
    "rss_idle_mib": "RSS MiB, idle",
}
QUEUE_METRICS = {
    "queue_1_start_p50": "queue hop ms, 1 user, p50",
    "queue_1_start_p99": "queue hop ms, 1 user, p99",
    "queue_16_start_p50": "queue hop ms, 16 users, p50",
    "queue_1_turns_per_s": "trivial turns/s by queue, 1 user",
    "queue_16_turns_per_s": "trivial turns/s by queue, 16 users",
}
"""Of one process that accepts and one that executes, with PostgreSQL and the load on the same cores."""
ROUTER_METRICS = {
    "router_on_ms": "CPU ms per model call, all on",
    "router_off_ms": "CPU ms per model call, SDK only",
    "router_cost_ms": "CPU ms that the router costs",
}
"""Of one process that makes model calls and nothing else: through the router with spans, metrics, prices, breakers, ledger and
budgets, and past it. Both write what the call used into a run's journal."""
STREAM_METRICS = {
    "token_us_{}": "CPU µs per token, {} streams",
    "tokens_per_s_{}": "tokens/s, {} streams",
    "lag_{}_p50": "token lag ms, {} streams, p50",
    "lag_{}_p99": "token lag ms, {} streams, p99",
    "rss_{}_mib": "RSS MiB, {} streams",
}


class Goal(msgspec.Struct, frozen=True, kw_only=True):
    """`met` is None where it was not measured."""

    text: str
    value: float | None
    limit: float
    met: bool | None


def ratio(samples: Samples, metric: str) -> float | None:
    """Ours / the peer's, of the medians; None where one of them is missing or zero."""
    ours, peer = (samples.values.get(name, {}).get(metric) for name in ("ours", "peer"))
    return median(ours) / median(peer) if ours and peer and median(peer) else None


def goals(samples: Samples) -> list[Goal]:
    """The promises of the README, and whether these samples keep them."""
    history = samples.values.get("ours", {}).get("history_ratio")
    found = (
        ("CPU per turn, ours / peer", ratio(samples, "cpu_ms_per_turn"), 1 / 5),
        ("CPU per turn, 100 messages / empty, ours", median(history) if history else None, 1.3),
        ("CPU per streamed token at 1,000 streams, ours / peer", ratio(samples, "token_us_1000"), 1 / 10),
    )
    return [
        Goal(text=text, value=value, limit=limit, met=None if value is None else value <= limit)
        for text, value, limit in found
    ]


def queue_lines(samples: Samples) -> list[str]:
    """What the way through the queue costs."""
    values = samples.values.get("queue", {})
    lines = [f"{text:<36}{cell(values[metric]):>28}" for metric, text in QUEUE_METRICS.items() if values.get(metric)]
    if lines:
        start, rate = median(values["queue_1_start_p50"]), median(values["queue_16_turns_per_s"])
        lines.append(f"goal queue hop p50 <= 20 ms: {'met' if start <= 20 else 'MISSED'} ({start:.1f})")
        lines.append(f"goal trivial turns/s by queue >= 150: {'met' if rate >= 150 else 'MISSED'} ({rate:.0f})")
    return lines


def router_lines(samples: Samples) -> list[str]:
    """What a model call through the router costs."""
    values = samples.values.get("router", {})
    lines = [f"{text:<36}{cell(values[metric]):>28}" for metric, text in ROUTER_METRICS.items() if values.get(metric)]
    if lines:
        cost = median(values["router_cost_ms"])
        lines.append(f"goal router cost <= 0.5 ms: {'met' if cost <= 0.5 else 'MISSED'} ({cost:.2f})")
    return lines


def table(samples: Samples, plan: Plan) -> str:
    """Median (lowest to highest) of each metric and service, and the ratio of the medians."""
    metrics = METRICS | {
        key.format(count): text.format(count) for count in plan.streams for key, text in STREAM_METRICS.items()
    }
    names = [name for name in ("ours", "peer") if name in samples.values]
    lines = [f"{'':<36}" + "".join(f"{name:>28}" for name in names) + f"{'ours / peer':>14}"]
    for metric, text in metrics.items():
        cells = [samples.values[name].get(metric) for name in names]
        if any(cells):
            share = ratio(samples, metric)
            row = f"{text:<36}" + "".join(f"{cell(values):>28}" for values in cells)
            lines.append(row + f"{'–' if share is None or metric == 'history_ratio' else f'{share:.3f}':>14}")
    lines += [
        "",
        f"Medians (lowest to highest) of {plan.rounds} rounds; the server processes' CPU only, one core; ratios of medians.",
        f"Streams: {plan.token_rate:g} tokens/s each, {plan.stream_tokens} tokens in all; a service that cannot keep up takes longer.",
    ]
    for goal in goals(samples):
        verdict = "not measured" if goal.met is None else "met" if goal.met else "MISSED"
        lines.append(
            f"goal {goal.text} <= {goal.limit:g}: {verdict}" + ("" if goal.value is None else f" ({goal.value:.3f})")
        )
    lines += queue_lines(samples) + router_lines(samples)
    lines += [f"FAILED {failure}" for failure in samples.failures]
    return "\n".join(lines)


def cell(values: list[float] | None) -> str:
    if not values:
        return "–"
    low, high = min(values), max(values)
    spread = f" ({low:.4g} to {high:.4g})" if len(values) > 1 else ""
    return f"{median(values):.4g}{spread}"


def document(samples: Samples, plan: Plan, *, telemetry: bool, spans_bytes: int) -> bytes:
    """Everything as JSON: the machine, the plan, each round's values, the goals, the failures."""
    return msgspec.json.format(
        msgspec.json.encode(
            {
                "machine": {"cpus": os.cpu_count(), "system": platform.platform(), "python": platform.python_version()},
                "plan": plan,
                "telemetry": {"otlp": telemetry, "otlp_bytes": spans_bytes},
                "values": samples.values,
                "goals": goals(samples),
                "failures": samples.failures,
            }
        )
    )
