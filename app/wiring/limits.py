"""The limits of callers, counted by this process, and by all of them together where there is a Redis; and who may wait and run."""

from __future__ import annotations

from app.api.limits import LimitRules, Limits
from app.runs.admission import Admission
from app.settings import Settings
from app.storage.local.limiter import LocalLimiter
from app.storage.redis.limiter import RedisLimiter
from app.storage.redis.live import RedisLive
from app.telemetry.metrics import Metrics


def limits_of(settings: Settings, channel: RedisLive | None, metrics: Metrics) -> Limits:
    """As [limits] says."""
    written, near = settings.limits, LocalLimiter()

    return Limits(
        limiter=near if channel is None else RedisLimiter(link=channel.link, near=near),
        repeats=LocalLimiter(),
        rules=LimitRules(
            requests=written.requests,
            window=written.window,
            per=written.per,
            per_second=written.global_per_second,
        ),
        refused=metrics.refused,
    )


def admission_of(settings: Settings, metrics: Metrics) -> Admission:
    """As [admission] says."""
    written = settings.admission
    return Admission(queue_max=written.queue_max, per_tenant=written.per_tenant, refused=metrics.refused)
