"""Agreement with labels, and dollars."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from decimal import Decimal

import msgspec

from app.domain.messages import Usage
from app.domain.models import Attempt
from app.domain.tiers import Tier
from app.llm.prices import PriceBook, TargetPrices, Vendor
from app.llm.providers import ANTHROPIC_URL, OPENAI_URL
from app.settings import Settings

Z = 1.959964
"""Of a two-sided interval of 95 %."""


class Share(msgspec.Struct, frozen=True):
    """A share, and its 95 % interval."""

    share: float
    low: float
    high: float


class Agreement(msgspec.Struct, frozen=True, kw_only=True):
    """How verdicts agree with labels. `errors` counts (label, tier asked) where they differ, the default tier included."""

    questions: int
    labels: dict[Tier, int]
    decided: int
    of_decided: Share
    of_all: Share
    errors: dict[tuple[Tier, Tier], int]


def wilson(hits: int, of: int) -> Share:
    """The share and Wilson's score interval for it; without a single trial it may be anything."""
    if not of:
        return Share(0.0, 0.0, 1.0)
    p, z2 = hits / of, Z * Z
    centre = (p + z2 / (2 * of)) / (1 + z2 / of)
    half = Z * math.sqrt(p * (1 - p) / of + z2 / (4 * of * of)) / (1 + z2 / of)
    return Share(p, max(0.0, centre - half), min(1.0, centre + half))


def agreement(labels: Sequence[Tier], verdicts: Sequence[Tier | None], default: Tier) -> Agreement:
    """How often those verdicts are the label, where there is one, and with the default in the place of none."""
    asked = [verdict or default for verdict in verdicts]
    decided = [(label, verdict) for label, verdict in zip(labels, verdicts, strict=True) if verdict is not None]
    pairs = list(zip(labels, asked, strict=True))
    return Agreement(
        questions=len(labels),
        labels=dict(Counter(labels)),
        decided=len(decided),
        of_decided=wilson(sum(label == verdict for label, verdict in decided), len(decided)),
        of_all=wilson(sum(label == tier for label, tier in pairs), len(pairs)),
        errors=dict(Counter(pair for pair in pairs if pair[0] != pair[1])),
    )


class Priced:
    """The price of a route's first target, named `target`."""

    def __init__(self, *, target: str, prices: TargetPrices) -> None:
        self.target = target
        self._prices = prices

    def cost(self, input_tokens: int, output_tokens: int) -> Decimal | None:
        """Dollars of one answer; None: not known."""
        attempt = Attempt(number=1, provider="", model="", started=0.0)
        attempt.usage = Usage(input_tokens=input_tokens, output_tokens=output_tokens)
        self._prices.settle(attempt, None)
        return attempt.cost_usd


async def priced(settings: Settings, route: str) -> Priced:
    """Those of a route with a chain."""
    target = settings.routes[route].chain[0]
    provider = settings.providers[target.provider]
    url = provider.base_url or (ANTHROPIC_URL if provider.kind == "anthropic" else OPENAI_URL)
    prices = PriceBook(own=settings.prices).target(target.provider, target.model, Vendor(url=url, id=None))
    await prices.ready()
    return Priced(target=str(target), prices=prices)
