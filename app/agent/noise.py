"""Calls and results without what does not count in them: nonces, clocks, ids, the order of things, the form in which they are written."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import msgspec

from app.agent.waiting import tokens

LONGEST = 4_000
"""Characters of a result that is read as JSON; a longer one counts as a text."""
DEEPEST = 64
"""Levels of lists and objects in what is read as JSON; what has more counts as a text."""
END = 1_000
"""Characters of each end of a text that are searched for noise; what is between them does not count where the call is the same."""
_NOISE = frozenset({
    "nonce", "timestamp", "ts", "now", "attempt", "attempts", "retry", "retries", "try", "tries", "iteration", "iter", "salt", "seed", "random",
    "rand", "rnd", "bust", "buster", "cachebuster", "cb", "trace", "correlation", "idempotency", "elapsed", "took", "latency", "counter", "seq",
    "uuid", "guid", "etag", "uptime",
})  # fmt: skip
_NOISE_NAMES = frozenset({"_", "t", "duration_ms", "server_time", "generated_at", "fetched_at"})
_MESSENGERS = frozenset({"request", "req", "call", "client", "message", "session", "span"})
_QUOTA = frozenset({"quota", "credits", "ratelimit"})
_COMMENT = re.compile(r"\s(?:--|#|//)\s.*$|/\*.*?\*/", re.M)
_TRY = re.compile(r"[(\[]?\b(?:attempt|try|retry|nonce)\b[\s#:=]*\d+[)\]]?", re.I)
_CLOCK = re.compile(
    r"(?=\d)(?<!\w)(?:\d{4}-\d\d-\d\d[T ]\d\d:\d\d(?::\d\d(?:\.\d+)?)?(?: ?Z|[+-]\d\d:?\d\d)?|\d{1,2}:\d\d(?::\d\d(?:\.\d+)?)?\b"
    r"|(?:1[5-9]|20)\d{8}(?:\d{3}|\d{6}|\d{9})?(?:\.\d+)?\b|\d+(?:\.\d+)? ?(?:ms|µs|ns|s|sec|seconds)\b)"
)
_SIGN = re.compile(
    r"(?<![\w/+=-])(?:(?=[a-zA-Z_/+=-]*\d)(?=[\d_/+=-]*[a-zA-Z])[\w/+=-]{2,}|\d{5,}\b(?! [a-z]{3,}s\b)|(?<=#)\d+|(?i:ref|trace)\b\W{0,3}[\w-]+"
    r"|(?i:id|request)\b\W{0,3}[\w-]*\d[\w-]*)"
)
_MAY_HAVE = re.compile(r"\d|\bref\b|\btrace\b", re.I)


def plain(value: Any) -> Any:
    """Without nulls, case, needless whitespace, comments and the numbers of tries; a URL without what changes nothing."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items() if item is not None}
    if isinstance(value, list):
        return [plain(item) for item in value]
    if isinstance(value, str):
        return value if len(value) > LONGEST else _text(value)
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _text(value: str) -> str:
    return _url(value) if "://" in value[:12] else " ".join(_TRY.sub("", _COMMENT.sub("", value)).casefold().split())


def _url(text: str) -> str:
    """Without its fragment, and those parts of its query that are noise or have no value."""
    try:
        parts = urlsplit(text.strip())
    except ValueError:
        return text
    query = sorted((name, item) for name, item in parse_qsl(parts.query) if not _is_noise(name) and name.strip("?"))
    return f"{parts.scheme}://{parts.netloc.lower()}{parts.path.rstrip('/')} {query}"


def quiet(given: dict[str, Any]) -> dict[str, Any]:
    """Arguments without nonces: what is named so, and fractions with more digits than anybody asks for. An id that stands alone is what is asked for."""
    kept: dict[str, Any] = _quiet(given)
    return kept or {name: item for name, item in given.items() if tokens(name)[-1:] in (("id",), ("uuid",), ("guid",))}


def _quiet(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _quiet(item) for key, item in value.items() if not _is_noise(key) and not _is_draw(item)}
    return [_quiet(item) for item in value] if isinstance(value, list) else value


def _is_draw(item: Any) -> bool:
    return isinstance(item, float) and 0 < item < 1 and len(repr(item)) >= 10


@lru_cache(maxsize=1_000)
def _is_noise(name: str) -> bool:
    words = tokens(name)
    carried = words[-1:] == ("id",) and not _MESSENGERS.isdisjoint(words)
    return name == "_" or "_".join(words) in _NOISE_NAMES or not _NOISE.isdisjoint(words) or carried


@lru_cache(maxsize=1_000)
def _is_told(name: str) -> bool:
    """Whether it is named as what an answer says of itself, or of what is left to the asker."""
    words = tokens(name)
    return _is_noise(name) or not _QUOTA.isdisjoint(words) or {"rate", "limit"}.issubset(words)


@lru_cache(maxsize=1_000)
def _is_sign(name: str) -> bool:
    """Whether it is named as what only tells one answer from another."""
    last = tokens(name)[-1:]
    return last in (
        ("id",),
        ("hash",),
        ("checksum",),
        ("digest",),
        ("signature",),
        ("token",),
        ("session",),
    ) or _is_told(name)


def settled(value: Any, result: str) -> str:
    """A result of the same call, without times, ids and noise, lists in no order. Digits within a word make it an id."""
    if isinstance(value, str):
        ends = result if len(result) <= 2 * END else result[:END] + result[-END:]
        return _unsigned(ends)
    return text_of(_settle(value))


def _settle(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _settle(item) for key, item in value.items() if isinstance(item, dict | list) or not _is_sign(key)}
    if isinstance(value, list):
        return sorted((_settle(item) for item in value), key=text_of)
    return _unsigned(value) if isinstance(value, str) else value


def _unsigned(text: str) -> str:
    return _SIGN.sub("<id>", _CLOCK.sub("<time>", text)) if _MAY_HAVE.search(text) else text


def exact(value: Any, result: str) -> str:
    """A result to the letter, but for what is noise by its name, and the order of lists: a time may be what was asked for."""
    if isinstance(value, dict | list):
        return text_of(_sorted(value))
    return result


def _sorted(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _sorted(item) for key, item in value.items() if not _is_told(key)}
    return sorted((_sorted(item) for item in value), key=text_of) if isinstance(value, list) else value


def unechoed(result: str, given: list[str]) -> str:
    """Without what it only says after the arguments."""
    for item in sorted(given, key=len, reverse=True):
        if len(item) > 2:
            result = result.replace(item, "<asked>").replace(text_of(item)[1:-1], "<asked>")
    return result


def parsed(text: str) -> Any:
    """The JSON that it is, or itself: also where that is so deep that what looks into it could not come back."""
    try:
        value = msgspec.json.decode(text.encode())
    except (msgspec.DecodeError, RecursionError, UnicodeError):
        return text
    return text if _is_deep(value) else value


def _is_deep(value: Any) -> bool:
    """Level by level: it never calls itself."""
    level = [value]
    for _ in range(DEEPEST + 1):
        level = [
            item
            for one in level
            if isinstance(one, dict | list)
            for item in (one.values() if isinstance(one, dict) else one)
        ]
        if not level:
            return False
    return True


def text_of(value: Any) -> str:
    return msgspec.json.encode(value, order="deterministic").decode()
