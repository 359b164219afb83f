"""Which model targets can be used, as far as it is known without asking them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal

from app.api.schemas import CheckStatus, ModelRoute, ModelTarget, ModelTiers
from app.domain.breakers import BreakerView
from app.domain.tiers import TierRoute

TargetStatus = Literal["ready", "degraded", "unavailable"]
Chain = tuple[tuple[str, str], ...]
"""Targets in the order they are asked: the provider's name and the model."""


class Targets:
    """The targets of every route, judged by their breakers, never by a call. `refused` names the parameters that one refuses."""

    def __init__(
        self,
        *,
        routes: Mapping[str, Chain],
        breakers: BreakerView,
        refused: Callable[[str, str], list[str]] = lambda provider, model: [],
        tiers: Mapping[str, TierRoute] | None = None,
    ) -> None:
        self._routes = dict(routes)
        self._breakers = breakers
        self._refused = refused
        self._tiers = dict(tiers or {})

    @property
    def providers(self) -> list[str]:
        """Every provider that a route uses."""
        return sorted({provider for provider, _ in self._all()})

    def status(self, route: str) -> TargetStatus:
        """ready: the first target is usable; degraded: a later one is, or one is being tried again; unavailable: none.

        A route with tiers is ready where they all are, and unavailable where they all are.
        """
        if route in self._tiers:
            found = {self.status(name) for name in self._tiers[route].routes.values()}
            return found.pop() if len(found) == 1 else "degraded"
        states = [self._breakers.state(*target).name for target in self._routes.get(route, ())]
        if states and states[0] == "closed":
            return "ready"
        return "unavailable" if all(state == "open" for state in states) else "degraded"

    def models(self) -> list[ModelRoute]:
        """Every route with its targets, by name."""
        found = [
            ModelRoute(route=name, targets=[self._view(*target) for target in chain])
            for name, chain in self._routes.items()
        ]
        found += [ModelRoute(route=name, targets=[], tiers=_tiers(route)) for name, route in self._tiers.items()]
        return sorted(found, key=lambda route: route.route)

    def check(self, provider: str) -> tuple[CheckStatus, str | None]:
        """ok while every model of the provider may be asked; else degraded, and which may not."""
        views = [self._view(*target) for target in self._all() if target[0] == provider]
        wrong = [f"{view.provider}/{view.model}: {_told(view)}" for view in views if view.breaker != "closed"]
        return ("degraded", "; ".join(wrong)) if wrong else ("ok", None)

    def _all(self) -> list[tuple[str, str]]:
        return sorted({target for chain in self._routes.values() for target in chain})

    def _view(self, provider: str, model: str) -> ModelTarget:
        state = self._breakers.state(provider, model)
        seconds = None if state.retry_in is None else round(state.retry_in, 3)
        return ModelTarget(
            provider=provider,
            model=model,
            breaker=state.name,
            retry_in_seconds=seconds,
            refused_parameters=self._refused(provider, model),
        )


def _tiers(route: TierRoute) -> ModelTiers:
    return ModelTiers(
        cheap=route.routes["cheap"],
        mid=route.routes["mid"],
        premium=route.routes["premium"],
        default=route.default,
        cheap_below=route.cheap_below,
        premium_from=route.premium_from,
        classifier=route.classifier,
    )


def _told(view: ModelTarget) -> str:
    if view.retry_in_seconds is None:
        return "half-open, tried by one call at a time"
    return f"open for another {max(1, round(view.retry_in_seconds))} s"
