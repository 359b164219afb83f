"""The model providers that routes use, and the routes over them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from app.domain.models import Target
from app.llm.course import Alternative
from app.llm.offline import OfflineTarget
from app.llm.prices import PriceBook
from app.llm.providers import ModelProvider, open_provider
from app.llm.router import Route
from app.settings import Settings, Weighted
from app.telemetry.setup import Tracing
from app.telemetry.traced import TracedTarget

if TYPE_CHECKING:
    import httpx2


def providers_of(settings: Settings, http_client: httpx2.AsyncClient | None) -> dict[str, ModelProvider]:
    """A client for each provider that a route uses."""
    prices = PriceBook(own=settings.prices)
    used = {target.provider for route in settings.routes.values() for target in route.chain}
    return {
        name: open_provider(
            name=name,
            kind=provider.kind,
            api=provider.api,
            api_key=provider.api_key,
            base_url=provider.base_url,
            own_host=provider.own_host,
            http_client=http_client,
            prices=prices,
        )
        for name, provider in settings.providers.items()
        if name in used and provider.kind != "offline"
    }


def routes_of(settings: Settings, providers: Mapping[str, ModelProvider], tracing: Tracing) -> dict[str, Route]:
    def target(provider: str, model: str) -> Target:
        client = providers.get(provider)
        asked: Target = OfflineTarget(provider=provider, model=model) if client is None else client.target(model)
        return TracedTarget(target=asked, tracing=tracing)

    def place(weighted: tuple[Weighted, ...]) -> Target | tuple[Alternative, ...]:
        found = tuple(Alternative(target(w.target.provider, w.target.model), w.weight) for w in weighted)
        return found if len(found) > 1 else found[0].target

    return {
        name: Route(
            targets=tuple(place(weighted) for weighted in route.places),
            timeout=route.timeout,
            first_token_timeout=route.first_token_timeout,
            idle_timeout=route.idle_timeout,
            hedge_after=route.hedge_after,
            windows={str(target): tokens for target, tokens in route.windows.items()},
            on_midstream=route.on_midstream,
        )
        for name, route in settings.routes.items()
    }
