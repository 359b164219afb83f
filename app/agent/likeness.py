"""When two calls of tools are the same step again: what of their arguments and results counts, and what is only noise.

A step is what was asked and what came of it. Three readings of it are kept, because what is noise depends on the other half:
the same arguments with results that differ in times and ids only, the same with results in which nothing but numbers moved, and
a read whose result is the same whatever it was asked.
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
    "created", "submitted", "accepted", "progress", "inprogress", "initializing", "provisioning", "retrying", "incomplete",
    "busy", "unfinished",
})  # fmt: skip
_TERMINAL = frozenset({
    "done", "succeeded", "success", "successful", "failed", "failure", "fail", "completed", "complete", "finished", "error", "errored",
    "cancelled", "canceled", "aborted", "stopped", "terminated", "closed", "resolved", "rejected", "refused", "denied", "expired", "timeout",
    "ok", "okay", "ready", "available", "none", "null", "empty", "missing", "unknown", "found", "deleted", "removed", "gone", "invalid",
    "skipped", "passed", "approved", "merged", "published", "shipped", "delivered", "sent", "paid", "refunded", "returned", "archived",
    "disabled", "inactive", "dead", "killed", "crashed",
})  # fmt: skip
_STATES = frozenset({"status", "state", "phase"})
_ENDS = frozenset({"done", "finished", "ready", "complete", "completed", "available"})
_PARTS = frozenset({"progress", "percent", "percentage"})
_LEFT = frozenset({"left", "remaining", "eta"})
_QUOTA = frozenset({"rate", "limit", "quota", "credits", "budget", "calls", "requests"})
_IDS = frozenset(
    {"etag", "hash", "checksum", "digest", "signature", "token", "uuid", "guid", "session", "query", "request"}
)
_WATCHING = frozenset(
    {"status", "state", "poll", "check", "wait", "watch", "await", "monitor", "is", "ready", "done", "progress"}
)
_LOOKING = _WATCHING | {"get", "fetch", "read", "list", "describe", "show", "query", "find", "look", "view", "search"}
_NO = frozenset({"", "false", "null", "no", "none", "0", "[]", "{}"})
_WAITS = re.compile(
    r"\b(?:pending|queued|in[ -](?:progress|queue)|processing|loading|yet|still|later|being|busy|wait(?:ing)?|eta|check back|almost|soon|shortly"
    r"|preparing|one moment|hold on|not (?:ready|done|finished|complete|completed|available))\b|\b\d{1,2}(?:\.\d+)? ?%|\b\d+ (?:of|out of) \d+\b",
    re.I,
)
_STATED = re.compile(r"\b(?:status|state|phase)\b(?: is\b)?[\s:='\"]{0,4}([\w-]{1,60})", re.I)
_DOING = re.compile(r"(?!(?:nothing|missing|warning|string)\b)[a-z]{3,20}ing", re.I)
_NOTHING = re.compile(r"\b(?:no|nothing|none|not found|empty|zero|0 (?:results?|rows?|hits?|matches|items?))\b", re.I)
_CLOCK = re.compile(
    r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(?::\d\d(?:\.\d+)?)?(?: ?Z|[+-]\d\d:?\d\d)?|\b\d{1,2}:\d\d:\d\d(?:\.\d+)?\b"
    r"|\b(?:1[5-9]|20)\d{8}(?:\d{3}|\d{6}|\d{9})?(?:\.\d+)?\b|\b\d+(?:\.\d+)? ?(?:ms|µs|ns)\b"
)
_NUMBERED = re.compile(r"\b[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}\b|\b[0-9a-f]{16,}\b|\d+", re.I)
_ID = re.compile(r"\b[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}\b|\b(?!\d+\b)[0-9a-f]{8,}\b", re.I)
_COUNTED = re.compile(r"\b(?=[a-z_-]{0,20}\d)[\w-]+|\d+", re.I)
_SCALAR = re.compile(r"\s*(?:-?\d[\d.,]*(?:e[+-]?\d+)?|true|false|yes|no)\s*", re.I)


def same_asked(call: ToolCall, spec: ToolSpec | None, is_error: bool, result: str) -> Pair:
    """The step by its arguments, without nonces and counters of attempts; times and ids in its result do not count, nor do numbers in
    one that finds nothing. A write does the same again whatever it says of it, unless that is more than a receipt.
    """
    if is_error:
        return call.name, _arguments(call, named_only=False), _failure(result)
    if _writes(call, spec) and len(result) <= BRIEFEST:
        return call.name, _arguments(call, named_only=False), "written"
    nothing = _nothing(result) and not waits(call, spec, is_error, result)
    result = _settled(result)
    return call.name, _arguments(call, named_only=False), _uncounted(result) if nothing else result


def same_but_numbers(call: ToolCall, spec: ToolSpec | None, is_error: bool, result: str) -> Pair:
    """As `same_asked`, with no number in the result either, unless it says that something is on its way: then they are its progress."""
    name, asked, came = same_asked(call, spec, is_error, result)
    return name, asked, came if waits(call, spec, is_error, result) else _uncounted(came)


def same_found(call: ToolCall, spec: ToolSpec | None, is_error: bool, result: str) -> Pair:
    """The step by its result, to the letter but for the words that it only says after its arguments. Of a read's arguments only what
    names a thing or a day counts: other words that find the same are no progress. A call that writes does something else with every
    argument; a number, a yes or a no answers its own question.
    """
    if is_error:
        return call.name, _arguments(call, named_only=True), _failure(result)
    reads = spec is not None and spec.effect == "read" and _SCALAR.fullmatch(result[:50]) is None
    return call.name, _arguments(call, named_only=reads), _unechoed(call, result) if reads else result


def waits(call: ToolCall, spec: ToolSpec | None, is_error: bool, result: str) -> bool:
    """Whether the result says that it is not there yet: the same call again is then waiting, not a loop.

    A state counts as one on the way unless it is known to be an end. A plain no says so where the tool is one that looks after
    something, by its name. What is written again is no waiting, whatever state it says: only a tool that is declared so.
    """
    if is_error:
        return False
    if spec is not None and spec.polls is True:
        return True
    if len(result) > LONGEST or _writes(call, spec):
        return False
    if result.strip().lower() in _NO:
        return not _WATCHING.isdisjoint(_tokens(call.name))
    value = _json(result)
    if isinstance(value, dict | list):
        return _unfinished(value)
    return len(result) <= BRIEFEST and _says_wait(result)


def _writes(call: ToolCall, spec: ToolSpec | None) -> bool:
    """Whether it changes something each time: a tool that says nothing of it counts as one that does, so its name is asked too."""
    return spec is not None and spec.effect == "write" and _LOOKING.isdisjoint(_tokens(call.name))


def _arguments(call: ToolCall, *, named_only: bool) -> str:
    value = _json(call.arguments) if call.arguments.strip() else {}
    if value is msgspec.UNSET:
        return "" if named_only else call.arguments.strip()
    value = _plain(value)
    if isinstance(value, dict):
        value = _named(value) if named_only else _quiet(value)
    return _text(value)


def _settled(result: str) -> str:
    """A result without times, ids that are made anew each time, and ids of requests."""
    if len(result) > LONGEST:
        return result
    value = _json(result)
    if isinstance(value, dict | list):
        result = _text(_unsigned(_quiet(_plain(value))))
    return _ID.sub("<id>", _CLOCK.sub("<time>", result))


def _uncounted(result: str) -> str:
    """A result without numbers, and words with digits in them."""
    return result if len(result) > LONGEST else _COUNTED.sub("<n>", result)


def _nothing(result: str) -> bool:
    """Whether it says that nothing was found: an empty list or object among plain values, or so in words."""
    value = _json(result)
    if isinstance(value, dict):
        inner = [item for item in value.values() if isinstance(item, dict | list)]
        return bool(inner) and not any(inner) and not _unfinished(value)
    return isinstance(value, msgspec.UnsetType) and len(result) <= BRIEFEST and _NOTHING.search(result) is not None


def _unechoed(call: ToolCall, result: str) -> str:
    """A result without the texts of the call's arguments, where it repeats them."""
    given = _json(call.arguments) if len(result) <= LONGEST else None
    said = (
        [item for item in given.values() if isinstance(item, str) and len(item) > 2] if isinstance(given, dict) else []
    )
    for item in sorted(said, key=len, reverse=True):
        result = result.replace(item, "<asked>").replace(_text(item)[1:-1], "<asked>")
    return result


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


