"""The breakers of every target that a route names, shared through Redis where there is one, and on the metrics page."""

from __future__ import annotations

from functools import partial

from app.llm.breaker import Breakers
from app.settings import Settings
from app.storage.redis.breakers import RedisBreakers
from app.storage.redis.live import RedisLive
from app.telemetry.metrics import Metrics

LEVELS = {"closed": 0.0, "open": 1.0, "half_open": 2.0}


def breakers_of(settings: Settings, channel: RedisLive | None, metrics: Metrics) -> Breakers:
    """Told and heard by other processes once somebody runs their `share`."""
    breakers = Breakers(
        failures=settings.breaker.failures,
        open_seconds=settings.breaker.open_seconds,
        targets={(target.provider, target.model) for route in settings.routes.values() for target in route.chain},
        board=None if channel is None else RedisBreakers(link=channel.link),
    )
    for provider, model in breakers.targets:
        # Read when the page is: an opening ends by time alone.
        metrics.llm_breaker_state[provider, model].set_function(partial(_level, breakers, provider, model))
    return breakers


def _level(breakers: Breakers, provider: str, model: str) -> float:
    return LEVELS[breakers.state(provider, model).name]
