"""When two calls of tools are the same step again: what of their arguments and results counts, and what is only noise.

A step is what was asked and what came of it. Two readings of it are kept, because what is noise depends on the other half:
the same arguments with results that differ in the time of day only, and a read whose result is the same whatever it was asked.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any

import msgspec

from app.domain.messages import ToolCall
from app.domain.tools import ToolSpec

Pair = tuple[str, str, str]
"""A tool, what it was asked, and what came of it, each without its noise."""

LONGEST = 4_000
"""Characters of a result that is searched for noise; a longer one is taken as it is."""
BRIEFEST = 200
"""Characters of a result that may be a sentence about waiting."""
ACCEPTED = 202
"""The status of HTTP for what is still to be done."""
REFUSED: Pair = ("", "", "refused")
"""Every call that was not run: an unknown tool, arguments that do not fit, a denial. Which one it was makes no progress."""

_TOKEN = re.compile(r"[a-z0-9]+")
_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_NOISE = frozenset({
    "nonce", "timestamp", "ts", "now", "attempt", "attempts", "retry", "retries", "try", "tries", "iteration", "iter",
    "salt", "random", "rand", "cachebuster", "trace", "correlation", "idempotency", "elapsed", "took", "latency",
})  # fmt: skip
_NOISE_NAMES = frozenset({"request_id", "req_id", "cache_buster", "duration_ms", "server_time", "_"})
_NAMING = frozenset({
    "id", "ids", "name", "names", "path", "paths", "file", "files", "filename", "folder", "dir",
    "directory", "url", "uri", "link", "email", "mail", "user", "account", "customer", "order", "ticket", "issue",
    "number", "no", "code", "sku", "symbol", "ticker", "city", "country", "place", "location", "address", "lat", "lon",
    "latitude", "longitude", "zip", "date", "day", "days", "month", "year", "week", "from", "to", "start", "end",
    "since", "until", "before", "after", "begin", "host", "domain", "table", "column", "row", "index", "repo", "branch",
    "commit", "version", "channel", "topic", "project", "item", "product", "ref", "tag",
})  # fmt: skip
_PLACES = frozenset({"page", "offset", "cursor", "skip", "limit", "token"})
_UNFINISHED = frozenset({
    "pending", "queued", "running", "processing", "waiting", "scheduled", "started", "starting", "working", "building",
    "created", "submitted", "accepted", "in_progress", "inprogress", "not_ready", "in_queue", "initializing",
    "provisioning", "retrying", "incomplete",
})  # fmt: skip
_STATES = frozenset({"status", "state", "phase"})
_ENDS = frozenset({"done", "finished", "ready", "complete", "completed", "available"})
_PARTS = frozenset({"progress", "percent", "percentage"})
_WATCHING = frozenset(
    {"status", "state", "poll", "check", "wait", "watch", "await", "monitor", "is", "ready", "done", "progress"}
)
_NO = frozenset({"", "false", "null", "no", "none", "0", "[]", "{}"})
_WAITS = re.compile(
    r"\b(?:pending|queued|in[ -](?:progress|queue)|still (?:running|processing|working|waiting)|processing|loading|please wait|check back"
    r"|not (?:yet )?(?:ready|done|finished|complete|completed|available)(?: yet)?)\b|\b\d{1,2}(?:\.\d+)? ?%",
    re.I,
)
_CLOCK = re.compile(
    r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(?::\d\d(?:\.\d+)?)?(?: ?Z|[+-]\d\d:?\d\d)?|\b\d{1,2}:\d\d:\d\d(?:\.\d+)?\b"
    r"|\b(?:1[5-9]|20)\d{8}(?:\d{3}|\d{6}|\d{9})?(?:\.\d+)?\b|\b\d+(?:\.\d+)? ?(?:ms|µs|ns)\b"
)
_NUMBERED = re.compile(r"\b[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}\b|\b[0-9a-f]{16,}\b|\d+", re.I)
_SCALAR = re.compile(r"\s*(?:-?\d[\d.,]*(?:e[+-]?\d+)?|true|false|yes|no)\s*", re.I)


def same_asked(call: ToolCall, is_error: bool, result: str) -> Pair:
    """The step by its arguments, without nonces and counters of attempts; times in its result do not count."""
    return call.name, _arguments(call, named_only=False), _failure(result) if is_error else _settled(result)


def same_found(call: ToolCall, spec: ToolSpec | None, is_error: bool, result: str) -> Pair:
    """The step by its result, to the letter. Of a read's arguments only what names a thing or a day counts: other words that find the
    same are no progress. A call that writes does something else with every argument; a number, a yes or a no answers its own question.
    """
    if is_error:
        return call.name, _arguments(call, named_only=True), _failure(result)
    reads = spec is not None and spec.effect == "read" and _SCALAR.fullmatch(result[:50]) is None
    return call.name, _arguments(call, named_only=reads), result


def waits(call: ToolCall, spec: ToolSpec | None, is_error: bool, result: str) -> bool:
    """Whether the result says that it is not there yet: the same call again is then waiting, not a loop.

    A plain no says so where the tool is one that looks after something, by its name.
    """
    if is_error:
        return False
    if spec is not None and spec.polls is True:
        return True
    if len(result) > LONGEST:
        return False
    if result.strip().lower() in _NO:
        return not _WATCHING.isdisjoint(_tokens(call.name))
    value = _json(result)
    if isinstance(value, dict | list):
        return _unfinished(value)
    return len(result) <= BRIEFEST and (_said_unfinished(result) or _WAITS.search(result) is not None)


def _arguments(call: ToolCall, *, named_only: bool) -> str:
    value = _json(call.arguments) if call.arguments.strip() else {}
    if value is msgspec.UNSET:
        return "" if named_only else call.arguments.strip()
    value = _plain(value)
    if isinstance(value, dict):
        value = _named(value) if named_only else _quiet(value)
    return _text(value)


def _settled(result: str) -> str:
    """A result without times and ids of requests."""
    if len(result) > LONGEST:
        return result
    value = _json(result)
    if isinstance(value, dict | list):
        result = _text(_quiet(_plain(value)))
    return _CLOCK.sub("<time>", result)


def _failure(result: str) -> str:
    """An error without its numbers and ids: the same error again, wherever it stands."""
    return _NUMBERED.sub("<n>", result[:LONGEST])


def _json(text: str) -> Any:
    """The value; UNSET where it is no JSON."""
    try:
        return msgspec.json.decode(text.encode())
    except (msgspec.DecodeError, RecursionError, UnicodeError):
        return msgspec.UNSET


def _text(value: Any) -> str:
    return msgspec.json.encode(value, order="deterministic").decode()


def _plain(value: Any) -> Any:
    """Without nulls, without needless whitespace, whole numbers as such."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items() if item is not None}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, str):
        return " ".join(value.split())
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _tokens(key: str) -> list[str]:
    return _TOKEN.findall(_CAMEL.sub("_", key).lower())