def _unsigned(value: Any) -> Any:
    """Without what tells answers apart that say the same: their own ids, and what is left of a quota."""
    if isinstance(value, dict):
        return {key: _unsigned(item) for key, item in value.items() if isinstance(item, dict | list) or not _signs(key)}
    return [_unsigned(item) for item in value] if isinstance(value, list) else value


@lru_cache(maxsize=1_000)
def _signs(key: str) -> bool:
    tokens = _tokens(key)
    quota = not _QUOTA.isdisjoint(tokens) and not _LEFT.isdisjoint(tokens)
    return quota or (not _IDS.isdisjoint(tokens) and (len(tokens) == 1 or tokens[-1] == "id") and tokens[0] != "token")


def _named(value: dict[str, Any]) -> dict[str, Any]:
    return {key: _quiet(item) for key, item in value.items() if isinstance(item, dict | list) or _names(key)}


@lru_cache(maxsize=1_000)
def _names(key: str) -> bool:
    """Whether it says of what thing, or of when, the caller speaks; where in a list it reads is not that."""
    tokens = _tokens(key)
    place = not _PLACES.isdisjoint(tokens) and "id" not in tokens
    return not _NAMING.isdisjoint(tokens) and not place and not _is_noise(key)


def _unfinished(value: Any, *, listed: bool = False) -> bool:
    """Whether a state in it is none of the ends. In a list of things only a state that is known to be on the way says so."""
    if isinstance(value, list):
        return any(_unfinished(item, listed=True) for item in value)
    return isinstance(value, dict) and any(_says_unfinished(key, item, listed) for key, item in value.items())


