"""Targets of the offline provider for tests that need a batch's answer but no vendor."""

from __future__ import annotations

from app.domain.batches import BatchProvider
from app.llm.offline_batch import OfflineBatches


class Offline:
    """The route `default` has the offline provider; no other route has a provider with a Batch API."""

    def of_route(self, route: str) -> BatchProvider | None:
        return OfflineBatches(provider="offline", model="offline") if route == "default" else None

    def of_target(self, provider: str, model: str) -> BatchProvider | None:
        return OfflineBatches(provider=provider, model=model) if provider == "offline" else None