@lru_cache(maxsize=1_000)
def _is_noise(key: str) -> bool:
    tokens = _tokens(key)
    return key == "_" or "_".join(tokens) in _NOISE_NAMES or not _NOISE.isdisjoint(tokens)


def _quiet(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _quiet(item) for key, item in value.items() if not _is_noise(key)}
    return [_quiet(item) for item in value] if isinstance(value, list) else value


def _named(value: dict[str, Any]) -> dict[str, Any]:
    return {key: _quiet(item) for key, item in value.items() if isinstance(item, dict | list) or _names(key)}


@lru_cache(maxsize=1_000)
def _names(key: str) -> bool:
    """Whether it says of what thing, or of when, the caller speaks; where in a list it reads is not that."""
    tokens = _tokens(key)
    place = not _PLACES.isdisjoint(tokens) and "id" not in tokens
    return not _NAMING.isdisjoint(tokens) and not place and not _is_noise(key)


def _unfinished(value: Any) -> bool:
    if isinstance(value, list):
        return any(map(_unfinished, value))
    return isinstance(value, dict) and any(_says_unfinished(key, item) for key, item in value.items())


def _says_unfinished(key: str, item: Any) -> bool:
    tokens = _tokens(key)
    if not _STATES.isdisjoint(tokens) and (item == ACCEPTED or (isinstance(item, str) and _said_unfinished(item))):
        return True
    if not _PARTS.isdisjoint(tokens) and isinstance(item, int | float):
        return item < 1 or 1 < item < 100
    return (not _ENDS.isdisjoint(tokens) and item is False) or _unfinished(item)


def _said_unfinished(text: str) -> bool:
    """Whether it is the name of a state on the way."""
    return "_".join(_tokens(text[:BRIEFEST])) in _UNFINISHED
