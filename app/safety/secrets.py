"""Credentials in texts: by the prefixes that their makers gave them, by their form, and by the name that they are assigned to.

The time is that of the text's length, whatever is in it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from app.safety.credentials import BARE, JOINED, LONGEST_NAME, PEM, entropy, random

FILLER = re.compile(
    r"(?i)(?:your|my|example|sample|dummy|fake|placeholder|changeme|change[-_]me|redacted|insert|replace|xxx+|\*\*+|\.\.\.|todo|none|null|"
    r"undefined|true|false|process\.env|os\.|env\.|self\.|config\.|settings\.|getenv|secrets\.|vault|path|\$|%|\{|<|\[)"
)
PUBLIC_PASSWORDS = frozenset(
    {"password", "passwd", "pass", "pwd", "secret", "user", "username", "postgres", "root", "admin", "guest", "test"}
)
TRAILING = ".!?*"
"""Of a sentence, not of its last word."""
_RUN = re.compile(r"[_-][A-Za-z0-9_+/=-]{20,}+")
"""What a credential may go on with after its first joint: none is shorter."""
_JOINT = re.compile(r"(?<![A-Za-z0-9])[A-Za-z0-9]++[_-]")
LOGIN = re.compile(r"[^\s:/@\"'<>`]{0,64}+:(?P<value>[^\s/@\"'<>`]{3,200}+)@[A-Za-z0-9\[]")
"""User and password of a URL, after its `://` (RFC 3986 §3.2.1)."""
PLACES = tuple(
    f"{word}{joint}token" for word in ("page", "next", "cursor", "continuation", "sync") for joint in ("", "_", "-")
)
"""Ends of names, in lower case, of tokens that say where a list goes on, and open nothing."""
NO_PLACE = "".join(f"(?<!{name})" for name in PLACES)
_NAME = (
    rf"(?:api[_ -]?key|secret(?:[_ -]?(?:access[_ -]?)?key)?|access[_ -]?key|account[_ -]?key|token{NO_PLACE}|pass(?:wd|word|wort|phrase)|pwd"
    r"|(?<![A-Za-z])pass(?=\s?=))"
)
ASSIGNED = re.compile(
    rf"(?i){_NAME}[\\\"'`\]*_]{{0,6}}+\s{{0,3}}+(?::=|[=-]>|[:=|>]|(?:is|was)(?=\s))[*_]{{0,2}}+\s{{0,3}}+[*\\]{{0,4}}+[\"'`]?"
    r"(?P<value>[^\s\"'`,;<>(){}\[\]\\]{8,200}+)"
)
"""A value after the name of a credential, in programs, JSON (also within JSON), XML, markdown and sentences."""
CREDENTIALS = (
    "api_key", "api-key", "apikey", "secret", "secret_key", "secret-key", "secretkey", "access_key", "access-key", "accesskey",
    "account_key", "account-key", "accountkey",
    "token", "passwd", "password", "passwort", "passphrase", "pwd", "api key", "secret key", "access key", "account key",
)  # fmt: skip
"""Names that credentials are assigned to, or ends of such names."""
NAMES = ("api", "secret", "access", "account", "token", "pass", "pwd")
"""What `ASSIGNED` begins with, in lower case."""
_OPTION = re.compile(r"-(?:-[A-Za-z]|u[ =])")
OPTION = re.compile(rf"(?i)--[A-Za-z-]{{0,16}}{_NAME}[ \t]{{1,3}}+[\"']?(?P<value>[^\s\"'`,;<>(){{}}\[\]\\]{{8,200}}+)")
USER = re.compile(r"(?<!\S)(?:-u|--user)[ =][\"']?[^\s:\"'@/]{1,40}:(?P<value>[^\s\"'`]{8,200}+)")
"""User and password as options of a program."""
BEARER = re.compile(r"(?i:bearer|basic|token)\s{1,2}(?P<value>[A-Za-z0-9._~+/=-]{20,}+)")
AUTHORIZATION = re.compile(r"(?i)authorization[\\\"']{0,4}\s{0,2}[:=]\s{0,2}[\\\"']{0,4}\Z")
"""What stands before `token` where a credential follows."""


def assigned(value: str) -> bool:
    """Whether what was assigned to such a name is a credential, and not an example, a variable or a word."""
    value = value.rstrip(TRAILING)
    if len(value) < 8 or FILLER.match(value) or len(set(value)) < 6:
        return False
    special = any(not c.isalnum() and c not in "._-/:" for c in value)
    classes = any(map(str.isdigit, value)) + any(map(str.islower, value)) + any(map(str.isupper, value)) + special
    if len(value) < 16:
        return classes >= 3 and entropy(value) >= 2.7
    return random(value.translate(_JOINTS)) and not value.endswith((".com", ".org", ".html"))


_JOINTS = str.maketrans("", "", "-_./:+=")


def keys(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    """Credentials that begin by their prefix, and not in the middle of a word, with its literal within text[start:end]."""
    run = _RUN.search(text, start, end)
    while run is not None:
        yield from _joined(text, max(0, run.start() - LONGEST_NAME), run.end())
        run = _RUN.search(text, run.end(), end)
    for literal, rule in BARE.items():
        at = text.find(literal, start, end)
        while at >= 0:
            first = rule.start(text, at)
            last = rule.end(text, at) if first is not None else None
            if first is not None and last is not None:
                yield first, last
            at = text.find(literal, at + len(literal) if last is None else last, end)


def _joined(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    """Those with a joint after the word that they begin with. One of a kind that was judged is not tried again within it."""
    after, tried = start, set()
    for joint in _JOINT.finditer(text, start, end):
        rule = JOINED.get(joint[0])
        at = joint.start()
        if rule is None or at < after or joint[0] in tried or rule.start(text, at) is None:
            continue
        last = rule.end(text, at)
        if last is not None:
            yield at, last
            after = last
        elif rule.check is not None:
            tried.add(joint[0])


def blocks(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    """Private keys in PEM (RFC 7468), with or without their end, also as they stand in mails and programs."""
    at = text.find(PEM.literal, start, end)
    while at >= 0:
        last = PEM.end(text, at)
        if last is not None:
            yield at, last
        at = text.find(PEM.literal, at + len(PEM.literal) if last is None else last, end)


def logins(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    """Passwords in URLs."""
    at = text.find("://", start, end)
    while at >= 0:
        matched = LOGIN.match(text, at + 3) if at and text[at - 1].isalnum() else None
        if matched is not None and public(matched["value"]) is False:
            yield matched.span("value")
        at = text.find("://", at + 3, end)


def public(password: str) -> bool:
    """Whether a password is one of every manual, or stands for one."""
    return password.lower() in PUBLIC_PASSWORDS or FILLER.match(password) is not None


def assignments(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    """Values that are assigned to the name of a credential, and those after `Bearer` and `Basic`."""
    lower = text[start:end].lower()
    if len(lower) != end - start:  # a letter whose small form is two
        lower = text[start:end]
    for name in NAMES:
        at = lower.find(name)
        while at >= 0:
            yield from _value(ASSIGNED.match(text, start + at))
            if name == "token" and authorizes(text, start + at):
                yield from _bearer(text, start + at)
            at = lower.find(name, at + len(name))
    for option in _OPTION.finditer(text, start, end):
        at = option.start()
        yield from _value(OPTION.match(text, at) or USER.match(text, at))
    for word in ("bearer ", "basic "):
        at = lower.find(word)
        while at >= 0:
            yield from _bearer(text, start + at)
            at = lower.find(word, at + len(word))


def _bearer(text: str, at: int) -> Iterator[tuple[int, int]]:
    matched = BEARER.match(text, at)
    if matched is not None and random(matched["value"]):
        yield matched.span("value")


def authorizes(text: str, at: int) -> bool:
    """Whether the name of the header stands before that place."""
    return AUTHORIZATION.search(text, max(0, at - 24), at) is not None


def _value(matched: re.Match[str] | None) -> Iterator[tuple[int, int]]:
    if matched is not None and assigned(matched["value"]):
        yield matched.start("value"), matched.start("value") + len(matched["value"].rstrip(TRAILING))


def secrets(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    """All whose marks are within text[start:end]."""
    yield from blocks(text, start, end)
    yield from keys(text, start, end)
    yield from logins(text, start, end)
    yield from assignments(text, start, end)
