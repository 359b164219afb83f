"""The cache of answers: in memory, in Redis where there is one, and by meaning where there are embeddings."""

from __future__ import annotations

from collections.abc import Mapping

from app.domain.cache import Embedder, Level, LookUp
from app.llm.offline_embedding import OfflineEmbedder
from app.llm.providers import ModelProvider
from app.runs.alike import Alike
from app.runs.answers import Answers
from app.settings import Settings
from app.storage.local.answers import LocalAnswers
from app.storage.redis.answers import RedisAnswers
from app.storage.redis.live import RedisLive
from app.telemetry.metrics import Metrics
from app.telemetry.setup import Tracing
from app.telemetry.traced_embedder import TracedEmbedder


def answers_of(
    settings: Settings,
    channel: RedisLive | None,
    providers: Mapping[str, ModelProvider],
    tracing: Tracing,
    metrics: Metrics,
) -> Answers:
    """The answers of this process; those of agents without `cache` never come near."""
    embedder = embedder_of(settings, providers)

    def count(level: Level, result: LookUp) -> None:
        metrics.cache_requests[level, result].inc()

    return Answers(
        near=LocalAnswers(),
        far=None if channel is None else RedisAnswers(link=channel.link),
        alike=None
        if embedder is None
        else Alike(embedder=TracedEmbedder(embedder=embedder, tracing=tracing, metrics=metrics)),
        count=count,
    )


def embedder_of(settings: Settings, providers: Mapping[str, ModelProvider]) -> Embedder | None:
    """Who makes vectors; `providers` has the provider of [embeddings], unless that is offline."""
    wanted = settings.embeddings
    if wanted is None:
        return None
    provider = providers.get(wanted.provider)
    if provider is None:
        return OfflineEmbedder(provider=wanted.provider, dimensions=wanted.dimensions)
    return provider.embedder(wanted.model, wanted.dimensions)
