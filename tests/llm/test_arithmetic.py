"""Arithmetic found in sentences."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.llm.arithmetic import MAX_EXPRESSIONS, expressions
from app.tools.calculator import CalculationError, evaluate


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("What is 12 * 7?", ["12 * 7"]),
        ("12 times 7", ["12 * 7"]),
        ("product of 12 and 7", ["12 * 7"]),
        ("What's the product of the numbers 3 and 4?", ["3 * 4"]),
        ("multiply 3 by 4", ["3 * 4"]),
        ("Multiply 3 and 4 please", ["3 * 4"]),
        ("3 multiplied by -2", ["3 * -2"]),
        ("sum of 3, 4 and 5", ["3 + 4 + 5"]),
        ("the sum of 3, 4, and 5", ["3 + 4 + 5"]),
        ("add 3 and 4", ["3 + 4"]),
        ("add 3 to 4", ["3 + 4"]),
        ("Please add together 3 and 4", ["3 + 4"]),
        ("5 added to 6", ["5 + 6"]),
        ("difference between 9 and 4", ["9 - 4"]),
        ("difference of 4 and 9", ["4 - 9"]),
        ("subtract 3 from 10", ["10 - 3"]),
        ("3 subtracted from 10", ["10 - 3"]),
        ("take 3 away from 10", ["10 - 3"]),
        ("10 minus 3", ["10 - 3"]),
        ("10-3", ["10 - 3"]),
        ("10 − 3", ["10 - 3"]),
        ("3 plus -4", ["3 + -4"]),
        ("3 - -4", ["3 - -4"]),
        ("negative 3 times 4", ["-3 * 4"]),
        ("what's 1,234 + 5.5", ["1234 + 5.5"]),
        ("product of 1,234 and 5,678", ["1234 * 5678"]),
        ("How much is 6x7", ["6 * 7"]),
        ("6 × 7", ["6 * 7"]),
        ("divide 10 by 4", ["10 / 4"]),
        ("10 divided by 4", ["10 / 4"]),
        ("10 ÷ 4", ["10 / 4"]),
        ("17 mod 5", ["17 % 5"]),
        ("2 to the power of 10", ["2 ** 10"]),
        ("3 squared plus 4 squared", ["3 ** 2 + 4 ** 2"]),
        ("15% of 200", ["15 / 100 * 200"]),
        ("half of 10", ["10 / 2"]),
        ("(2+3)*4", ["(2 + 3) * 4"]),
        ("multiply 3 by 4 and add 5", ["(3 * 4) + 5"]),
        ("add 3 and 4, then multiply the result by 2", ["(3 + 4) * 2"]),
        ("multiply 3 by 4 and add 5 to 6", ["3 * 4", "5 + 6"]),
        ("the sum of 3 and 4 multiplied by 2", ["(3 + 4) * 2"]),
        ("What is twelve times seven?", ["12 * 7"]),
        ("one hundred and five plus twenty-one", ["105 + 21"]),
        ("the sum of two and three", ["2 + 3"]),
        ("two thousand three hundred times 2", ["2300 * 2"]),
        ("12*7=?", ["12 * 7"]),
        ("$5 + $3", ["5 + 3"]),
        ("What is 3+4 and 5*6?", ["3 + 4", "5 * 6"]),
        ("Tell me 8 * 9, then tell me 4-9.", ["8 * 9", "4 - 9"]),
        ("3 + 4. And 3+4 again", ["3 + 4"]),
        ("hello", []),
        ("the date 2026-11-21 at 10:30, version 3.11.7", []),
        ("1. first\n2. second\n- 3\n- 4", []),
        ("3 + 12kg", []),
        ("3 +", []),
        ("", []),
    ],
)
def test_arithmetic_in_many_words(text: str, expected: list[str]) -> None:
    assert expressions(text) == expected


number = st.one_of(st.integers(-(10**6), 10**6), st.integers(-(10**40), 10**40)).map(str) | st.decimals(
    -(10**6), 10**6, places=3, allow_nan=False, allow_infinity=False
).map(lambda value: f"{value:f}")


PHRASES = {
    "*": [
        "What is {a} * {b}?",
        "{a} times {b}",
        "the product of {a} and {b}",
        "multiply {a} by {b}",
        "{a}×{b}",
        "Calculate {a} x {b}.",
    ],
    "+": [
        "What is {a} + {b}?",
        "{a} plus {b}",
        "sum of {a} and {b}",
        "add {a} and {b}",
        "please add {a} + {b}",
        "add {a} to {b}",
        "What's {a}+{b}",
    ],
    "-": [
        "{a} - {b}",
        "{a} minus {b}",
        "difference between {a} and {b}",
        "subtract {b} from {a}",
        "How much is {a}-{b}?",
    ],
}


@given(number, number, st.sampled_from([(op, phrase) for op, phrases in PHRASES.items() for phrase in phrases]))
def test_random_numbers_in_any_phrase(a: str, b: str, case: tuple[str, str]) -> None:
    operator, phrase = case
    assert expressions(phrase.format(a=a, b=b)) == [f"{a} {operator} {b}"]


ASKED: dict[str, list[str]] = {
    "*": [
        "if {a} is multiplied by {b}", "{a} is multiplied by {b}", "{a} multiplied by {b}", "{a} and {b} multiplied",
        "{a} and {b} multiplied together", "what do you get when you multiply {a} by {b}?", "the result of {a} times {b}",
        "{a} times {b} equals?", "compute {a}*{b}", "calculate {a} * {b}", "multiply {a} and {b}", "What is {a}×{b}?", "{a}x{b}",
        "product of {a} and {b}",
    ],
    "+": [
        "how much do {a} and {b} add up to?", "{a} and {b} added together", "increase {a} by {b}", "{a} increased by {b}",
        "what do you get when you add {a} to {b}", "{b} more than {a}", "What is {b} more than {a}?", "the total of {a} and {b}",
        "sum: {a} + {b}", "{a} plus {b}", "sum of {a} and {b}", "{a} + {b} = ?", "what do {a} and {b} make?",
    ],
    "-": [
        "{a} less {b}", "{a} reduced by {b}", "{a} is decreased by {b}", "decrease {a} by {b}", "how much more is {a} than {b}?",
        "how much larger is {a} than {b}", "how much bigger is {a} than {b}", "how much smaller is {b} than {a}",
        "take {b} away from {a}", "{a} take away {b}", "what do you get when you subtract {b} from {a}", "{b} less than {a}",
        "{a} - {b} = ?", "{a} − {b}", "difference between {a} and {b}", "difference of {a} and {b}", "{a} minus {b}",
    ],
}  # fmt: skip


KINDS: dict[str, st.SearchStrategy[tuple[str, Fraction]]] = {
    "int": st.integers(0, 10**6).map(lambda n: (str(n), Fraction(n))),
    "negative": st.integers(1, 10**6).map(lambda n: (f"-{n}", Fraction(-n))),
    "unicode": st.integers(1, 10**6).map(lambda n: (f"−{n}", Fraction(-n))),
    "words": st.integers(1, 10**6).map(lambda n: (f"negative {n}", Fraction(-n))),
    "huge": st.integers(10**24, 10**25 - 1).map(lambda n: (str(n), Fraction(n))),
    "decimal": st.integers(0, 10**9).map(lambda n: (f"{n // 1000}.{n % 1000:03}", Fraction(n, 1000))),
    "commas": st.integers(1000, 10**15).map(lambda n: (f"{n:,}", Fraction(n))),
    "spaces": st.integers(1000, 10**9).map(lambda n: (f"{n:,}".replace(",", " "), Fraction(n))),
    "underscores": st.integers(1000, 10**9).map(lambda n: (f"{n:_}", Fraction(n))),
    "scientific": st.integers(1, 999).map(lambda n: (f"{n}e3", Fraction(n * 1000))),
}


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=30, deadline=None)
@given(st.data())
def test_every_phrase_with_every_kind_of_number(kind: str, data: st.DataObject) -> None:
    (a, left), (b, right) = data.draw(KINDS[kind]), data.draw(KINDS[kind])
    for operator, phrases in ASKED.items():
        exact = {"*": left * right, "+": left + right, "-": left - right}[operator]
        for phrase in phrases:
            if phrase == "{a}x{b}" and (a == "0" or kind in ("negative", "unicode", "words", "spaces")):
                continue  # 0x1 is hexadecimal, and 5x-3 algebra
            text = phrase.format(a=a, b=b)
            found = expressions(text)
            assert len(found) == 1, text
            assert evaluate(found[0]) == exact, text


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("product of 3, 4 and 5", 60), ("minus 5 plus 3", -2), ("negative 5 times 3", -15), ("the square of -3", 9),
        ("decrease 200 by 10%", 180), ("200 increased by 10 percent", 220), ("2.5 million plus 1", 2_500_001), ("sum of 1,2,3", 6),
        ("remainder when 17 is divided by 5", 2), ("10 - 4 decreased by 5", 1), ("two point five plus 1", Fraction(7, 2)),
    ],
)  # fmt: skip
def test_values(text: str, value: int | Fraction) -> None:
    (found,) = expressions(text)
    assert evaluate(found) == value


@pytest.mark.parametrize(
    "text",
    [
        "I was born in 1999", "call 555 1234", "call 555-1234", "version 1.2.3", "2026-11-21", "10/11/2026", "21-11-2026",
        "+49 30 1234", "3-5 days", "pages 3-5", "3/4 cup of flour", "open 24/7", "555-123-4567", "555 123-4567", "COVID-19",
        "is 5 more than 3?", "if 5 less than 3",
        # a part of what is asked would have another value
        "3,5 + 1,5", "0,123 + 1", "2x + 3 + 5", "2x - 3 + 5", "2 x + 3", "5x-3", "5 + 3 - 12kg", "a + 2 + 3", "y - 2 + 3", "y-2+3", "sqrt(16) + 3",
        "square root of 16 plus 3", "0x10 + 1", "20% - 5", "50 plus 10 percent", "5k + 3", "1 2 + 3", "3 + 4 5 * 6",
        "10 minus 3 and add 4", "one and a half plus 2", "1__0 + 1", "1e + 5", "1.2.3 + 4", "the sum of 3 + 4 and 5",
    ],
)  # fmt: skip
def test_sentences_without_arithmetic_that_can_be_read(text: str) -> None:
    assert expressions(text) == []


@given(st.integers(0, 10**15))
def test_thousands_separators(value: int) -> None:
    assert expressions(f"{value:,} plus {value:,}") == [f"{value} + {value}"]


@given(st.text(alphabet="0123456789 .,+-*/()x×andofsumtims\n", max_size=200))
def test_any_text_is_read(text: str) -> None:
    for expression in expressions(text):
        try:
            evaluate(expression)
        except CalculationError as error:
            problem = str(error)
            hopeless = any(word in problem for word in ("digits", "division by zero", "whole exponents", "deep"))
            if not hopeless:
                raise


def test_bounds() -> None:
    assert len(expressions(" ; ".join(f"{n} + 1" for n in range(100)))) == MAX_EXPRESSIONS
    assert expressions("1+" * 600 + "1") == []
    for hostile in ("(" * 10**6, "-" * 10**6, "1" * 10**6, "1 and " * 10**5, "add (" * 10**5):
        assert expressions(hostile) == []
