"""What a call of a tool and its result are, without their noise: what tells whether it is the same step again, and how sure that is.

Nothing here is remembered: `app.agent.loops` compares steps. See ops/decisions/0021 for why what counts depends on the result.
"""

from __future__ import annotations

import re
from typing import Any, Literal

import msgspec

from app.agent import waiting
from app.agent.noise import LONGEST, exact, parsed, plain, quiet, settled, text_of, unechoed
from app.agent.waiting import BRIEFEST, leaves, tokens
from app.domain.messages import ToolCall
from app.domain.tools import ToolSpec

Key = tuple[str, ...]
Kind = Literal["nothing", "verdict", "content", "long"]
"""What a result is: that there is nothing; a few plain values, which answer the very question that was asked; more than that; much more."""

SENTENCE = 100
"""Characters of a text that may be a verdict."""
FEW = 6
"""Plain values of a verdict, at most."""
PATIENCE = 6
"""So many times of waiting count as one: 24 looks at what is not there yet."""
TRIES = 2
"""So many failures that are likely to pass count as one: eight of them, which is more than is tried by habit."""

_PLACES = frozenset({"page", "offset", "skip", "limit", "start", "top", "k", "max", "per", "p"})
_ADVANCES = frozenset({"page", "offset", "skip", "start"})
_ENDINGS = frozenset({"total", "pages"})
_CURSORS = frozenset({"cursor", "page", "continuation", "next"})
_QUERIES = frozenset({"q", "query", "queries", "question", "search", "keywords", "prompt", "topic"})
_REASONS = frozenset({"reason", "reasoning", "explanation", "rationale", "justification"})
_LOOKS = frozenset({"get", "fetch", "read", "list", "describe", "show", "query", "find", "look", "lookup", "view", "search", "check", "status",
                    "poll", "is", "watch", "monitor", "ask"})  # fmt: skip
_DEEDS = frozenset(
    {
        "set",
        "update",
        "change",
        "add",
        "create",
        "delete",
        "remove",
        "send",
        "post",
        "put",
        "write",
        "edit",
        "clear",
        "save",
    }
)
_SEARCHES = frozenset({"search", "find", "ask", "google", "lookup", "research"})
_STEPS = frozenset({"i", "step", "round", "turn"})
_SLEEPS = frozenset({"wait", "sleep"})
_YES_OR_NO = frozenset({"yes", "no", "true", "false", "ok"})
_DIGITS = re.compile(r"(?<![\w-])[\w-]*\d[\w.-]*")
_PATH = re.compile(r"(?<!\S)\S*/\S*")
_NUMBER = re.compile(r"\d+(?:\.\d+)?")
_NOTHING = re.compile(
    r"\b(?:no|nothing|none|not found|(?:could ?n[o']t|can ?not|can't|unable to|did ?n[o']t) (?:be )?(?:find|found|locate)|empty|zero|0 (?:results?|rows?|hits?|matches|items?))\b",
    re.I,
)
_PART = re.compile(r"\b\d+ ?(?:of|out of|/) ?\d+\b")
_CODE = re.compile(r"[=;(){}<>]|\n")
_PASSING = re.compile(
    r"\b(?:retry|try again|try later|timed[ -]out|temporar(?:il)?y|overloaded|rate[ _-]?limit(?:ed|ing)?|too many requests|internal server error|bad gateway"
    r"|service unavailable|econnre(?:set|fused)|etimedout)\b|time-?out(?! (?:must|should|value|is|argument|parameter))"
    r"|\bconnection\w*\W{1,3}(?:\w+ ){0,2}(?:refused|reset|aborted)\b"
    r"|(?:^|\b(?:http[\w/.]*|status|code|error)\W{1,3}(?:code\W{1,3})?)(?:429|5\d\d)\b",
    re.I,
)
"""Of an error that another try may not meet: too many requests, 5xx, timeouts, connections, what says so."""
_COUNTED = re.compile(r"/(?:p|page)/\d+(?=[/ ]|$)")


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """A call and what came of it.

    `same`: the same call with the same result. `alike`: another call whose difference makes no other question of it, with that very result
    (None: every difference does). `counted`: as `same`, with `numbers` left out of the result (None: it has none, or they are progress).
    `news`: two readings of the result; where both are known, it said nothing new. `looks`: it changes nothing. `long`: a look with a long result.
    `patience`: so many times count as one.
    """

    same: Key
    alike: Key | None = None
    counted: Key | None = None
    numbers: tuple[float, ...] = ()
    news: tuple[Key, Key]
    looks: bool = False
    long: bool = False
    patience: int = 1


