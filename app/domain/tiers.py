"""Tiers of models: a route that has them asks the models of one tier, as capable as the run seems to need."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import msgspec

Tier = Literal["cheap", "mid", "premium"]
TIERS: tuple[Tier, ...] = ("cheap", "mid", "premium")
"""In rising order."""
TierSource = Literal["score", "classifier", "default", "raised"]


CHEAP_BELOW = 0.0
PREMIUM_FROM = 0.4
"""Scores: see `app.agent.complexity`."""


class TierRoute(msgspec.Struct, frozen=True, kw_only=True):
    """A route with tiers. `routes` names the route of each, none of which has tiers itself.

    A score below `cheap_below` means cheap, one of `premium_from` or more premium. Anything between says nothing: then
    `classifier`, a route, is asked for at most `classifier_timeout` seconds; where that says nothing either it is `default`.
    """

    routes: Mapping[Tier, str]
    default: Tier = "mid"
    cheap_below: float = CHEAP_BELOW
    premium_from: float = PREMIUM_FROM
    classifier: str | None = None
    classifier_timeout: float = 3.0


class TierDecision(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Which tier a run's model calls go to, and why. `route` is the one with the tiers.

    `by`: the score, the classifier, the default because neither said anything, or raised by what happened in the run since.
    `score` is what the first decision saw; `reasons` are the features, or the signals, that decided.
    """

    route: str
    tier: Tier
    by: TierSource
    score: float | None = None
    reasons: tuple[str, ...] = ()


def higher(tier: Tier, steps: int) -> Tier:
    """The tier so many steps up, the highest at most."""
    return TIERS[min(TIERS.index(tier) + steps, len(TIERS) - 1)]
