"""When a result says that something is not there yet, by the shape of its value: then the same call again is waiting, not a loop."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any

LONGEST = 4_000
"""Characters of a text that are searched for what is not up yet."""
BRIEFEST = 200
"""Characters of a text that may be a word about waiting."""
SMALL = 4
"""Plain values of an object that is about its state; a larger one is a record that has one among others."""
NEW = ("new",)
"""A state that stands alone: what begins with it (New York) is none."""
ACCEPTED = 202
"""The status of HTTP for what is still to be done."""

_TOKEN = re.compile(r"[a-z0-9]+")
_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_STATES = frozenset({"status", "state", "phase"})
_BEGUN = frozenset(
    {"queued", "enqueued", "started", "submitted", "accepted", "created", "scheduled", "requested", "initialized"}
)
_GOING = frozenset(
    {"progress", "not", "queue", "retry", "review", "transit", "incomplete", "unfinished", "busy", "half", "partially"}
)
_ENDS = frozenset({
    "ok", "okay", "success", "successful", "done", "ready", "complete", "error", "failure", "fail", "active", "inactive", "open", "available",
    "unavailable", "unknown", "none", "null", "empty", "invalid", "valid", "found", "sent", "paid", "online", "offline", "up", "down", "on", "off",
    "healthy", "normal", "enabled", "shipped", "200", "200 ok", "missing", "nothing", "public", "private", "in stock", "out of stock",
})  # fmt: skip
_SHARES = frozenset({"progress", "percent", "percentage", "pct"})
_DONE = frozenset({"done", "completed", "processed", "finished"})
_RESULTS = frozenset({"result", "output"})
_VERDICTS = frozenset({"ok", "success", "successful", "valid", "error", "found"})
_SAYS = re.compile(
    r"\b(?:pending|queued|in[ -](?:progress|queue)|processing|loading|running|working|still|busy|waiting|please wait|one moment|being \w+|eta|almost"
    r"|check back|later|soon|shortly|no \w+ yet|not (?:\w+ )?(?:ready|done|finished|complete|completed|available|yet|there yet))\b|\b\d{1,2}(?:\.\d+)? ?%",
    re.I,
)
_STARTING = re.compile(r"\(health: starting\)")
"""What a list of containers says of one that is not up yet, however long the list is."""
_STATED = re.compile(r"\b(?:status|state|phase)\b(?: is\b)?[\s:='\"]{1,4}([\w-]{1,60})", re.I)
_PART = re.compile(r"(?<!page )(?<!showing )\b(\d{1,6}) ?(?:of|out of|/) ?(\d{1,6})\b(?!/)", re.I)
_DOING = re.compile(r"(?!(?:nothing|missing|warning|string)\b)[a-z]{3,20}ing", re.I)


@lru_cache(maxsize=1_000)
def tokens(name: str) -> tuple[str, ...]:
    """The words of a name, however they are joined."""
    return tuple(_TOKEN.findall(_CAMEL.sub("_", name[:BRIEFEST]).lower()))


def leaves(value: Any, name: str = "") -> list[tuple[str, Any]]:
    """The plain values, each under the nearest name, and empty lists and objects as such."""
    if isinstance(value, dict) and value:
        return [leaf for key, item in value.items() for leaf in leaves(item, key)]
    if isinstance(value, list) and value:
        return [leaf for item in value for leaf in leaves(item, name)]
    return [(name, value)]


def waits(value: Any) -> bool:
    """Whether a result, as JSON or a text, says that it is not there yet.

    In an object with few values any state that is no known end does, and so do a plain false and a missing result; in a longer one, or in a
    list, only a state that is known to be on the way.
    """
    if isinstance(value, str):
        return _STARTING.search(value[:LONGEST]) is not None or (len(value) <= BRIEFEST and _text_waits(value))
    if value is False:
        return True
    if not isinstance(value, dict | list):
        return False
    parts = leaves(value)
    states = [item for name, item in parts if isinstance(item, str | int) and not _STATES.isdisjoint(tokens(name))]
    if any(_on_the_way(state) for state in states):
        return True
    if any(_is_part(name, item, parts) for name, item in parts):
        return True
    if isinstance(value, list) or len(parts) > SMALL or any(isinstance(item, dict | list) for _, item in parts):
        return False
    if states:
        return not any(_is_end(state) for state in states)
    return _is_no(parts)


def _on_the_way(state: str | int) -> bool:
    if not isinstance(state, str):
        return state == ACCEPTED
    words = tokens(state[:BRIEFEST])
    if "not" in words and "found" in words:
        return False
    return words == NEW or (
        any("ing" in word[3:] or word in _BEGUN or word in _GOING for word in words) and words[0] not in _ENDS
    )


def _is_end(state: str | int) -> bool:
    """The past of a verb, or one of the few ends that are none; what is a number says nothing."""
    if not isinstance(state, str):
        return True
    words = tokens(state[:BRIEFEST])
    return (
        not words
        or " ".join(words) in _ENDS
        or "found" in words
        or any(word.endswith("ed") or word in _ENDS for word in words)
    )


def _is_part(name: str, item: Any, parts: list[tuple[str, Any]]) -> bool:
    """Whether it is a part of a whole that is greater: of a hundred (of one, for a fraction), or of the total beside it."""
    if isinstance(item, bool) or not isinstance(item, int | float):
        return False
    words = tokens(name)
    if not _SHARES.isdisjoint(words):
        return item < 1 or 1 < item < 100
    if _DONE.isdisjoint(words):
        return False
    total = next((of for key, of in parts if "total" in tokens(key) and isinstance(of, int | float)), None)
    return total is not None and item < total


def _is_no(parts: list[tuple[str, Any]]) -> bool:
    """Whether it is a no and nothing but, or a result that is missing."""
    if any(not _VERDICTS.isdisjoint(tokens(name)) or item is True for name, item in parts):
        return False
    return any(item is False or (item is None and not _RESULTS.isdisjoint(tokens(name))) for name, item in parts)


def _text_waits(text: str) -> bool:
    if _SAYS.search(text) is not None or any(_on_the_way(state) for state in _STATED.findall(text)):
        return True
    if any(int(part) < int(of) for part, of in _PART.findall(text)):
        return True
    return _DOING.fullmatch(text.strip().rstrip(".…")) is not None