def read(call: ToolCall, spec: ToolSpec | None, is_error: bool, result: str) -> Step:
    """The step that a call of that tool was; `result` as the model reads it."""
    given = parsed(call.arguments) if call.arguments.strip() else {}
    asked = text_of(quiet(_asked(given))) if isinstance(given, dict) else call.arguments.strip()
    if is_error:
        return _failed(call, given, asked, result)
    looks = _looks(call, spec, given)
    value = parsed(result) if len(result) <= LONGEST else result
    if _may_wait(call, spec, looks, value):
        same = (call.name, asked, settled(value, result))
        return Step(same=same, news=(same, (call.name, result)), patience=PATIENCE)
    kind, promised = _kind(value, result), _is_promised(value, given)
    kind = "verdict" if promised and kind == "nothing" else kind
    came = "nothing" if kind == "nothing" else settled(value, result)
    same = (call.name, asked, came)
    numbers = tuple(float(found) for found in _NUMBER.findall(came)[:50])
    counted = (call.name, asked, _NUMBER.sub("#", came)) if numbers and not _PART.search(came) else None
    long = looks and kind == "long"
    told = (call.name, exact(value, result) if long else result) if looks else (call.name, came)
    return Step(
        same=same,
        alike=_alike(call, given, kind, value, result) if looks and not promised else None,
        counted=counted,
        numbers=numbers,
        news=(counted or same, told),
        looks=looks,
        long=long,
    )


def _failed(call: ToolCall, given: Any, asked: str, result: str) -> Step:
    """The same error is the same step, whatever the words and the numbers were that it came of."""
    error = unechoed(result[:LONGEST], [item for _, item in leaves(given) if isinstance(item, str) and len(item) > 2])
    error = _DIGITS.sub("#", _PATH.sub("#", settled(error, error))).replace("<id>", "#")
    alike = ""
    if isinstance(given, dict):
        words = frozenset(name for name, item in given.items() if isinstance(item, str) and len(item.split()) > 2)
        alike = _NUMBER.sub("#", text_of(quiet(_asked(given, words | _queries(call, given)))))
    same = (call.name, asked, error)
    patience = TRIES if _PASSING.search(result[:LONGEST]) else 1
    return Step(same=same, alike=("error", call.name, alike, error), news=(same, (call.name, error)), patience=patience)


def _alike(call: ToolCall, given: Any, kind: Kind, value: Any, result: str) -> Key | None:
    """What stays of a look where the words of its query, and the place in the list, are left out, with the result to the letter but for those.

    A verdict answers its own question, unless it is words about a query. One word is a thing where nothing came of it, or much.
    """
    if not isinstance(given, dict):
        return None
    queries = _queries(call, given)
    if kind == "verdict" and not _worded(value, given, queries):
        return None
    if kind == "nothing":
        came = "nothing"
    else:
        places = {name: item for name, item in given.items() if _is_place(name, item)}
        came = unechoed(exact(_away(value, places), result), [given[name] for name in queries])
    several = frozenset(name for name in queries if kind not in ("nothing", "long") or len(given[name].split()) > 1)
    return kind, call.name, text_of(quiet(_asked(given, several, places=False))), came


def _looks(call: ToolCall, spec: ToolSpec | None, given: Any) -> bool:
    """Whether it changes nothing: as declared, else (what says nothing counts as a write) because words are searched with, or by its name."""
    if (spec is not None and spec.effect == "read") or (isinstance(given, dict) and _queries(call, given)):
        return True
    words = tokens(call.name) or ("",)
    return words[0] in _LOOKS or (words[-1] in _LOOKS and words[0] not in _DEEDS)


def _may_wait(call: ToolCall, spec: ToolSpec | None, looks: bool, value: Any) -> bool:
    """What is written again is no waiting, whatever state it says: only a tool that is declared so, or that does nothing else."""
    if (spec is not None and spec.polls is True) or not _SLEEPS.isdisjoint(tokens(call.name)):
        return True
    return looks and waiting.waits(value)


