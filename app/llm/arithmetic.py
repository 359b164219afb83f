"""Finds the arithmetic that a sentence asks for, in symbols or in English words. No model, no calculation: text in, expressions out."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterator
from decimal import Decimal

MAX_TEXT = 4_000
"""Characters of a message that are read."""
MAX_EXPRESSIONS = 8
"""Expressions that one message may ask for."""
MAX_EXPRESSION = 1_000
"""Characters of one expression; a longer one is left alone."""

_NUMBER = r"(?>(?:[0-9]+(?:\.[0-9]+)?|\.[0-9]+)(?:e[+-]?[0-9]+)?)"
_OPERAND = rf"(?:(?<![0-9)])(?<![0-9)] )[-+] ?)?(?:{_NUMBER}|\((?:[^()]|\([^()]*\))*\))"
_FIRST = rf"(?<![\w.*/%+-])(?<![*/%+-] )({_OPERAND})"
"""An operand that is not the right side of an operator: `10 - 3 and add 4` must not become `10 - (3 + 4)`."""
_GLUE = r"(?:\s*,\s*(?:and\s+)?|\s+and\s+|\s*&\s*)"
_LIST = rf"(?<![\w.*/%+-])(?<![*/%+,-] )(?<!and )(?<!,)({_OPERAND}(?:{_GLUE}{_OPERAND})++)"
_FILL = r"(?:\s+(?:of|up|the|numbers?|values?|integers?|together|both|between|(?:[0-9]+\s+)(?=numbers|values|integers)))*:?\s+"
_THEN = rf"{_FIRST},?\s+(?:and\s+then|and|then)\s+"
_BE = r"(?:(?:is|are|was|were|gets?|being|be)\s+)?"
_MORE = r"(?:more|larger|bigger|greater|higher|older|longer|taller|heavier)"
_LESS = r"(?:less|fewer|smaller|lower|younger|shorter|lighter)"
_SHRUNK = r"(?:decreased|reduced|lowered|diminished|lessened)"
_COMPARED = r"(?<!^is )(?<![^st] is )(?<!if )"
"""Before a comparison such as `5 more than 3`: "what is" asks for a number, "is" and "if" only whether it is so."""

_UNITS = "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen nineteen"
_TENS = "twenty thirty forty fifty sixty seventy eighty ninety"
_WORDS: dict[str, int] = {word: value for value, word in enumerate(_UNITS.split())}
_WORDS |= {word: 10 * value for value, word in enumerate(_TENS.split(), start=2)}
_SCALES = {"hundred": 100, "thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12}
_ANY_WORD = "|".join([*_WORDS, *_SCALES])
_NUMBER_WORDS = re.compile(rf"\b(?:{_ANY_WORD})(?:(?:[\s-]+|(?<=d|n)\s+and\s+)(?:{_ANY_WORD}))*\b", re.IGNORECASE)
_SCALED = re.compile(rf"(?<![\w.])([0-9]+(?:\.[0-9]+)?) ({'|'.join(_SCALES)})\b", re.IGNORECASE)

_VOID = "¤"
"""Stands for what looks like a number and is none; nothing beside it is calculated."""
_DAY, _YEAR = "(?:0?[1-9]|[12][0-9]|3[01])", "(?:[0-9]{2}|[0-9]{4})"
_NOT_ARITHMETIC = re.compile(
    rf"\b[0-9]{{4}}([-/])[0-9]{{1,2}}\1[0-9]{{1,2}}\b|\b{_DAY}([-/]){_DAY}\2{_YEAR}\b|\b(?:19|20)[0-9]{{2}}-0[1-9]\b"
    r"|\b[0-9]{1,2}:[0-9]{2}\b|\b[0-9]{3}[- ][0-9]{3}[- ][0-9]{4}\b|\b24/7\b(?!\s*[=?])"
    r"|\b(?:pages?|pp\.?|chapters?|rows?|lines?|rooms?|call|phone|tel\.?|ages?|aged|steps?|scored?|won|lost)\s+[0-9]+[-/][0-9]+"
    r"|(?<![\w.)/*+-])(?<![/*+-]\s)[0-9]+[-/][0-9]+(?=\s+[a-z])(?!\s+(?:is|are|was|equals?|please|and|then|or|of|in|to|as|for"
    r"|plus|minus|times|mod|modulo|over|multiplied|divided|makes?|gives?|added|increased|decreased|reduced|squared|cubed|x)\b)",
    re.IGNORECASE,
)
_CURRENCY = re.compile(r"[$€£]\s*(?=[0-9.])")
_MARKER = re.compile(r"^[ \t]*(?:[0-9]{1,2}[.)]|[*•])[ \t]+", re.MULTILINE)
_BULLET = re.compile(r"^[ \t]*-[ \t]+", re.MULTILINE)
_GROUPED = re.compile(r"(?<![\w.,'’])([1-9][0-9]{0,2}(?: [0-9]{3})+)(?![\w'’]|[.,][0-9]+[\w.,])")
_WORD = re.compile(
    r"(?<![\w.,'’])(?:[0-9]+(?:\.[0-9]+)?|\.[0-9]+)[eE][+-][0-9]+(?![\w'’]|[.,][0-9])|[\w.,'’]+(?:(?<=[0-9][eE])[+-][0-9]+)?"
)
_WRITTEN = re.compile(
    r"(?:[1-9][0-9]{0,2}(?:,[0-9]{3})+|[0-9]+(?:_[0-9]+)*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]{1,4})?|\.[0-9]+(?:[eE][+-]?[0-9]{1,4})?"
)
_TIMES = re.compile(r"(?<=[0-9])[xX](?=[0-9.])|^[xX](?=[0-9.])")


def _joined(operator: str) -> Callable[[re.Match[str]], str]:
    return lambda match: "(" + operator.join(re.findall(_OPERAND, match[1])) + ")"


def _phrase(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern, re.IGNORECASE)


_PLAIN = [
    (_phrase(r"(?<=[0-9]) ?(?:percent|per cent)\b"), "%"),
    (_phrase(r"(?<![\w.])([0-9]+) point ([0-9]+)(?![\w.])"), r"\1.\2"),
    (_phrase(r"\bnegative (?=[0-9.(])"), "-"),
    (_phrase(r"(?<![0-9)] )\bminus (?=[0-9.(])"), "-"),
    (_phrase(rf"\b{_BE}multiplied\s+(?:by|with)\b|\btimes\b"), " * "),
    (_phrase(rf"\b{_BE}divided\s+by\b|(?<=[0-9)] )over\b"), " / "),
    (_phrase(r"\bplus\b"), " + "),
    (_phrase(r"\bminus\b|(?<=[0-9)] )less\b(?! than)"), " - "),
    (_phrase(r"\b(?:modulo|modulus|mod)\b"), " % "),
    (_phrase(rf"\b{_BE}(?:raised\s+)?to\s+the\s+power\s+(?:of\b)?|\b{_BE}raised\s+to\b"), " ** "),
    (_phrase(r"\bsquared\b"), " ** 2"),
    (_phrase(r"\bcubed\b"), " ** 3"),
    (_phrase(r" {2,}"), " "),
]
"""Words that stand where a sign would; read once, before the phrases."""
_PHRASES: list[tuple[re.Pattern[str], str | Callable[[re.Match[str]], str]]] = [
    # "please add 3 + 4": the sign says it already
    (
        _phrase(
            r"(^\s*|[.!?:;]\s*|\b(?:please|you|to|me|now)\s+)(?:add|subtract|multiply|divide)\s+"
            rf"(?={_OPERAND}\s*[-+*/×÷·]\s*{_OPERAND})"
        ),
        r"\1",
    ),
    (_phrase(rf"\bremainder\s+(?:of|when|if|after|from)\s+(?:dividing\s+)?({_OPERAND})\s*(?:/|by)\s*({_OPERAND})"), r"(\1 % \2)"),
    (_phrase(rf"{_FIRST}\s*%\s*of\s+({_OPERAND})"), r"(\1 / 100 * \2)"),
    (_phrase(rf"(?<![\w.*/%+-])([0-9]+ ?/ ?[0-9]+)\s+of\s+({_OPERAND})"), r"(\1 * \2)"),
    (_phrase(rf"\b(?:increase|raise)\s+({_OPERAND})\s+by\s+({_OPERAND})%"), r"(\1 * (100 + \2) / 100)"),
    (_phrase(rf"\b(?:decrease|reduce|lower|diminish)\s+({_OPERAND})\s+by\s+({_OPERAND})%"), r"(\1 * (100 - \2) / 100)"),
    (_phrase(rf"{_FIRST}\s+{_BE}increased\s+by\s+({_OPERAND})%"), r"(\1 * (100 + \2) / 100)"),
    (_phrase(rf"{_FIRST}\s+{_BE}{_SHRUNK}\s+by\s+({_OPERAND})%"), r"(\1 * (100 - \2) / 100)"),
    (_phrase(rf"\b(?:increase|raise)\s+({_OPERAND})\s+by\s+({_OPERAND})"), r"(\1 + \2)"),
    (_phrase(rf"\b(?:decrease|reduce|lower|diminish)\s+({_OPERAND})\s+by\s+({_OPERAND})"), r"(\1 - \2)"),
    (_phrase(rf"\bhow\s+(?:much|many)\s+{_MORE}\s+(?:is|are)\s+({_OPERAND})\s+than\s+({_OPERAND})"), r"(\1 - \2)"),
    (_phrase(rf"\bhow\s+(?:much|many)\s+{_LESS}\s+(?:is|are)\s+({_OPERAND})\s+than\s+({_OPERAND})"), r"(\2 - \1)"),
    (_phrase(rf"{_FIRST}\s+is\s+how\s+much\s+{_MORE}\s+than\s+({_OPERAND})"), r"(\1 - \2)"),
    (_phrase(rf"{_FIRST}\s+is\s+how\s+much\s+{_LESS}\s+than\s+({_OPERAND})"), r"(\2 - \1)"),
    (_phrase(rf"\bhow\s+much\s+does\s+({_OPERAND})\s+exceed\s+({_OPERAND})"), r"(\1 - \2)"),
    (_phrase(rf"{_COMPARED}{_FIRST}\s+more\s+than\s+({_OPERAND})"), r"(\2 + \1)"),
    (_phrase(rf"{_COMPARED}{_FIRST}\s+(?:less|fewer)\s+than\s+({_OPERAND})"), r"(\2 - \1)"),
    (
        _phrase(
            rf"\b(?:subtract|subtracting|take|taking|deduct|deducting|remove|removing)\s+(?:away\s+)?({_OPERAND})\s+(?:away\s+)?from\s+({_OPERAND})"
        ),
        r"(\2 - \1)",
    ),
    (_phrase(rf"{_FIRST}\s+{_BE}(?:subtracted|taken|deducted|removed)\s+(?:away\s+)?from\s+({_OPERAND})"), r"(\2 - \1)"),
    (_phrase(rf"\b(?:divide|dividing)\s+({_OPERAND})\s+by\s+({_OPERAND})"), r"(\1 / \2)"),
    (_phrase(rf"\bratio\s+of\s+({_OPERAND})\s+to\s+({_OPERAND})"), r"(\1 / \2)"),
    (_phrase(rf"\b(?:multiply|multiplying)\s+({_OPERAND})\s+(?:by|with|\*)\s+({_OPERAND})"), r"(\1 * \2)"),
    (_phrase(rf"\b(?:add|adding)\s+({_OPERAND})\s+(?:to|with)\s+({_OPERAND})"), r"(\1 + \2)"),
    (_phrase(rf"\b(?:product|multiply|multiplying|multiplication){_FILL}{_LIST}"), _joined(" * ")),
    (_phrase(rf"\b(?:sum|total|add|adding|addition|summing){_FILL}{_LIST}"), _joined(" + ")),
    (_phrase(rf"\b(?:difference|subtract|subtracting|subtraction){_FILL}{_LIST}"), _joined(" - ")),
    (_phrase(rf"\b(?:quotient|ratio|division){_FILL}{_LIST}"), _joined(" / ")),
    (_phrase(rf"{_LIST}\s+{_BE}multiplied(?:\s+together)?\b(?!\s+(?:by|with)\b)"), _joined(" * ")),
    (
        _phrase(
            rf"{_LIST}\s+{_BE}(?:(?:added|summed|combined)(?:\s+up|\s+together)?|together|altogether|in\s+total|adds?\s+up(?:\s+to)?"
            r"|sums?\s+(?:up\s+)?to)\b(?!\s+(?:to|with|by|from)\b)"
        ),
        _joined(" + "),
    ),
    (_phrase(rf"\b(?:how\s+much|what)\s+(?:do|does|would|will)\s+{_LIST}\s+(?:make|give|come\s+to|total)\b"), _joined(" + ")),
    (_phrase(rf"\b(?:double|twice)\s+({_OPERAND})"), r"(2 * \1)"),
    (_phrase(rf"\bhalf\s+of\s+({_OPERAND})"), r"(\1 / 2)"),
    (_phrase(rf"\bsquare\s+of\s+({_OPERAND})"), r"((\1) ** 2)"),
    (_phrase(rf"\bcube\s+of\s+({_OPERAND})"), r"((\1) ** 3)"),
    (_phrase(rf"{_THEN}(?:add|\+)\s+({_OPERAND})(?!\s*(?:to|and|,)\b)"), r"(\1 + \2)"),
    (_phrase(rf"{_THEN}(?:subtract)\s+({_OPERAND})(?!\s*(?:from|and|,)\b)"), r"(\1 - \2)"),
    (_phrase(rf"{_THEN}multiply\s+(?:(?:it|that|the\s+result)\s+)?by\s+({_OPERAND})"), r"(\1 * \2)"),
    (_phrase(rf"{_THEN}divide\s+(?:(?:it|that|the\s+result)\s+)?by\s+({_OPERAND})"), r"(\1 / \2)"),
]  # fmt: skip
"""Read in this order, again and again until nothing changes; each leaves parentheses that others may take as an operand."""
_VERBS = [
    (_phrase(rf"\b{_BE}(?:increased\s+by|added\s+to)\b|\badd\b"), " + "),
    (_phrase(rf"\b{_BE}{_SHRUNK}\s+by\b|\b(?:take\s+away|subtract)\b"), " - "),
    (_phrase(r"\bmultiply\b"), " * "),
]
_TOKEN = re.compile(rf"{_VOID}|{_NUMBER}|\*\*|//|[-+*/%^()×÷·]|(?<!\w)[xX](?!\w| ?\+| - )")
_SAME = {"×": "*", "·": "*", "x": "*", "X": "*", "÷": "/", "^": "**"}
_BINARY = frozenset({"+", "-", "*", "/", "//", "%", "**"})
_LEFT_OPEN = _phrase(
    r"\b(?!(?:result|value|answer|solution|outcome|output|calculation|evaluation|sum|total|product|difference|quotient|ratio) )\w+ of (?:the )?$"
    r"|\b(?:root|remainder|sqrt|log|ln|sin|cos|tan|average|mean|median|factorial|point)(?: of)? $"
)
"""Before a run that is only a part of what is asked: the root, the average, … of it."""
_LISTED = _phrase(r"\b(?:sum|total|product|difference|quotient|ratio) (?:of|between) (?:the )?$")
_CARRIED = _phrase(r" ?,? ?(?:and then|and|then) ?")


def expressions(text: str) -> list[str]:
    """What `text` asks to calculate, in its order, each with spaces around its operators, without repetitions.

    Only whole runs of numbers and operators count: of `3 + 4 kg - y`, `1,5 + 2` or `2 + 3 4` nothing is calculated, for a part
    of a calculation has another value.
    """
    found: dict[str, None] = {}
    for run in _runs(_symbolic(text[:MAX_TEXT])):
        while run and run[-1] == ")" and run.count(")") > run.count("("):
            run.pop()
        if _sum_end(run, 0, 0) == len(run) and _calculates(run):
            expression = _written(_bare(run))
            if len(expression) <= MAX_EXPRESSION:
                found[expression] = None
    return list(found)[:MAX_EXPRESSIONS]


def _symbolic(text: str) -> str:
    """The text with plain numbers, number words as digits, phrases as parentheses and operator words as operators."""
    text = re.sub(r"[^\S\n]+", " ", re.sub("[−–－‑]", "-", text))
    text = _MARKER.sub("; ", text)
    if len(_BULLET.findall(text)) > 1:
        text = _BULLET.sub("; ", text)
    text = _NOT_ARITHMETIC.sub(f" {_VOID} ", _CURRENCY.sub("", text))
    text = _GROUPED.sub(lambda match: match[0].replace(" ", ""), text)
    text = _WORD.sub(_plain_number, text)
    text = _SCALED.sub(lambda match: f"{Decimal(match[1]) * _SCALES[match[2].lower()]:f}", text)
    text = _NUMBER_WORDS.sub(_digits, text)
    for pattern, operator in _PLAIN:
        text = pattern.sub(operator, text)
    for _ in range(8):
        before = text
        for pattern, meaning in _PHRASES:
            text = pattern.sub(meaning, text)
        if text == before:
            break
    for pattern, operator in _VERBS:
        text = pattern.sub(operator, text)
    return re.sub(" {2,}", " ", text)


def _plain_number(match: re.Match[str]) -> str:
    """A word as it is, if it has no digit; a number, or numbers with x between them, without separators; else void."""
    word = match[0]
    if not re.search("[0-9]", word):
        return word
    inner = word.rstrip(".,'’").lstrip(",'’")
    if inner.startswith("..") or (inner.startswith(".") and not inner[1:2].isdigit()):
        inner = inner.lstrip(".")
    left, right = word[: word.index(inner)], word[word.index(inner) + len(inner) :]
    if re.fullmatch(r"(?:0|[1-9][0-9]*)(?:,(?:0|[1-9][0-9]*)){2,}", inner) and not _WRITTEN.fullmatch(inner):
        return left + inner.replace(",", ", ") + right
    if inner[-1] in "xX" and re.match(r" [0-9.(]", match.string[match.end() :]):
        inner, right = inner[:-1], " * "
    parts = _TIMES.split(inner)
    if (len(parts) > 1 and parts[0] == "0") or not all(_WRITTEN.fullmatch(part) for part in parts if part):
        return f" {_VOID} "
    return left + " * ".join(part.replace(",", "").replace("_", "").lower() for part in parts) + right


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
    """Tokens that nothing but blanks separates, where they are a whole calculation and not a part of one."""
    run: list[str] = []
    start = end = 0
    carried = False  # an operator follows the run before: `10 - 3, then * 4`
    for match in [*_TOKEN.finditer(text), None]:
        gap = text[end : match.start()] if match else ""
        if run and (match is None or gap.strip(" ")):
            ahead = bool(match and match[0] in _BINARY - {"-"} and _CARRIED.fullmatch(gap))
            before = text[max(start - 40, 0) : start]
            listed = _LISTED.search(before) and re.match(r" ?(?:,|and\b)", text[end : end + 8])
            if not (ahead or carried or listed or _LEFT_OPEN.search(before) or _VOID in run):
                yield run
            run, carried = [], ahead
        if match is None:
            return
        if not run:
            start = match.start()
        token = _SAME.get(match[0], match[0])
        run.append(_VOID if token in ("-", "(", "%") and _stray(text, match) else token)
        end = match.end()


def _stray(text: str, match: re.Match[str]) -> bool:
    """Whether a sign belongs to the word before it (`y-2`, `y - 2`, `sqrt(2)`), or % to its number (`20% - 5`)."""
    before = text[max(match.start() - 2, 0) : match.start()]
    if match[0] == "%":
        return before[-1:].isdigit() and re.match(r" [-+]", text[match.end() : match.end() + 2]) is not None
    spaced = match[0] == "-" and before[-1:] == " " and text[match.end() : match.end() + 1] == " "
    last = before[:-1] if spaced else before[-1:]
    return last.isalpha() or last == "_"


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
    while start < len(tokens) and (tokens[start] == "-" or (tokens[start] == "+" and start)) and signs < 3:
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
