"""The limits of callers: counted by this process, and by all of them together where there is a Redis."""

from __future__ import annotations

from app.api.limits import LimitRules, Limits
from app.settings import Settings
from app.storage.local.limiter import LocalLimiter
from app.storage.redis.limiter import RedisLimiter
from app.storage.redis.live import RedisLive
from app.telemetry.metrics import Metrics


def limits_of(settings: Settings, channel: RedisLive | None, metrics: Metrics) -> Limits:
    """As [limits] says."""
    written, near = settings.limits, LocalLimiter()

    def refused(scope: str) -> None:
        metrics.rate_limited[(scope,)].inc()

    return Limits(
        limiter=near if channel is None else RedisLimiter(link=channel.link, near=near),
        rules=LimitRules(
            requests=written.requests,
            window=written.window,
            per=written.per,
            per_second=written.global_per_second,
        ),
        refused=refused,
    )
