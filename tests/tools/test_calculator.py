from __future__ import annotations

import operator
import re
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.tools.calculator import (
    MAX_DIGITS,
    MAX_LENGTH,
    PRECISION,
    CalculationError,
    calculator,
    decimal_text,
    evaluate,
)
from app.tools.declare import declare


def outcome(expression: str) -> str:
    """The result, or the message of the error."""
    try:
        return decimal_text(evaluate(expression))
    except CalculationError as error:
        return str(error)


@pytest.mark.parametrize(
    ("expression", "result"),
    [
        ("12*7", "84"),
        ("12 × 7", "84"),
        ("6x7", "42"),
        ("7 ÷ 2", "3.5"),
        ("3 − 5", "-2"),
        ("0.1 + 0.2", "0.3"),
        ("1,234 + 5.5", "1239.5"),
        ("12,345,678 * 1", "12345678"),
        ("1_000 + 1", "1001"),
        (".5 + .5", "1"),
        ("5. * 2", "10"),
        ("1e3 + 1.5e-1", "1000.15"),
        ("(2+3)*4", "20"),
        ("-2**2", "-4"),
        ("(-2)**2", "4"),
        ("2^3^2", "512"),
        ("2**-2", "0.25"),
        ("1.5**2", "2.25"),
        ("-7 // 2", "-4"),
        ("-7 % 3", "2"),
        ("7.5 % 2", "1.5"),
        ("3 - -4", "7"),
        ("+-+3", "-3"),
        ("0**0", "1"),
        ("(-1)**99999999999", "-1"),
        ("1**-99999999999", "1"),
        ("0**99999999999", "0"),
        ("12 * 7 =", "84"),
        ("10/3", "3." + "3" * PRECISION),
        ("-2/3", "-0." + "6" * (PRECISION - 1) + "7"),
        ("1/3000", "0.000" + "3" * PRECISION),
        ("10**25/7", "1428571428571428571428571.42857142857142857143"),
        ("1/2**60", "0.000000000000000000867361737988403547205962240695953369140625"),
        ("1e-30", "0.000000000000000000000000000001"),
    ],
)
async def test_values(expression: str, result: str) -> None:
    assert await calculator(expression) == result


@pytest.mark.parametrize(
    ("expression", "reason"),
    [
        ("", "empty"),
        ("   ", "empty"),
        ("1/0", "division by zero"),
        ("1//(2-2)", "division by zero"),
        ("1%0", "division by zero"),
        ("0**-1", "division by zero"),
        ("2**0.5", "only whole exponents"),
        ("(1", "')' is missing before the end"),
        ("1)", "an operator is missing before ')'"),
        ("1 2", "an operator is missing before 2"),
        ("1 +", "a number is missing before the end"),
        ("* 2", "a number is missing before '*'"),
        ("10%", "a number is missing"),
        ("3,4", "cannot read ',4'"),
        ("1,234,56", "cannot read"),
        ("1__0", "cannot read"),
        ("sqrt(4)", "cannot read 'sqrt(4)'"),
        ("__import__('os')", "cannot read"),
        ("٣ + ٤", "cannot read"),
        ("1\x00", "cannot read"),
    ],
)
async def test_errors(expression: str, reason: str) -> None:
    with pytest.raises(CalculationError) as caught:
        await calculator(expression)
    assert reason in str(caught.value)


@pytest.mark.parametrize(
    "expression",
    [
        "9**9**9",
        "9**9**9**9",
        "((((9**99)**9)**9)**9)",
        "2**99999999999999",
        "0.5**99999999999999",
        "1.0000001**999999999",
        "2**-99999999999999",
        "1e9999",
        "1e-9999",
        "9e1000*9e1000",
        "10**1000*10**1000",
        "(" * 500 + "1" + ")" * 499,
        "-" * 999 + "1",
        "2**" * 300 + "2",
        "1" * (MAX_LENGTH + 1),
        "7**1400/3**2300" + "+1/7" * 246,
        "7**1400/3**2300" + "%7" * 490,
    ],
)
def test_no_input_costs_much(expression: str) -> None:
    """Evaluated in earnest, most of these would not end within anybody's patience."""
    assert re.search("digits|deep|longer|^[0-9.]{1,1300}$", outcome(expression))


def test_large_results_are_exact() -> None:
    assert evaluate("7**1400") == 7**1400
    assert len(decimal_text(evaluate(f"10**{MAX_DIGITS - 1}"))) == MAX_DIGITS


def test_declaration() -> None:
    spec = declare(calculator).spec
    assert (spec.name, spec.risk, spec.effect) == ("calculator", "low", "read")
    assert spec.schema["required"] == ["expression"]


numbers = st.one_of(
    st.integers(-(10**30), 10**30),
    st.decimals(-(10**9), 10**9, places=6, allow_nan=False, allow_infinity=False),
)
OPERATORS: dict[str, Callable[[Any, Any], Any]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": operator.truediv,
    "//": operator.floordiv,
    "%": operator.mod,
}


def leaf(value: Any) -> tuple[str, Fraction]:
    return f"({value:f})" if value < 0 else f"{value:f}", Fraction(value)


def plain(value: Any) -> tuple[str, Fraction]:
    return (f"({value})" if value < 0 else str(value), Fraction(value)) if isinstance(value, int) else leaf(value)


def combined(children: st.SearchStrategy[tuple[str, Fraction]]) -> st.SearchStrategy[tuple[str, Fraction]]:
    def join(left: tuple[str, Fraction], symbol: str, right: tuple[str, Fraction]) -> tuple[str, Fraction]:
        if right[1] == 0 and symbol in ("/", "//", "%"):
            symbol = "+"
        return f"({left[0]} {symbol} {right[0]})", Fraction(OPERATORS[symbol](left[1], right[1]))

    return st.builds(join, children, st.sampled_from(sorted(OPERATORS)), children)


@given(st.recursive(numbers.map(plain), combined, max_leaves=8))
def test_agrees_with_fractions(case: tuple[str, Fraction]) -> None:
    expression, expected = case
    if len(expression) <= MAX_LENGTH:
        assert evaluate(expression) == expected


@given(st.lists(st.tuples(st.sampled_from(["+", "-", "*", "//", "%"]), st.integers(1, 10**6)), min_size=1, max_size=12))
def test_precedence_is_pythons(steps: list[tuple[str, int]]) -> None:
    expression = "7" + "".join(f" {symbol} {number}" for symbol, number in steps)
    assert evaluate(expression) == eval(expression)


@given(st.integers(-30, 30), st.integers(-20, 20))
def test_powers(base: int, exponent: int) -> None:
    if base or exponent >= 0:
        assert evaluate(f"({base}) ** {exponent}") == Fraction(base) ** exponent


@given(st.fractions())
def test_decimal_text_is_exact_or_close(value: Fraction) -> None:
    text = decimal_text(value)
    error = abs(Fraction(text) - value)
    rest = value.denominator
    for prime in (2, 5):
        while rest % prime == 0:
            rest //= prime
    assert error == 0 if rest == 1 else error <= abs(value) / 10 ** (PRECISION - 1)
    assert "e" not in text.lower()


@given(st.text(alphabet="0123456789.,_eE+-*/%^()x× =", max_size=60))
def test_any_text_gives_a_number_or_a_clear_error(text: str) -> None:
    assert outcome(text)
