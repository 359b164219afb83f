"""Routes as they are written: alternatives with weights, windows, hedging, and what a broken stream leads to."""

from __future__ import annotations

import pytest
from opentelemetry.trace import NoOpTracer

from app.llm.course import order
from app.settings import Route, Target, Weighted, load
from app.telemetry.setup import Tracing
from app.wiring.models import routes_of
from tests.settings.reading import problems

KEYS = {"OPENAI_API_KEY": "k", "ANTHROPIC_API_KEY": "k"}


def route(text: str, **environ: str) -> Route:
    return load(KEYS | environ, {"steadyhand.toml": f"[models.default]\n{text}"}).routes["default"]


def wrong(text: str) -> list[str]:
    return problems(KEYS, {"steadyhand.toml": f"[models.default]\n{text}"})


def test_a_place_has_one_target_or_several_with_weights() -> None:
    found = route('chain = [{ "openai/a" = 9, "openai/b" = 0.5 }, "anthropic/c"]')
    a, b, c = Target("openai", "a"), Target("openai", "b"), Target("anthropic", "c")
    assert found.places == ((Weighted(a, 9.0), Weighted(b, 0.5)), (Weighted(c),))
    assert found.chain == (a, b, c)


def test_the_same_as_a_variable() -> None:
    text = '[{"openai/a": 9, "openai/b": 1}, "anthropic/c"]'
    found = load(KEYS | {"STEADYHAND__MODELS__DEFAULT__CHAIN": text}, {}).routes["default"]
    assert [len(place) for place in found.places] == [2, 1]


def test_what_is_not_written_is_off() -> None:
    found = route('chain = ["openai/a"]')
    assert (found.on_midstream, found.hedge_after, found.windows) == ("reset", 0.0, {})


def test_the_other_options() -> None:
    found = route(
        'chain = ["openai/a", "openai/b.2"]\non_midstream = "error"\nhedge_after = 1.5\nwindows = { "openai/b.2" = 1000 }'
    )
    assert (found.on_midstream, found.hedge_after) == ("error", 1.5)
    assert found.windows == {Target("openai", "b.2"): 1000}


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('chain = [{ "openai/a" = 0 }]', "models.default.chain: expected float > 0.0 at [0][...]"),
        ('chain = [{ "openai/a" = "much" }]', "models.default.chain: expected float, got str at [0][...]"),
        ('chain = [["openai/a"]]', "models.default.chain: expected str | object, got array at [0]"),
        ("chain = [{}]", "models.default.chain: a table in it names no target"),
        ('chain = [{ "a" = 1 }]', "models.default.chain: 'a' is not of the form provider/model"),
        (
            'chain = [{ "opnai/a" = 1 }]',
            "models.default.chain: opnai/a names a provider that is not there; known: anthropic, offline, openai",
        ),
        ('chain = ["openai/a"]\non_midstream = "reste"', "models.default.on_midstream: must be one of reset, error"),
        ('chain = ["openai/a"]\nhedge_after = -1', "models.default.hedge_after: expected float >= 0.0"),
        (
            'chain = ["openai/a"]\nhedge_after = 3\nfirst_token_timeout = 3',
            "models.default.hedge_after: 3 is not less than first_token_timeout, which is 3",
        ),
        ('chain = ["openai/a"]\nwindows = { "openai/a" = 0 }', "models.default.windows.openai/a: expected int >= 1"),
        (
            'chain = ["openai/a"]\nwindows = { "a" = 9 }',
            "models.default.windows: 'a' is not of the form provider/model",
        ),
        (
            'chain = ["openai/mini"]\nwindows = { "openai/mni" = 9 }',
            "models.default.windows: openai/mni is not in the route's chain; did you mean openai/mini?",
        ),
    ],
)
def test_what_is_wrong_is_named(text: str, problem: str) -> None:
    (found,) = wrong(text)
    assert found.partition(": ")[2] == problem


def test_the_router_gets_all_of_it() -> None:
    text = """
        [models.default]
        chain = [{ "offline/a" = 9, "offline/b" = 1 }, "offline/c"]
        timeout = 9
        first_token_timeout = 8
        idle_timeout = 7
        hedge_after = 6
        on_midstream = "error"
        windows = { "offline/c" = 5 }
    """
    found = routes_of(load({}, {"steadyhand.toml": text}), {}, Tracing(tracer=NoOpTracer()))["default"]
    assert (found.timeout, found.first_token_timeout, found.idle_timeout, found.hedge_after) == (9, 8, 7, 6)
    assert (found.on_midstream, found.windows) == ("error", {"offline/c": 5})
    assert isinstance(found.targets[0], tuple)
    assert [(a.target.model, a.weight) for a in found.targets[0]] == [("a", 9.0), ("b", 1.0)]
    assert order(found.targets, "s")[-1].model == "c"
