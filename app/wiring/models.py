"""The model providers that routes use, and the routes over them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from app.domain.models import Target
from app.llm.course import Alternative
from app.llm.offline import OfflineTarget
from app.llm.prefix import Prefixes, WatchedTarget
from app.llm.prices import PriceBook
from app.llm.providers import ModelProvider, open_provider
from app.llm.router import Route
from app.settings import Settings, Weighted
from app.telemetry import context
from app.telemetry.setup import Tracing
from app.telemetry.traced import TracedTarget

if TYPE_CHECKING:
    import httpx2


def providers_of(
    settings: Settings, prices: PriceBook, http_client: httpx2.AsyncClient | None
) -> dict[str, ModelProvider]:
    """A client for each provider that a route or the embeddings use; its models are priced by `prices`."""
    used = {target.provider for route in settings.routes.values() for target in route.chain}
    if settings.embeddings is not None:
        used.add(settings.embeddings.provider)
    return {
        name: open_provider(
            name=name,
            kind=provider.kind,
            api=provider.api,
            api_key=provider.api_key,
            base_url=provider.base_url,
            own_host=provider.own_host,
            batch=provider.batch,
            http_client=http_client,
            prices=prices,
        )
        for name, provider in settings.providers.items()
        if name in used and provider.kind != "offline"
    }


def routes_of(settings: Settings, providers: Mapping[str, ModelProvider], tracing: Tracing) -> dict[str, Route]:
    prefixes = Prefixes(author=_author)

    def target(provider: str, model: str) -> Target:
        client = providers.get(provider)
        if client is None:
            asked: Target = OfflineTarget(provider=provider, model=model)
        else:
            asked = WatchedTarget(target=client.target(model), prefixes=prefixes)
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


def _author() -> tuple[str, ...]:
    """The agent that the current task works for, in its version."""
    run = context.run.get()
    return () if run is None else (run.tenant, run.agent, run.agent_version)
