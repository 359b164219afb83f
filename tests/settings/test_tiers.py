"""Routes with tiers, as they are written."""

from __future__ import annotations

import pytest

from app.domain.tiers import Tier, TierRoute
from app.settings import load
from tests.settings.reading import KEYS, TOML, problems

CHAINS = """
[models.fast]
chain = ["openai/mini"]
[models.default]
chain = ["openai/a"]
[models.best]
chain = ["anthropic/b"]
[models.auto]
"""
TIERS = 'tiers = { cheap = "fast", mid = "default", premium = "best" }\n'


def test_a_route_with_tiers() -> None:
    settings = load(KEYS, {TOML: CHAINS + TIERS})
    routes: dict[Tier, str] = {"cheap": "fast", "mid": "default", "premium": "best"}
    assert settings.tiers == {"auto": TierRoute(routes=routes)}
    assert set(settings.routes) == {"fast", "default", "best"}
    assert settings.route_names == {"fast", "default", "best", "auto"}
    assert settings.advice == ()


def test_all_of_its_options() -> None:
    more = 'default = "premium"\nthresholds = { cheap = 0.1, premium = 0.5 }\nclassifier = "fast"\nclassifier_timeout = 1\n'
    found = load(KEYS, {TOML: CHAINS + TIERS + more}).tiers["auto"]
    assert (found.default, found.cheap_below, found.premium_from) == ("premium", 0.1, 0.5)
    assert (found.classifier, found.classifier_timeout) == ("fast", 1.0)


def test_the_default_route_may_have_tiers() -> None:
    text = '[models.fast]\nchain = ["openai/a"]\n[models.default]\ntiers = { cheap = "fast", mid = "fast", premium = "fast" }'
    assert set(load(KEYS, {TOML: text}).tiers) == {"default"}


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('tiers = { cheap = "fast", mid = "default" }', "models.auto.tiers.premium: missing: the name of a route"),
        ('tiers = "fast"', "models.auto.tiers: expected object | null, got str"),
        (
            TIERS.replace('"fast"', '"fasst"'),
            "models.auto.tiers.cheap: there is no route fasst with a chain; did you mean fast?",
        ),
        (
            TIERS.replace('"fast"', '"auto"'),
            "models.auto.tiers.cheap: there is no route auto with a chain; known: best, default, fast",
        ),
        (
            TIERS + 'classifier = "auto"',
            "models.auto.classifier: there is no route auto with a chain; known: best, default, fast",
        ),
        (TIERS + "classifier_timeout = 1", "models.auto.classifier_timeout: is for a route with a classifier"),
        (TIERS + 'default = "middle"', "models.auto.default: must be one of cheap, mid, premium"),
        (
            TIERS + 'chain = ["openai/a"]',
            "models.auto.chain: is for a route with a chain; the routes of the tiers have their own",
        ),
        (
            TIERS + "timeout = 3",
            "models.auto.timeout: is for a route with a chain; the routes of the tiers have their own",
        ),
        (
            TIERS + "thresholds = { cheap = 0.9, premium = 0.5 }",
            "models.auto.thresholds: cheap (0.9) is above premium (0.5)",
        ),
        ('chain = ["openai/a"]\ndefault = "mid"', "models.auto.default: is for a route with tiers"),
    ],
)
def test_what_is_wrong_is_named(text: str, problem: str) -> None:
    (found,) = problems(KEYS, {TOML: CHAINS + text})
    assert found.partition(": ")[2] == problem