def _says_unfinished(key: str, item: Any, listed: bool) -> bool:
    tokens = _tokens(key)
    if not _STATES.isdisjoint(tokens) and (item == ACCEPTED or (isinstance(item, str) and _on_the_way(item, listed))):
        return True
    number = isinstance(item, int | float) and not isinstance(item, bool)
    if not _PARTS.isdisjoint(tokens) and number:
        return bool(item < 1 or 1 < item < 100)
    if not _LEFT.isdisjoint(tokens) and _QUOTA.isdisjoint(tokens) and number:
        return bool(item > 0)
    return (not _ENDS.isdisjoint(tokens) and item is False) or _unfinished(item, listed=listed)


def _on_the_way(text: str, listed: bool) -> bool:
    """Whether the name of a state is that of one on the way, or (not `listed`) at least none that is known to be an end."""
    words = _tokens(text[:BRIEFEST])
    if not _UNFINISHED.isdisjoint(words):
        return True
    if "not" in words:
        return "found" not in words
    return bool(words) and not listed and _TERMINAL.isdisjoint(words)


def _says_wait(text: str) -> bool:
    if _WAITS.search(text) is not None or any(_on_the_way(state, False) for state in _STATED.findall(text)):
        return True
    words = _tokens(text)
    known = len(words) <= 3 and not _UNFINISHED.isdisjoint(words)
    return known or _DOING.fullmatch(text.strip().rstrip(".…")) is not None
