"""Credentials in texts: by the prefixes that their makers gave them, by their form, and by the name that they are assigned to.

Every rule has a literal that a text is searched for first, which costs next to nothing; its expression is only tried there. No
expression can go back over what it has read: the time is that of the text's length, whatever is in it.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Iterator

import msgspec

Check = Callable[[str], bool]
WORD = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_")
TOKEN = WORD | {"-"}
FILLER = re.compile(
    r"(?i)(?:your|my|example|sample|dummy|fake|placeholder|changeme|change[-_]me|redacted|insert|replace|xxx+|\*\*+|\.\.\.|todo|none|null|"
    r"undefined|true|false|process\.env|os\.|env\.|self\.|config\.|settings\.|getenv|secrets\.|vault|path|\$|%|\{|<|\[)"
)
PUBLIC_PASSWORDS = frozenset(
    {"password", "passwd", "pass", "pwd", "secret", "user", "username", "postgres", "root", "admin", "guest", "test"}
)


class Rule(msgspec.Struct, frozen=True):
    """A credential that begins with `literal`. `check` sorts out what only looks like it."""

    literal: str
    form: re.Pattern[str]
    check: Check | None = None


def entropy(text: str) -> float:
    """Bits a character."""
    total = len(text)
    return -sum(n / total * math.log2(n / total) for n in Counter(text).values()) if total else 0.0


def random(text: str) -> bool:
    """Whether that was drawn rather than written: digits among letters of both cases, or many different characters."""
    classes = any(map(str.isdigit, text)) + any(map(str.islower, text)) + any(map(str.isupper, text))
    return (classes == 3 and entropy(text) >= 3.2) or (classes == 2 and text.isalnum() and _hex_like(text))


def _hex_like(text: str) -> bool:
    digits = sum(map(str.isdigit, text))
    return len(text) >= 20 and digits >= len(text) // 5 and entropy(text) >= 3.0


def _after(prefix: str) -> Check:
    return lambda text: random(text[len(prefix) :])


def _key(literal: str, form: str, *, drawn: bool = False) -> Rule:
    return Rule(literal, re.compile(re.escape(literal) + form), _after(literal) if drawn else None)


RULES: tuple[Rule, ...] = (
    _key("sk-", r"[A-Za-z0-9_-]{20,}+", drawn=True),  # OpenAI, Anthropic (sk-ant-), OpenRouter
    _key("sk_", r"(?:live|test)_[A-Za-z0-9]{16,}+"),
    _key("rk_", r"(?:live|test)_[A-Za-z0-9]{16,}+"),
    _key("whsec_", r"[A-Za-z0-9+/=]{24,}+"),
    _key("AKIA", r"[A-Z0-9]{16}(?![A-Za-z0-9])"),
    _key("ASIA", r"[A-Z0-9]{16}(?![A-Za-z0-9])"),
    _key("ghp_", r"[A-Za-z0-9]{36,}+"),
    _key("gho_", r"[A-Za-z0-9]{36,}+"),
    _key("ghu_", r"[A-Za-z0-9]{36,}+"),
    _key("ghs_", r"[A-Za-z0-9]{36,}+"),
    _key("ghr_", r"[A-Za-z0-9]{36,}+"),
    _key("github_", r"pat_[A-Za-z0-9_]{60,}+"),
    _key("glpat-", r"[A-Za-z0-9_-]{20,}+"),
    _key("xoxb-", r"[A-Za-z0-9-]{10,}+"),
    _key("xoxp-", r"[A-Za-z0-9-]{10,}+"),
    _key("xoxa-", r"[A-Za-z0-9-]{10,}+"),
    _key("xoxs-", r"[A-Za-z0-9-]{10,}+"),
    _key("xapp-", r"[A-Za-z0-9-]{20,}+"),
    _key("AIza", r"[A-Za-z0-9_-]{35}(?![A-Za-z0-9_-])"),
    _key("ya29.", r"[A-Za-z0-9_-]{20,}+"),
    _key("GOCSPX-", r"[A-Za-z0-9_-]{20,}+"),
    _key("hf_", r"[A-Za-z0-9]{30,}+", drawn=True),
    _key("npm_", r"[A-Za-z0-9]{36}(?![A-Za-z0-9])"),
    _key("pypi-", r"[A-Za-z0-9_-]{50,}+"),
    _key("SG.", r"[A-Za-z0-9_-]{16,40}+\.[A-Za-z0-9_-]{16,80}+"),
    _key("dop_", r"v1_[a-f0-9]{64}"),
    _key("sth_", r"[A-Za-z0-9]{12}_[A-Za-z0-9]{38}"),  # our own
    _key("eyJ", r"[A-Za-z0-9_-]{8,}+\.eyJ[A-Za-z0-9_-]{8,}+\.[A-Za-z0-9_-]{8,}+"),  # JSON Web Tokens, RFC 7519
)
PEM = Rule(
    "-----BEGIN ",
    re.compile(
        r"-----BEGIN (?:[A-Z0-9]{1,12} ){0,3}PRIVATE KEY(?: BLOCK)?-----"
        r"(?:[\s\\]|[nr](?![a-z]))*+(?:(?:Proc-Type|DEK-Info|Version|Comment): ?[^\n\\]{0,80}+(?:[\s\\]|[nr](?![a-z]))*+){0,3}+"
        r"[A-Za-z0-9+/=]{16}[A-Za-z0-9+/=\s\\]*+"
        r"(?:-----END (?:[A-Z0-9]{1,12} ){0,3}PRIVATE KEY(?: BLOCK)?-----)?"
    ),
)
JOINED = {re.split(r"(?<=[_-])", rule.literal, maxsplit=1)[0]: rule for rule in RULES if rule.literal[-1] in "_-"}
"""Rules by what stands before the first hyphen or underscore of their credential, and that."""
BARE = tuple(rule for rule in RULES if rule.literal[-1] not in "_-")
LONGEST_NAME = max(map(len, JOINED))
_RUN = re.compile(r"[_-][A-Za-z0-9_+/=-]{12,}+")
ALPHANUMERIC = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
LOGIN = re.compile(r"[^\s:/@\"'<>`]{0,64}+:(?P<value>[^\s/@\"'<>`]{3,200}+)@[A-Za-z0-9\[]")
"""User and password of a URL, after its `://` (RFC 3986 §3.2.1)."""
ASSIGNED = re.compile(
    r"(?i)(?:api[_-]?key|secret(?:[_-]?(?:access[_-]?)?key)?|access[_-]?key|account[_-]?key|token|passwd|password|passphrase|pwd)"
    r"[\"']?\]?\s{0,3}+(?::=|=>|[:=]|is)\s{0,3}+[\"'`]?(?P<value>[^\s\"'`,;<>(){}\[\]\\]{8,200}+)"
)
CREDENTIALS = (
    "api_key", "api-key", "apikey", "secret", "secret_key", "secret-key", "secretkey", "access_key", "access-key", "accesskey",
    "account_key", "account-key", "accountkey",
    "token", "passwd", "password", "passphrase", "pwd",
)  # fmt: skip
"""Names that credentials are assigned to, or ends of such names."""
NAMES = ("api", "secret", "access", "account", "token", "passw", "passphrase", "pwd")
"""What `ASSIGNED` begins with, in lower case."""
_BOT = re.compile(r":AA[A-Za-z0-9_-]{32,34}(?![A-Za-z0-9_-])")
_TWILIO = re.compile(r"SK[0-9a-f]{32}(?![A-Za-z0-9])")
BEARER = re.compile(r"(?:Bearer|Basic|bearer|basic)\s{1,2}(?P<value>[A-Za-z0-9._~+/=-]{20,}+)")


def assigned(value: str) -> bool:
    """Whether what was assigned to such a name is a credential, and not an example, a variable or a word."""
    value = value.rstrip(".!?")
    if len(value) < 8 or FILLER.match(value) or len(set(value)) < 6:
        return False
    special = any(not c.isalnum() and c not in "._-/:" for c in value)
    classes = any(map(str.isdigit, value)) + any(map(str.islower, value)) + any(map(str.isupper, value)) + special
    if len(value) < 16:
        return classes >= 3 and entropy(value) >= 2.7
    return random(value.translate(_JOINTS)) and not value.endswith((".com", ".org", ".html"))


_JOINTS = str.maketrans("", "", "-_./:+=")


def keys(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    """Credentials that begin within text[start:end] by their prefix, and not in the middle of a word."""
    run = _RUN.search(text, max(0, start - 1), end)
    while run is not None:
        before = text[max(0, run.start() - LONGEST_NAME - 1) : run.start()]
        name = before[len(before.rstrip(ALPHANUMERIC)) :]
        found = _at(text, run.start() - len(name), JOINED.get(name + text[run.start()]))
        if found is not None and found[0] >= start:
            yield found
        run = _RUN.search(text, run.end(), end)
    for rule in BARE:
        at = text.find(rule.literal, start, end)
        while at >= 0:
            found = _at(text, at, rule)
            if found is not None:
                yield found
            at = text.find(rule.literal, at + len(rule.literal) if found is None else found[1], end)


def _at(text: str, at: int, rule: Rule | None) -> tuple[int, int] | None:
    if rule is None or (at > 0 and text[at - 1] in TOKEN):
        return None
    matched = rule.form.match(text, at)
    good = matched is not None and (rule.check is None or rule.check(matched[0]))
    return matched.span() if matched is not None and good else None


def shaped(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    """Credentials with a literal in their middle, or with one of two letters: tokens of Telegram's bots, keys of Twilio."""
    at = text.find(":AA", start, end)
    while at >= 0:
        before = text[max(0, at - 11) : at]
        number = before[len(before.rstrip("0123456789")) :]
        matched = _BOT.match(text, at) if 8 <= len(number) <= 10 else None
        if matched is not None and not before[: -len(number)][-1:].isalnum():
            yield at - len(number), matched.end()
        at = text.find(":AA", at + 3, end)
    at = text.find("SK", start, end)
    while at >= 0:
        matched = _TWILIO.match(text, at)
        if matched is not None and not (at and text[at - 1] in TOKEN):
            yield matched.span()
        at = text.find("SK", at + 2, end)


def blocks(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    """Private keys in PEM (RFC 7468), with or without their end."""
    at = text.find(PEM.literal, start, end)
    while at >= 0:
        matched = PEM.form.match(text, at)
        if matched is not None:
            yield at, matched.end()
        at = text.find(PEM.literal, at + len(PEM.literal) if matched is None else matched.end(), end)


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
            matched = ASSIGNED.match(text, start + at)
            if matched is not None and assigned(matched["value"]):
                yield matched.start("value"), matched.start("value") + len(matched["value"].rstrip(".!?"))
            at = lower.find(name, at + len(name))
    for word in ("bearer ", "basic "):
        at = lower.find(word)
        while at >= 0:
            matched = BEARER.match(text, start + at)
            if matched is not None and random(matched["value"]):
                yield matched.span("value")
            at = lower.find(word, at + len(word))


def secrets(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    """All of them that begin within text[start:end]."""
    yield from blocks(text, start, end)
    yield from keys(text, start, end)
    yield from shaped(text, start, end)
    yield from logins(text, start, end)
    yield from assignments(text, start, end)
