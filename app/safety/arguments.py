"""Allow-lists for the arguments of a call: one spelling of every host, path and number, and nothing that could be read in two ways.

What a rule cannot judge is refused: a URL that two programs could read differently, a path with a way up, a number that is a word.
Links are only seen where the call runs (`leaving`); everything else is decided from the text alone.
"""

from __future__ import annotations

import math
import os
import posixpath
import re
import unicodedata
from collections.abc import Sequence
from decimal import Decimal, InvalidOperation
from typing import Any
from urllib.parse import unquote

import msgspec

from app.domain.messages import JsonObject
from app.domain.tool_policy import Rule, Spend
from app.domain.tools import ToolSpec
from app.egress.urls import InvalidUrl, checked_url, port_of

LONGEST = 2_000
"""Characters of a text that a rule judges."""
SHOWN = 10
"""Entries of an allow-list that a model is told."""
_NUMBER = re.compile(r"-?[0-9]{1,30}(?:\.[0-9]{1,30})?")
_ENTRY = re.compile(r"(?:\*\.)?[a-z0-9](?:[a-z0-9.-]*[a-z0-9])?(?::[0-9]{1,5})?|\[[0-9a-f:]+\](?::[0-9]{1,5})?")
_AUTHORITY = re.compile(
    r"[A-Za-z]{1,10}+://(?:\[[0-9A-Fa-f:.]+\]|[\w-]++(?:\.[\w-]++)*+\.?)(?::[0-9]{1,5}+)?+(?=[/?#]|\Z)"
)
"""Up to the end of host and port, with nothing there that a reader of URLs would leave out."""
_ANY = "[A-Za-z0-9._+-]*"
_WAY = re.compile(r"(?:\A|[/\\])\.\.?(?:[/\\?#;]|\Z)")
_UNSEEN = ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp")


def read(text: str) -> JsonObject | None:
    """A call's arguments; None where they are no JSON object. Of a key that stands twice the last value counts, as for the tool."""
    try:
        value = msgspec.json.decode(text.strip() or "{}")
    except (msgspec.DecodeError, RecursionError, UnicodeError):
        return None
    return value if isinstance(value, dict) else None


_decode_exactly = msgspec.json.Decoder(float_hook=Decimal).decode


def _exactly(text: str) -> JsonObject | None:
    """As `read`, with numbers as they were written: nothing just above a bound is rounded to it before it is judged."""
    try:
        value = _decode_exactly(text.strip() or "{}")
    except (msgspec.DecodeError, RecursionError, UnicodeError, InvalidOperation):
        return None
    return value if isinstance(value, dict) else None


def refused(spec: ToolSpec, text: str) -> str | None:
    """Why the agent's allow-lists for that tool do not have those arguments. An argument that is not given is the tool's own default."""
    rules = spec.rules.allow
    if not rules and spec.rules.caps is None:
        return None
    given = _exactly(text)
    if given is None:
        return "its arguments are not a JSON object"
    for name in rules:
        if name in given and (why := unlisted(spec, name, given[name])) is not None:
            return why
    spend = spec.rules.caps.spend if spec.rules.caps is not None else None
    if spend is not None and isinstance(found := amount(spend, given), str):
        return found
    return None


def unlisted(spec: ToolSpec, name: str, value: Any) -> str | None:
    """Why that argument may not have that value."""
    rule = spec.rules.allow.get(name)
    if rule is None:
        return None
    for item in value if isinstance(value, list) else [value]:
        if (why := _unlisted(rule, item)) is not None:
            return f"{name} {why}"
    return None


def amount(spend: Spend, given: JsonObject) -> Decimal | str:
    """What a call with those arguments spends, exact; or why that cannot be told."""
    value = _number(given.get(spend.argument))
    if value is None or value < 0:
        return f"{spend.argument} must be given as a plain number that is not negative"
    return value


def leaving(spec: ToolSpec, text: str) -> str | None:
    """As `refused`, for links: a path whose real place is outside its folders. Reads the file system."""
    given = None
    for name, rule in spec.rules.allow.items():
        if not rule.under:
            continue
        given = read(text) if given is None else given
        values = (given or {}).get(name, [])
        roots = [os.path.realpath(root) for root in rule.under]
        for value in values if isinstance(values, list) else [values]:
            if not _within(os.path.realpath(str(value)), roots):
                return f"{name} leads out of {_listed(rule.under)}"
    return None


def wrong_entry(rule: Rule) -> str | None:
    """What is wrong with a rule as it is written."""
    if not any((rule.hosts, rule.under, rule.one_of, rule.like)) and rule.minimum is None and rule.maximum is None:
        return "allows nothing in particular: give hosts, under, minimum, maximum, one_of or like"
    for host in rule.hosts:
        if not _ENTRY.fullmatch(host):
            return f"{host!r} is no host: write a name in lower case (other scripts as xn--…), *.name or name:port"
    for folder in rule.under:
        if not folder.startswith("/") or posixpath.normpath(folder) != (folder.rstrip("/") or "/"):
            return f"{folder!r} must be an absolute path without . and .."
    for pattern in rule.like:
        if not pattern or pattern.count("*") > 3 or len(pattern) > 200:
            return f"{pattern!r} must be a text with at most three *"
        if _WAY.search(pattern) is not None:
            return f"{pattern!r} has a way up, or a place for itself: nothing looks like it"
    if rule.minimum is not None and rule.maximum is not None and rule.minimum > rule.maximum:
        return "minimum is above maximum"
    return None


