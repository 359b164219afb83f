"""Finds the arithmetic that a sentence asks for, in symbols or in English words. No model, no calculation: text in, expressions out."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterator

MAX_TEXT = 4_000
"""Characters of a message that are read."""
MAX_EXPRESSIONS = 8
"""Expressions that one message may ask for."""
MAX_EXPRESSION = 1_000
"""Characters of one expression; a longer one is left alone."""

_NUMBER = r"(?:[0-9]{1,3}(?:,[0-9]{3})+(?![0-9])|[0-9]+)(?:\.[0-9]+)?|\.[0-9]+"
_OPERAND = rf"(?:[-+−]\s?)?(?:{_NUMBER}|\([^()]*\))"
_GLUE = r"(?:\s*,\s*(?:and\s+)?|\s+and\s+|\s*&\s*)"
_LIST = rf"({_OPERAND}(?:{_GLUE}{_OPERAND})+)"
_FILL = r"(?:\s+(?:of|up|the|numbers?|values?|integers?|together|both|between|(?:[0-9]+\s+)(?=numbers|values|integers)))*:?\s+"

_THEN = rf"(?<![0-9])({_OPERAND}),?\s+(?:and\s+then|and|then)\s+"

_UNITS = "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen nineteen"
_TENS = "twenty thirty forty fifty sixty seventy eighty ninety"
_WORDS: dict[str, int] = {word: value for value, word in enumerate(_UNITS.split())}
_WORDS |= {word: 10 * value for value, word in enumerate(_TENS.split(), start=2)}
_SCALES = {"hundred": 100, "thousand": 1_000, "million": 1_000_000, "billion": 1_000_000_000}
_ANY_WORD = "|".join([*_WORDS, *_SCALES])
_NUMBER_WORDS = re.compile(rf"\b(?:{_ANY_WORD})(?:(?:[\s-]+|(?<=d|n)\s+and\s+)(?:{_ANY_WORD}))*\b", re.IGNORECASE)

_NOT_ARITHMETIC = re.compile(r"\b[0-9]{4}-[0-9]{2}-[0-9]{2}\b|\b[0-9]{1,2}:[0-9]{2}\b|\b[0-9]+(?:\.[0-9]+){2,}\b")
_CURRENCY = re.compile(r"[$€£]\s*(?=[0-9.])")


def _joined(operator: str) -> Callable[[re.Match[str]], str]:
    return lambda match: "(" + operator.join(re.findall(_OPERAND, match[1])) + ")"


def _phrase(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern, re.IGNORECASE)


_PHRASES: list[tuple[re.Pattern[str], str | Callable[[re.Match[str]], str]]] = [
    (_phrase(rf"(?<![0-9])({_OPERAND})\s*(?:%|percent)\s+of\s+({_OPERAND})"), r"(\1 / 100 * \2)"),
    (
        _phrase(
            rf"\b(?:subtract|subtracting|take|taking|deduct|deducting)\s+({_OPERAND})\s+(?:away\s+)?from\s+({_OPERAND})"
        ),
        r"(\2 - \1)",
    ),
    (
        _phrase(rf"(?<![0-9])({_OPERAND})\s+(?:subtracted|taken|deducted)\s+(?:away\s+)?from\s+({_OPERAND})"),
        r"(\2 - \1)",
    ),
    (_phrase(rf"\b(?:divide|dividing)\s+({_OPERAND})\s+by\s+({_OPERAND})"), r"(\1 / \2)"),
    (_phrase(rf"\b(?:multiply|multiplying)\s+({_OPERAND})\s+(?:by|with|times)\s+({_OPERAND})"), r"(\1 * \2)"),
    (_phrase(rf"\b(?:add|adding)\s+({_OPERAND})\s+(?:to|with)\s+({_OPERAND})"), r"(\1 + \2)"),
    (_phrase(rf"\b(?:product|multiply|multiplying|multiplication){_FILL}{_LIST}"), _joined(" * ")),
    (_phrase(rf"\b(?:sum|total|add|adding|addition|summing){_FILL}{_LIST}"), _joined(" + ")),
    (_phrase(rf"\b(?:difference|subtract|subtracting|subtraction){_FILL}{_LIST}"), _joined(" - ")),
    (_phrase(rf"\b(?:quotient|ratio|division){_FILL}{_LIST}"), _joined(" / ")),
    (_phrase(rf"\b(?:double|twice)\s+({_OPERAND})"), r"(2 * \1)"),
    (_phrase(rf"\bhalf\s+of\s+({_OPERAND})"), r"(\1 / 2)"),
    (_phrase(rf"\bsquare\s+of\s+({_OPERAND})"), r"(\1 ** 2)"),
    (_phrase(rf"\bcube\s+of\s+({_OPERAND})"), r"(\1 ** 3)"),
    (_phrase(rf"{_THEN}(?:add|plus)\s+({_OPERAND})(?!\s*(?:to|and|,)\b)"), r"(\1 + \2)"),
    (_phrase(rf"{_THEN}(?:subtract|minus)\s+({_OPERAND})(?!\s*(?:from|and|,)\b)"), r"(\1 - \2)"),
    (_phrase(rf"{_THEN}multiply\s+(?:(?:it|that|the\s+result)\s+)?by\s+({_OPERAND})"), r"(\1 * \2)"),
    (_phrase(rf"{_THEN}divide\s+(?:(?:it|that|the\s+result)\s+)?by\s+({_OPERAND})"), r"(\1 / \2)"),
]
"""Read in this order, again and again until nothing changes; each leaves parentheses that others may take as an operand."""

_INFIX = [
    (_phrase(r"\b(?:multiplied\s+(?:by|with)|times|multiply)\b"), "*"),
    (_phrase(r"\b(?:divided\s+by|over)\b"), "/"),
    (_phrase(r"\b(?:plus|added\s+to|add)\b"), "+"),
    (_phrase(r"\b(?:minus|negative|take\s+away|subtract)\b"), "-"),
    (_phrase(r"\b(?:modulo|modulus|mod)\b"), "%"),
    (_phrase(r"\b(?:raised\s+)?to\s+the\s+power\s+(?:of\b)?|\braised\s+to\b"), "**"),
    (_phrase(r"\bsquared\b"), "** 2"),
    (_phrase(r"\bcubed\b"), "** 3"),
]
_TOKEN = re.compile(
    rf"(?<![0-9.])(?:{_NUMBER})(?![0-9A-WYZa-wyz_]|\.[0-9])|\*\*|//|[-+*/%^()×÷−·]|(?<![A-Za-z])[xX](?![A-Za-z])"
)
_SAME = {"×": "*", "·": "*", "x": "*", "X": "*", "÷": "/", "−": "-", "^": "**"}
_BINARY = frozenset({"+", "-", "*", "/", "//", "%", "**"})


def expressions(text: str) -> list[str]:
    """What `text` asks to calculate, in its order, each with spaces around its operators, without repetitions."""
    found: dict[str, None] = {}
    for run in _runs(_symbolic(text[:MAX_TEXT])):
        position = 0
        while position < len(run):
            end = _sum_end(run, position, 0)
            if end is None or not _calculates(run[position:end]):
                position = position + 1 if end is None else end
                continue
            expression = _written(_bare(run[position:end]))
            if len(expression) <= MAX_EXPRESSION:
                found[expression] = None
            position = end
    return list(found)[:MAX_EXPRESSIONS]


def _symbolic(text: str) -> str:
    """The text with number words as digits, phrases as parentheses and operator words as operators."""
    text = _NOT_ARITHMETIC.sub(" ; ", _CURRENCY.sub("", text))
    text = _NUMBER_WORDS.sub(_digits, text)
    text = re.sub(r"\b(?:minus|negative)\s+(?=[0-9.])(?<![0-9)]\s)", "-", text, flags=re.IGNORECASE)
    for _ in range(8):
        before = text
        for pattern, meaning in _PHRASES:
            text = pattern.sub(meaning, text)
        if text == before:
            break
    for pattern, operator in _INFIX:
        text = pattern.sub(f" {operator} ", text)
    return text


def _digits(match: re.Match[str]) -> str:
    words = [word for word in re.split(r"[\s-]+", match[0].lower()) if word != "and"]
    total = group = 0
    for before, word in zip(["", *words], words, strict=False):
        if word in _SCALES:
            scale = _SCALES[word]
            if scale == 100:
                group = max(group, 1) * 100
            else:
                total, group = total + max(group, 1) * scale, 0
        elif before in _WORDS and not (_WORDS[before] >= 20 and 0 < _WORDS[word] < 10):
            return match[0]  # "one two": a list, not a number
        else:
            group += _WORDS[word]
    return str(total + group)


def _runs(text: str) -> Iterator[list[str]]:
    """Tokens that nothing but blanks separates."""
    run: list[str] = []
    end = 0
    for match in _TOKEN.finditer(text):
        if run and text[end : match.start()].strip(" \t"):
            yield run
            run = []
        run.append(_SAME.get(match[0], match[0].replace(",", "")))
        end = match.end()
    if run:
        yield run


def _sum_end(tokens: list[str], start: int, depth: int) -> int | None:
    """Where the longest expression that begins at `start` ends; None where none does."""
    end = _operand_end(tokens, start, depth)
    while end is not None and end < len(tokens) and tokens[end] in _BINARY:
        further = _operand_end(tokens, end + 1, depth)
        if further is None:
            break
        end = further
    return end


def _operand_end(tokens: list[str], start: int, depth: int) -> int | None:
    signs = 0
    while start < len(tokens) and tokens[start] == "-" and signs < 3:
        start, signs = start + 1, signs + 1
    if start == len(tokens) or depth > 20:
        return None
    if tokens[start] == "(":
        end = _sum_end(tokens, start + 1, depth + 1)
        return end + 1 if end is not None and end < len(tokens) and tokens[end] == ")" else None
    return start + 1 if tokens[start][0] in "0123456789." else None


def _calculates(tokens: list[str]) -> bool:
    """Whether an operator stands between two operands."""
    return any(
        token in _BINARY and before not in _BINARY and before != "(" for before, token in itertools.pairwise(tokens)
    )


def _bare(tokens: list[str]) -> list[str]:
    """Without parentheses around the whole."""
    while tokens[0] == "(" and _sum_end(tokens, 1, 0) == len(tokens) - 1:
        tokens = tokens[1:-1]
    return tokens


def _written(tokens: list[str]) -> str:
    text = ""
    before = "("
    for token in tokens:
        binary = token in _BINARY and before not in _BINARY and before != "("
        text += f" {token} " if binary else token
        before = token
    return text