def _kind(value: Any, result: str) -> Kind:
    if len(result) >= BRIEFEST:
        return "nothing" if isinstance(value, dict | list) and _has_nothing(value) else "long"
    if isinstance(value, str):
        if value.strip().lower() not in _YES_OR_NO and (not value.strip() or _NOTHING.search(value)):
            return "nothing"
        return "verdict" if len(value) <= SENTENCE else "content"
    if _has_nothing(value):
        return "nothing"
    parts = leaves(value)
    plain = all(not isinstance(item, str) for _, item in parts)
    brief = len(parts) <= FEW and all(not isinstance(item, str) or len(item) <= SENTENCE for _, item in parts)
    return "verdict" if brief and (plain or not _listed(value)) else "content"


def _listed(value: Any) -> bool:
    return isinstance(value, list) or (isinstance(value, dict) and any(_listed(item) for item in value.values()))


def _has_nothing(value: Any) -> bool:
    """Null, an empty list or object, or one with such in it and no other; zeros and nothing else; a sentence that says so."""
    if value is None or value in ([], {}):
        return True
    if not isinstance(value, dict):
        return False
    inner = [item for item in value.values() if isinstance(item, dict | list)]
    if inner:
        return all(_empty(item) for item in inner)
    if any(isinstance(item, str) and " " in item and _NOTHING.search(item) for item in value.values()):
        return True
    return all(item is None or item == "" or (item == 0 and item is not False) for item in value.values())


def _is_promised(value: Any, given: Any) -> bool:
    """Whether the place that was asked for is before the end of the list, as the result tells it: an empty page between others is no end."""
    if not isinstance(value, dict) or not isinstance(given, dict):
        return False
    ends = [item for name, item in leaves(value) if not _ENDINGS.isdisjoint(tokens(name)) and type(item) is int]
    places = [item for name, item in given.items() if type(item) is int and not _ADVANCES.isdisjoint(tokens(name))]
    return bool(ends) and any(place < max(ends) for place in places)


def _empty(value: Any) -> bool:
    return not value or (
        isinstance(value, dict) and all(isinstance(item, dict | list) and not item for item in value.values())
    )


def _worded(value: Any, given: dict[str, Any], queries: frozenset[str]) -> bool:
    """Whether a verdict is words about a query, or several about a place in a list: no yes, no number."""
    words = [item for _, item in leaves(value) if isinstance(item, str) and item.lower() not in _YES_OR_NO]
    if any(len(given[name].split()) > 1 for name in queries):
        return bool(words)
    return any(len(item.split()) > 1 for item in words) and any(_is_place(name, item) for name, item in given.items())


def _away(value: Any, places: dict[str, Any]) -> Any:
    """Without the place that was asked for, where it says that back under a name of a place."""
    if not isinstance(value, dict):
        return value
    asked = set(map(str, places.values()))
    return {key: item for key, item in value.items() if not (_is_place(key, item) and str(item) in asked)}


def _queries(call: ToolCall, given: dict[str, Any]) -> frozenset[str]:
    """The arguments that are words to search with: named so, or several words told to a tool that searches, unless they are a name or code."""
    searches = not _SEARCHES.isdisjoint(tokens(call.name))
    return frozenset(
        name
        for name, item in given.items()
        if isinstance(item, str)
        and _CODE.search(item) is None
        and (not _QUERIES.isdisjoint(tokens(name)) or (searches and _is_prose(item)))
    )


def _is_prose(text: str) -> bool:
    words = text.split()
    return len(words) > 2 and sum(word[0].islower() for word in words) * 2 > len(words)


def _is_place(name: str, item: Any) -> bool:
    """Whether it says where in a list to read, and how much: no other question where nothing else came of it."""
    words = tokens(name)
    if "id" in words or isinstance(item, dict | list | bool):
        return False
    number = not isinstance(item, str) or item.isdecimal()
    cursor = "cursor" in words or ("token" in words and not _CURSORS.isdisjoint(words))
    return cursor or (number and not _PLACES.isdisjoint(words))


def _is_beside(name: str, item: Any) -> bool:
    """Whether it only says why, or how often by now, something else is asked."""
    return name in _REASONS or (name in _STEPS and isinstance(item, int))


def _asked(given: dict[str, Any], words: frozenset[str] = frozenset(), *, places: bool = True) -> dict[str, Any]:
    """Arguments as they count: without what only stands beside others, those `words`, and without `places` in a list."""
    kept: dict[str, Any] = {}
    for name, item in given.items():
        if item is None or (len(given) > 1 and _is_beside(name, item)) or (not places and _is_place(name, item)):
            continue
        kept[name] = "<words>" if name in words else plain(item)
        if not places and isinstance(kept[name], str):
            kept[name] = _COUNTED.sub("/<page>", kept[name])
    return kept