def _unlisted(rule: Rule, value: Any) -> str | None:
    if rule.hosts and (why := _elsewhere(rule.hosts, value)) is not None:
        return why
    if rule.under and not (isinstance(value, str) and all(_within(form, rule.under) for form in _forms(value))):
        return f"must be an absolute path within {_listed(rule.under)}, written plainly"
    if rule.minimum is not None or rule.maximum is not None:
        number = _number(value)
        low, high = rule.minimum, rule.maximum
        # As decimals: nothing just above a bound is rounded to it.
        if (
            number is None
            or (low is not None and number < Decimal(repr(low)))
            or (high is not None and number > Decimal(repr(high)))
        ):
            return f"must be a plain number{'' if low is None else f' from {low:g}'}{'' if high is None else f' up to {high:g}'}"
    if rule.one_of and not any(_same(value, entry) for entry in rule.one_of):
        return f"must be one of {_listed(rule.one_of)}"
    if rule.like and not (isinstance(value, str) and _alike(rule.like, value)):
        return f"must look like {_listed(rule.like)} (* for letters, digits and . _ + -, no way up)"
    return None


def _elsewhere(hosts: Sequence[str], value: Any) -> str | None:
    """Why that is no URL of those hosts."""
    if not isinstance(value, str) or len(value) > LONGEST or not _plain(value) or "\\" in value or " " in value:
        return "must be a plain absolute URL"
    where = _AUTHORITY.match(value)
    if where is None or unicodedata.normalize("NFKC", where[0]) != where[0]:
        return "must be a plain absolute URL"
    try:
        url = checked_url(value)
    except InvalidUrl as error:
        return f"must be another URL: {error}"
    host = url.raw_host.decode("ascii").lower().removesuffix(".")
    host = f"[{host}]" if ":" in host else host
    port = port_of(url)
    for entry in hosts:
        name, _, own = entry.rpartition(":") if re.search(r":[0-9]+\Z", entry) else (entry, "", "")
        below = name.startswith("*.") and host.endswith(name[1:]) and not host.startswith(".")
        there = below or host == name
        if there and port == (int(own) if own else {"http": 80, "https": 443}[url.scheme]):
            return None
    return f"must be a URL of {_listed(hosts)}"


def _forms(path: str) -> list[str]:
    """Every path that some program could take this text for, made plain; one that leads nowhere where there is anything odd about it."""
    if not path or len(path) > LONGEST:
        return [""]
    forms = [path]
    while (further := unquote(forms[-1], errors="replace")) != forms[-1] and len(forms) < 5:
        forms.append(further)
    deeper = unquote(forms[-1], errors="replace") != forms[-1]
    forms += [unicodedata.normalize("NFKC", form) for form in forms]
    odd = any("\\" in form or not _plain(form) or ".." in form.split("/") for form in forms)
    return [""] if odd or deeper else [posixpath.normpath(form) for form in forms]


def _within(path: str, roots: Sequence[str]) -> bool:
    return any(path == root.rstrip("/") or path.startswith(f"{root.rstrip('/')}/") for root in roots)


def _number(value: Any) -> Decimal | None:
    """The number that a JSON value is, or that its text is in plain digits."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int | Decimal):
        return Decimal(value)
    if isinstance(value, float):
        return Decimal(repr(value)) if math.isfinite(value) else None
    return Decimal(value) if isinstance(value, str) and _NUMBER.fullmatch(value) and value.isascii() else None


def _same(value: Any, entry: Any) -> bool:
    """Equal, and not only by the way that Python counts `True` as 1."""
    if isinstance(value, Decimal) and isinstance(entry, float):
        return value == Decimal(repr(entry))
    known = type(value) in (str, int, float, bool, Decimal)
    return known and isinstance(value, bool) == isinstance(entry, bool) and bool(value == entry)


def _alike(entries: Sequence[str], value: str) -> bool:
    """Whether one of the patterns has it; none has what a program could take for a way up, or for the place itself."""
    return _WAY.search(value) is None and any(_pattern(entry).fullmatch(value) for entry in entries)


def _pattern(entry: str) -> re.Pattern[str]:
    return re.compile(_ANY.join(map(re.escape, entry.split("*"))))


def _plain(text: str) -> bool:
    """Whether every character of it can be seen."""
    return (text.isascii() and text.isprintable()) or not any(unicodedata.category(char) in _UNSEEN for char in text)


def _listed(entries: Sequence[Any]) -> str:
    shown = ", ".join(str(entry) for entry in entries[:SHOWN])
    return f"{shown} …" if len(entries) > SHOWN else shown
