"""Exact arithmetic of one expression, by a parser of our own: nothing is evaluated, and no input costs more than a few milliseconds."""

from __future__ import annotations

import re
from decimal import Context, Decimal
from fractions import Fraction

from app.tools.declare import tool

MAX_LENGTH = 1_000
"""Characters of an expression."""
MAX_DEPTH = 40
"""Parentheses, signs and powers within each other."""
MAX_DIGITS = 1_200
"""Decimal digits of every number on the way, numerator and denominator alike."""
PRECISION = 20
"""Digits after the integer part (significant ones, where that is 0) to which a decimal that never ends is rounded, half to even."""

_MAX_BITS = MAX_DIGITS * 3322 // 1000
_TOKEN = re.compile(
    r"\s*(?:([0-9]{1,3}(?:,[0-9]{3})+(?![0-9,])(?:\.[0-9]+)?|(?:[0-9]+(?:_[0-9]+)*(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]{1,4})?)"
    r"|(\*\*|//|[-+*/%^()×÷−·xX]))"
)
_SAME = {"^": "**", "×": "*", "·": "*", "x": "*", "X": "*", "÷": "/", "−": "-"}


class CalculationError(ValueError):
    """The expression has no value here; the message says what to change."""


@tool(risk="low", effect="read", timeout=5, returns="trusted")
async def calculator(expression: str) -> str:
    """Calculate one arithmetic expression exactly, for example "(2 + 3) * 4.5" or "1,234 / 7". It knows + - * / // (floor) % (remainder) ** (power) and parentheses; the result is a decimal number.

    Args:
        expression: Numbers and operators only: no names, functions, units or percent signs after a number.
    """
    return decimal_text(evaluate(expression))


def evaluate(expression: str) -> Fraction:
    """The exact value. Raises CalculationError for what is no expression, too large or undefined."""
    if len(expression) > MAX_LENGTH:
        raise CalculationError(f"the expression is longer than {MAX_LENGTH} characters: calculate it in parts")
    return _Parser(_tokens(expression.strip().removesuffix("="))).value()


def decimal_text(value: Fraction) -> str:
    """Plain decimal digits: whole numbers and decimals that end are exact, others rounded to `PRECISION`."""
    if value.denominator == 1:
        return str(value.numerator)
    twos = (value.denominator & -value.denominator).bit_length() - 1
    rest, fives = value.denominator >> twos, 0
    while rest % 5 == 0:
        rest, fives = rest // 5, fives + 1
    whole = len(str(abs(value.numerator) // value.denominator).lstrip("0"))
    places = max(twos, fives) if rest == 1 else PRECISION
    quotient = Context(prec=whole + places).divide(Decimal(value.numerator), Decimal(value.denominator))
    text = f"{quotient:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def _tokens(text: str) -> list[str | Fraction]:
    tokens: list[str | Fraction] = []
    position, end = 0, len(text.rstrip())
    while position < end:
        match = _TOKEN.match(text, position)
        if match is None:
            raise CalculationError(
                f"cannot read {text[position:].strip()[:20]!r}: use numbers, + - * / // % ** and parentheses"
            )
        number, operator = match.groups()
        tokens.append(_bounded(Fraction(number.replace(",", ""))) if number else _SAME.get(operator, operator))
        position = match.end()
    return tokens


def _bounded(value: Fraction) -> Fraction:
    if max(value.numerator.bit_length(), value.denominator.bit_length()) > _MAX_BITS:
        raise CalculationError(f"a number on the way has more than {MAX_DIGITS} digits")
    return value


class _Parser:
    """Recursive descent: sum → product → sign → power → number or parentheses. Powers bind tighter than signs and to the right."""

    def __init__(self, tokens: list[str | Fraction]) -> None:
        self._tokens = tokens
        self._next = 0
        self._depth = 0

    def value(self) -> Fraction:
        if not self._tokens:
            raise CalculationError("the expression is empty")
        value = self._sum()
        if self._next < len(self._tokens):
            raise CalculationError(f"an operator is missing before {self._shown()}")
        return value

    def _accept(self, *operators: str) -> str | None:
        token = self._tokens[self._next] if self._next < len(self._tokens) else None
        if isinstance(token, str) and token in operators:
            self._next += 1
            return token
        return None

    def _shown(self) -> str:
        if self._next == len(self._tokens):
            return "the end"
        token = self._tokens[self._next]
        return repr(token) if isinstance(token, str) else decimal_text(token)

    def _sum(self) -> Fraction:
        value = self._product()
        while operator := self._accept("+", "-"):
            right = self._product()
            value = _bounded(value + right if operator == "+" else value - right)
        return value

    def _product(self) -> Fraction:
        value = self._sign()
        while operator := self._accept("*", "/", "//", "%"):
            right = self._sign()
            if operator != "*" and right == 0:
                raise CalculationError("division by zero")
            match operator:
                case "*":
                    value = value * right
                case "/":
                    value = value / right
                case "//":
                    value = Fraction(value // right)
                case _:
                    value = value % right
            value = _bounded(value)
        return value

    def _sign(self) -> Fraction:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise CalculationError(f"the expression is nested more than {MAX_DEPTH} deep")
        operator = self._accept("+", "-")
        value = self._power() if operator is None else self._sign()
        self._depth -= 1
        return -value if operator == "-" else value

    def _power(self) -> Fraction:
        base = self._atom()
        return _power(base, self._sign()) if self._accept("**") else base

    def _atom(self) -> Fraction:
        if self._accept("("):
            value = self._sum()
            if not self._accept(")"):
                raise CalculationError(f"')' is missing before {self._shown()}")
            return value
        token = self._tokens[self._next] if self._next < len(self._tokens) else None
        if not isinstance(token, Fraction):
            raise CalculationError(f"a number is missing before {self._shown()}")
        self._next += 1
        return token


def _power(base: Fraction, exponent: Fraction) -> Fraction:
    if exponent.denominator != 1:
        raise CalculationError("only whole exponents are possible")
    if base == 0 and exponent < 0:
        raise CalculationError("division by zero")
    if abs(base) not in (0, 1):  # these stay small under any exponent
        smallest = max(base.numerator.bit_length(), base.denominator.bit_length()) - 1
        if smallest * abs(exponent) > _MAX_BITS:
            raise CalculationError(f"a number on the way has more than {MAX_DIGITS} digits")
    return _bounded(Fraction(base ** (int(exponent) % 2 if abs(base) == 1 else int(exponent))))
