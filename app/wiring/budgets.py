"""What may be spent, and what models cost before they are asked."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from decimal import Decimal

import msgspec

from app.domain.agents import Agent
from app.domain.errors import ConfigError, ConfigProblem
from app.domain.fold import MIN_OUTPUT
from app.domain.prices import Price, Rates
from app.domain.usage import Caps
from app.llm.prices import PriceBook
from app.settings import Settings, Target
from app.wiring.models import providers_of
from app.workspace.load import Workspace

FREE = Price(rates=Rates(input=Decimal(0), output=Decimal(0)))
"""The offline provider's: no model reads or writes anything."""
KEPT = 60.0
"""Seconds for which a price that was looked up is used again: list prices change by the day."""


def caps_of(settings: Settings) -> Caps:
    """What months may cost."""
    budgets = settings.budgets
    return Caps(tenant=budgets.tenant, user=budgets.user, levels=budgets.levels)


class RouteQuotes:
    """`Quotes` over the targets of routes."""

    def __init__(self, *, settings: Settings, prices: PriceBook, clock: Callable[[], float] = time.monotonic) -> None:
        self._settings = settings
        self._prices = prices
        self._clock = clock
        self._offline = {name for name, provider in settings.providers.items() if provider.kind == "offline"}
        self._known: dict[tuple[str, str], tuple[float, Price | None]] = {}

    async def price(self, provider: str, model: str) -> Price | None:
        now = self._clock()
        at, price = self._known.get((provider, model), (-KEPT, None))
        if now - at >= KEPT:
            price = FREE if provider in self._offline else await self._prices.price(provider, model)
            self._known[provider, model] = now, price
        return price

    async def least(self, route: str, input_tokens: int) -> Decimal | None:
        if (tiers := self._settings.tiers.get(route)) is not None:
            found = [await self.least(name, input_tokens) for name in tiers.routes.values()]
            return None if None in found else min(dollars for dollars in found if dollars is not None)
        known = self._settings.routes.get(route)
        if known is None:
            return None
        first = [await self.price(w.target.provider, w.target.model) for w in known.places[0]]
        costs = [_least(price.at(input_tokens), input_tokens) for price in first if price is not None]
        return min((dollars for dollars in costs if dollars), default=None)


def _least(rates: Rates, input_tokens: int) -> Decimal:
    """Of an answer of a few words, and an input that no cache makes cheaper."""
    return (input_tokens * rates.input + MIN_OUTPUT * rates.output) / 1_000_000


async def check_budgets(workspace: Workspace) -> None:
    """Raises ConfigError for each limit in dollars that somebody wrote down, and that a model without a price would escape."""
    settings = workspace.settings
    limited = [agent for agent in _agents(workspace) if agent.limits.cost_usd is not msgspec.UNSET]
    if not settings.budgets.written and not limited:
        return
    prices = PriceBook(own=settings.prices)
    providers = providers_of(settings, prices, None)
    for target in {target for route in settings.routes.values() for target in route.chain}:
        if (provider := providers.get(target.provider)) is not None:
            provider.target(target.model)
    quotes = RouteQuotes(settings=settings, prices=prices)
    unpriced = {name: await _unpriced(route.chain, quotes) for name, route in settings.routes.items()}
    anywhere = sorted({target for targets in unpriced.values() for target in targets})
    escaping: dict[str, set[str]] = {agent.name: set() for agent in limited}
    for agent in limited:
        escaping[agent.name].update(target for route in _routes(agent, settings) for target in unpriced[route])
    problems = [
        ConfigProblem(str(workspace.folder / "steadyhand.toml"), f"budgets.{key}", _why(anywhere))
        for key in settings.budgets.written
        if anywhere
    ] + [
        ConfigProblem(str(workspace.folder / "agents" / f"{name}.yaml"), "limits.cost_usd", _why(sorted(targets)))
        for name, targets in escaping.items()
        if targets
    ]
    if problems:
        raise ConfigError(problems)


def _agents(workspace: Workspace) -> list[Agent]:
    """Every agent, and every variant of one."""
    dealt = [variant.agent for experiment in workspace.experiments for variant in experiment.variants]
    shadows = [experiment.shadow.agent for experiment in workspace.experiments if experiment.shadow is not None]
    return [*workspace.agents.values(), *dealt, *shadows]


def _routes(agent: Agent, settings: Settings) -> list[str]:
    """The routes with a chain that a run of the agent may ask."""
    named = [agent.model, *([agent.budget.summary] if isinstance(agent.budget.summary, str) else [])]
    found = []
    for name in named:
        tiers = settings.tiers.get(name)
        found += (
            [name] if tiers is None else [*tiers.routes.values(), *([tiers.classifier] if tiers.classifier else [])]
        )
    return found


async def _unpriced(targets: Sequence[Target], quotes: RouteQuotes) -> list[str]:
    return [str(target) for target in targets if await quotes.price(target.provider, target.model) is None]


def _why(found: Sequence[str]) -> str:
    named = ", ".join(found[:3]) + (", …" if len(found) > 3 else "")
    return f"no price is known of {named}: write [[prices]] for it (0 where it is free), or leave the limit out"
