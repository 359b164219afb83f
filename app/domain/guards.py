"""What must be the same in two questions before one may have the other's answer, however near their meanings lie.

Measured, vectors put "Delete user 17" beside "Delete user 18" and "Enable it" beside "Disable it". So of both questions
- numbers with their units, ids, quoted and code-like words, addresses, names and currencies must be the same, in the same order;
- negations (how many), question words, opposites (`enable`, `before`), and words of time must be the same sets;
- and they must not be one word apart, or have the same words in another order (`near_miss`).
It is text that is compared, in no language in particular: the lists of words are `guard_words`. In doubt they differ.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter

from app.domain.guard_words import FILLERS, MONEY, NEGATIONS, NUMBERS, OPENERS, OPPOSITES, QUESTIONS, TIMES

LONGEST = 1_000
"""Characters of a question that is looked at: of more than that nobody can say whether it means the same, and not in a short time."""
Features = tuple[tuple[str, ...], frozenset[str]]
"""What must be the same: in this order, and at all."""

_TOKEN = re.compile(
    r"""
    (?P<quoted> "[^"\n]{1,200}" | “[^”\n]{1,200}” | „[^“”\n]{1,200}[“”] | «[^»\n]{1,200}» | `[^`\n]{1,200}` | (?<!\w)'[^'\n]{1,200}'(?!\w) )
  | (?P<address> [a-z][a-z0-9+.-]*://[^\s<>"]+ | \bwww\.[^\s<>"]+ | [\w.+-]+@[\w-]+\.[\w.-]+ )
  | (?P<number> [-+−]?(?:[#№$€£¥₹%]\s?)?\d+(?:[.,:/×x^-]\d+)*(?![\w]) (?:\s?(?:%|‰|°[CFcf]?|[$€£¥₹]|[^\W\d_]{1,12}(?![\w])))? )
  | (?P<word> [#@$]?[^\W_][\w]*(?:['’./\\:_+-]+\w+)*[+#]* | [$_]\w+ | [$€£¥₹%+=<>*&|^~] )
  | (?P<end> [.!?…]+(?=\s|$) | \n | :\s )
    """,
    re.VERBOSE | re.IGNORECASE,
)
_CONTRACTED = re.compile(r"n['’]t$")
_CODE = re.compile(r"\d|[_/\\:+#@$]|\w\.\w|[a-zß-ÿ][A-Z]")


def features(text: str) -> Features:
    """What of that question must be the same in another one."""
    ordered: list[str] = []
    loose: set[str] = set()
    negations = 0
    begins = True
    for match in _TOKEN.finditer(unicodedata.normalize("NFKC", text)):
        kind, token = match.lastgroup, match[0]
        if kind == "end":
            begins = True
            continue
        first, begins = begins, False
        if kind != "word":
            ordered.append(_exact(kind or "", token))
            continue
        word = token.casefold().replace("’", "'")
        bare = word.removesuffix("'s")
        if word in NEGATIONS or _CONTRACTED.search(word):
            negations += 1
        if bare in QUESTIONS:
            loose.add(f"question {bare}")
        if word in OPPOSITES:
            loose.add(f"opposite {word}")
        if bare in TIMES or bare.removesuffix("s") in TIMES:
            loose.add(f"time {bare.removesuffix('s')}")
        if word in NUMBERS:
            ordered.append(f"number {NUMBERS[word]}")
        elif word in MONEY or not word[0].isalnum() or _CODE.search(token):
            ordered.append(f"word {token}")
        elif _is_name(token, bare, first=first):
            ordered.append(f"name {bare}")
    return tuple(ordered), frozenset(loose | {f"negations {negations}"})


def _exact(kind: str, token: str) -> str:
    if kind == "quoted":
        return f"quoted {token[1:-1]}"
    if kind != "number":
        return f"{kind} {token}"
    unit = re.search(r"[^\W\d_]+$", token)
    if unit is not None and unit[0].casefold() in FILLERS:  # "17 of them" has no unit
        token = token[: unit.start()]
    return f"number {''.join(token.split())}"


def _is_name(token: str, word: str, *, first: bool) -> bool:
    """A capitalised word, but for those with which sentences begin, and the English I."""
    if not token[0].isupper() or word in ("i", "i'm", "i'd", "i've", "i'll"):
        return False
    known = word in OPENERS or word in QUESTIONS or word in NEGATIONS or word in OPPOSITES or _CONTRACTED.search(word)
    if token.isupper() and len(token) > 1:
        return not known
    return not (first and known)


def near_miss(a: str, b: str) -> bool:
    """Whether two texts are the same but for one word (in place of another, or more), or but for their order: most likely the
    very word that matters. Fillers and a plural's `s` do not count.
    """
    first, second = _content(a), _content(b)
    if first == second:
        return False
    missing, added = Counter(first) - Counter(second), Counter(second) - Counter(first)
    return missing.total() <= 1 and added.total() <= 1


def _content(text: str) -> list[str]:
    words = re.findall(r"\w+", unicodedata.normalize("NFKC", text).casefold())
    return [
        word.removesuffix("s") if len(word) > 3 else word
        for word in words
        if word not in FILLERS and word not in QUESTIONS
    ]
