"""[[prices]]: what the operator pays, exactly as written, or one line of what is wrong with it."""

from __future__ import annotations

from decimal import Decimal

import pytest

from app.domain.prices import Price, Rates, Step
from app.settings import load
from tests.settings.reading import TOML, problems

WRITTEN = """
[[prices]]
model = "openai/x"
input = 1
output = 5.5
cache_read = 0.1
cache_write = 1.25
cache_write_1h = 2
above = {input_tokens = 272_000, input = 2, output = 8.25, cache_read = 0.2}

[[prices]]
model = "anthropic/a/b"
input = 0.0
output = 1e-3
"""
RATES = Rates(
    input=Decimal(1),
    output=Decimal("5.5"),
    cache_read=Decimal("0.1"),
    cache_write=Decimal("1.25"),
    cache_write_1h=Decimal(2),
)
LONGER = Rates(input=Decimal(2), output=Decimal("8.25"), cache_read=Decimal("0.2"))


def test_prices_are_what_was_written() -> None:
    assert load({}, {TOML: WRITTEN}).prices == {
        "openai/x": Price(rates=RATES, steps=(Step(above=272_000, rates=LONGER),)),
        "anthropic/a/b": Price(rates=Rates(input=Decimal(0), output=Decimal("0.001"))),
    }
    assert load({}, {}).prices == {}


def test_a_variable_and_a_profile_replace_the_list() -> None:
    one = '[{"model": "openai/y", "input": 0.3, "output": 1}]'
    want = {"openai/y": Price(rates=Rates(input=Decimal("0.3"), output=Decimal(1)))}
    assert load({"STEADYHAND__PRICES": one}, {TOML: WRITTEN}).prices == want
    profile = {TOML: WRITTEN, "steadyhand.production.toml": 'prices = [{model = "openai/y", input = 0.3, output = 1}]'}
    assert load({"APP_ENV": "production"}, profile).prices == want


WRONG = """
[[prices]]
model = "openai/x"
input = -1
output = 1

[log]
level = "info"

[[prices]]
model = "opnai/x"
input = 1
output = inf
inputs = 1

[[prices]]
model = "openai/y"
input = "1"
above = {input_tokens = 0, input = 1, output = 1}
"""


def test_what_is_wrong_is_named_with_its_line() -> None:
    assert problems({}, {TOML: WRONG}) == [
        f"{TOML}:4: prices.0.input: expected float >= 0.0",
        f"{TOML}:13: prices.1.output: expected float <= 1000000.0",
        f"{TOML}:14: prices.1.inputs: unknown; did you mean prices.1.input?",
        f"{TOML}:18: prices.2.input: expected float, got str",
        f"{TOML}:19: prices.2.above.input_tokens: expected int >= 1",
        f"{TOML}:16: prices.2.output: missing",
    ]


@pytest.mark.parametrize(
    ("model", "why"),
    [
        ("x", "'x' is not of the form provider/model"),
        ("openai/", "'openai/' is not of the form provider/model"),
        ("opnai/x", "opnai/x names a provider that is not there; known: anthropic, offline, openai"),
        ("openai/x", "openai/x has a price already"),
    ],
)
def test_a_model_that_cannot_have_the_price(model: str, why: str) -> None:
    text = f'{WRITTEN}\n[[prices]]\nmodel = "{model}"\ninput = 1\noutput = 1\n'
    (problem,) = problems({}, {TOML: text})
    line = text.splitlines().index(f'model = "{model}"') if model != "openai/x" else text.count("\n") - 3
    assert problem == f"{TOML}:{line + 1}: prices.2.model: {why}"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("prices = 1", "prices: must be a list of tables, not int"),
        ("[prices]\nmodel = 'openai/x'", "prices: must be a list of tables, not a table"),
        ("prices = [1]", "prices.0: must be a table, not int"),
    ],
)
def test_a_list_of_tables_is_one(text: str, why: str) -> None:
    assert problems({}, {TOML: text}) == [f"{TOML}:1: {why}"]


def test_a_variable_that_is_no_list() -> None:
    (problem,) = problems({"STEADYHAND__PRICES": "openai/x"}, {})
    assert problem == "STEADYHAND__PRICES: STEADYHAND__PRICES: a list of tables is written as JSON: [{…}]"
    (problem,) = problems({"STEADYHAND__PRICES": '[{"model": "openai/x", "input": 1}]'}, {})
    assert problem == "STEADYHAND__PRICES: STEADYHAND__PRICES__0__OUTPUT: missing"
