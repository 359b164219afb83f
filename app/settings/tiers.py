"""Routes that have tiers in the place of a chain."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from difflib import get_close_matches

import msgspec

from app.domain.tiers import TIERS, TierRoute
from app.settings.check import KeyPath
from app.settings.options import RouteOptions, ThresholdOptions

OF_CHAINS = ("chain", "timeout", "first_token_timeout", "idle_timeout", "hedge_after", "on_midstream", "windows")
OF_TIERS = ("default", "thresholds", "classifier", "classifier_timeout")


def tier_routes(
    written: Mapping[str, RouteOptions], routes: Mapping[str, object], wrong: Callable[[KeyPath, str], None]
) -> dict[str, TierRoute]:
    """Every route with tiers; `routes` are those without. `wrong` is told what options mean together that they cannot."""
    return {
        name: _tier_route(name, options, sorted(routes), wrong)
        for name, options in written.items()
        if options.tiers is not None
    }


def check_without_tiers(written: Mapping[str, RouteOptions], wrong: Callable[[KeyPath, str], None]) -> None:
    """Options of tiers belong to a route that has some."""
    for name, options in written.items():
        if options.tiers is None:
            for key in OF_TIERS:
                if getattr(options, key) is not None:
                    wrong(("models", name, key), "is for a route with tiers")


def _tier_route(name: str, options: RouteOptions, known: list[str], wrong: Callable[[KeyPath, str], None]) -> TierRoute:
    path = ("models", name)
    assert options.tiers is not None
    bare = RouteOptions()
    for key in OF_CHAINS:
        if getattr(options, key) != getattr(bare, key):
            wrong((*path, key), "is for a route with a chain; the routes of the tiers have their own")
    routes = {tier: str(getattr(options.tiers, tier)) for tier in TIERS}
    asked: list[tuple[KeyPath, str]] = [((*path, "tiers", tier), route) for tier, route in routes.items()]
    if options.classifier is not None:
        asked.append(((*path, "classifier"), options.classifier))
    for place, wanted in asked:
        if not wanted:
            wrong(place, "missing: the name of a route")
        elif wanted not in known:
            near = get_close_matches(wanted, known, n=1)
            hint = f"; did you mean {near[0]}?" if near else f"; known: {', '.join(known)}"
            wrong(place, f"there is no route {wanted} with a chain{hint}")
    if options.classifier is None and options.classifier_timeout is not None:
        wrong((*path, "classifier_timeout"), "is for a route with a classifier")
    thresholds = options.thresholds or ThresholdOptions()
    if thresholds.cheap > thresholds.premium:
        wrong((*path, "thresholds"), f"cheap ({thresholds.cheap:g}) is above premium ({thresholds.premium:g})")
    route = TierRoute(
        routes=routes,
        cheap_below=thresholds.cheap,
        premium_from=thresholds.premium,
        classifier=options.classifier,
    )
    if options.default is not None:
        route = msgspec.structs.replace(route, default=options.default)
    if options.classifier_timeout is not None:
        route = msgspec.structs.replace(route, classifier_timeout=options.classifier_timeout)
    return route
