"""Secrets and carrying links in a text that grows, taken out before anybody sees them, however the text was cut.

A credential has a beginning that everybody knows (`ghp_`, `password=`, `://user:`): that is shown. What comes after it is held back
until it is known to be whole, and then shown or not. Text without such a beginning is never held back.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import msgspec

from app.domain.screening import GuardKind
from app.safety.links import carries, fetches
from app.safety.secrets import (
    ALPHANUMERIC,
    CREDENTIALS,
    LOGIN,
    LONGEST_NAME,
    PEM,
    RULES,
    TOKEN,
    assigned,
    public,
    random,
)

BOUNDS = {
    "pem": 8_192,
    "key": 4_096,
    "value": 512,
    "bearer": 4_096,
    "url": 2_048,
    "destination": 2_048,
    "attribute": 2_048,
}
"""Characters that are held back at most, by what has begun: a private key of RSA has half of that. What is longer is judged as it is."""
LOOK = 1_024
"""Characters before that are remembered."""
PARAGRAPH = 900
"""Characters before the address of an image in which its paragraph begins, or which are all its description."""
REMOVED = "[secret removed]"
NOWHERE = "about:blank"
LINK = "[link removed]"

TAIL = 80
"""Characters that the longest beginning has."""
GAP = 8
"""Characters that may stand between a beginning's last mark and its body."""
_MARK = re.compile(r"[-_./(=:JA]")
_PEM = re.compile(r"-----BEGIN (?:[A-Z0-9]{1,12} ){0,3}PRIVATE KEY(?: BLOCK)?-----\Z")
_ATTRIBUTES = ("src", "srcset", "href", "poster", "background", "data", "action", "url")
_AFTER = {
    "value": re.compile(r">?\s{0,3}+[\"'`]?"),
    "attribute": re.compile(r"\s{0,3}+[\"']?"),
    "destination": re.compile(r"\s{0,4}+<?"),
    "bearer": re.compile(r"\s{1,2}+"),
}
_SAID = re.compile(r"(?i)\b(is|bearer|basic)(?=\s)")
_STAND_IN = r"<(?=\Z|[A-Z])[A-Z0-9_]{0,40}+>?"
"""A placeholder, or the beginning of one: what stands in its place counts."""
_BODY = {
    "key": re.compile(r"[A-Za-z0-9_.+/=-]*+"),
    "pem": re.compile(r"[A-Za-z0-9+/=\s\\:,-]*+"),
    "url": re.compile(rf"(?:[^\s<>\"'`]|{_STAND_IN})*+"),
    "destination": re.compile(rf"(?:[^\s<>)]|{_STAND_IN})*+"),
    "attribute": re.compile(rf"(?:[^\s<>\"')]|{_STAND_IN})*+"),
    "bearer": re.compile(r"[A-Za-z0-9._~+/=-]*+"),
    "value": re.compile(r"[^\s\"'`,;<>(){}\[\]\\]*+"),
}
_MORE = {
    "key": _BODY["key"],
    "pem": re.compile(r"[A-Za-z0-9+/=\s\\:,]*+"),
    "url": re.compile(r"[^\s<>\"'`]*+"),
    "destination": re.compile(r"[^\s<>)]*+"),
    "attribute": re.compile(r"[^\s<>\"')]*+"),
    "bearer": _BODY["bearer"],
    "value": _BODY["value"],
}
"""What goes on with a body for certain, whatever comes after it."""
_PEM_END = re.compile(r"-----END (?:[A-Z0-9]{1,12} ){0,3}PRIVATE KEY(?: BLOCK)?-----")
_TAG = re.compile(r"<([A-Za-z][A-Za-z0-9]{0,15})\b[^<>]*\Z")
_FETCHING = frozenset(["src", "srcset", "poster", "background"])
_FETCH_TAGS = frozenset(
    [
        "img",
        "image",
        "source",
        "video",
        "audio",
        "track",
        "iframe",
        "frame",
        "embed",
        "object",
        "link",
        "script",
        "base",
    ]
)
_RULES = {rule.literal: rule for rule in RULES}
_FETCHED = frozenset(["link", "base", "image", "use", "feimage"])
"""Tags whose `href` is fetched."""


class Begin(msgspec.Struct, frozen=True):
    """A beginning that everybody knows: from `start` to before `first`, where the body begins."""

    kind: str
    start: int
    first: int


class Stream:
    """One text, looked at while it grows. `hosts`: where links and images may lead. `acted`: what was taken out of it."""

    def __init__(self, hosts: Sequence[str]) -> None:
        self.acted: set[GuardKind] = set()
        self._hosts = hosts
        self._before: list[str] = []
        self._tail = ""
        self._held = ""
        self._image = False
        self._first_image = -1
        self._open: str | None = None
        self._dropping: re.Pattern[str] | None = None

    @property
    def held(self) -> int:
        """Characters that are held back."""
        return len(self._held)

    def push(self, text: str) -> str:
        """What may be shown after that much more."""
        near = self._tail + text
        base = len(self._tail)
        self._tail = near[-TAIL:]
        if (
            self._open is not None
            and len(self._held) + len(text) <= BOUNDS[self._open]
            and _MORE[self._open].fullmatch(text)
        ):
            self._held += text
            return ""
        if self._held or self._dropping is not None or _begins(near, base):
            return self._look(text, final=False)
        self._image = self._image or "![" in near
        self._before.append(text)
        return text

    def end(self) -> str:
        """The rest: the text is whole."""
        return self._look("", final=True)

    def _look(self, text: str, *, final: bool) -> str:
        if self._dropping is not None:
            dropped = self._dropping.match(text)
            assert dropped is not None
            self._before.append(dropped[0])
            text = text[dropped.end() :]
            if not text and not final:
                return ""
            self._dropping = None
        before = "".join(self._before)[-LOOK:]
        window = before + self._held + text
        shown, hold = self._walked(window, len(before), final=final)
        self._before = [window[:hold]]
        self._held = window[hold:]
        self._image = self._image or "![" in window[:hold]
        return shown

    def _walked(self, window: str, base: int, *, final: bool) -> tuple[str, int]:
        """What may be shown of window[base:], and from where on it is held back."""
        shown: list[str] = []
        self._open = None
        self._first_image = window.find("![")
        at = base
        for begin in _begins(window, base):
            first = begin.first
            if first < at:
                continue
            body = _BODY[begin.kind].match(window, first)
            assert body is not None
            to = body.end()
            whole = to < len(window) or final or (begin.kind == "pem" and _PEM_END.search(window, first) is not None)
            if to == first:
                continue
            if not whole and to - first <= BOUNDS[begin.kind]:
                self._open = begin.kind
                shown.append(window[at:first])
                return "".join(shown), first
            taken = self._judged(begin, window, to)
            if taken is not None:
                guard, last, instead = taken
                self.acted.add(guard)
                shown += (window[at:first], instead)
                at = last
                if not whole and last == len(window):
                    self._dropping = _BODY[begin.kind]
        shown.append(window[at:])
        return "".join(shown), len(window)

    def _judged(self, begin: Begin, window: str, to: int) -> tuple[GuardKind, int, str] | None:
        """What is taken out after that beginning, up to where, and what stands there instead. None: nothing is."""
        kind, first = begin.kind, begin.first
        body = window[first:to]
        if kind == "key":
            rule = _RULES[window[begin.start : first]]
            key = rule.form.match(window, begin.start)
            good = key is not None and (rule.check is None or rule.check(key[0]))
            return ("secret", key.end(), REMOVED) if key is not None and good else None
        if kind == "pem":
            block = PEM.form.match(window, begin.start)
            return None if block is None else ("secret", block.end(), REMOVED)
        if kind in ("value", "bearer"):
            good = assigned(body) if kind == "value" else len(body) >= 20 and random(body)
            return ("secret", first + len(body.rstrip(".!?")), REMOVED) if good else None
        if kind == "url":
            return self._url(window, begin, body)
        if kind == "destination":
            return self._destination(window, begin, body)
        return self._attribute(window, begin, body)

    def _url(self, window: str, begin: Begin, body: str) -> tuple[GuardKind, int, str] | None:
        first = begin.first
        login = LOGIN.match(window, first)
        if login is not None and not public(login["value"]):
            return "secret", login.end("value"), f"{window[first : login.start('value')]}{REMOVED}"
        body = re.split(r"[)\]]", body, maxsplit=1)[0]
        tag = _tag(window, begin.start)
        if tag in _FETCH_TAGS and fetches(f"https://{body}", self._hosts):
            return "link", first + len(body), LINK
        return ("link", first + len(body), LINK) if carries(f"https://{body}", self._hosts) else None

    def _destination(self, window: str, begin: Begin, body: str) -> tuple[GuardKind, int, str] | None:
        """Of an image, of a link, or of a reference that either may name."""
        before = window[max(0, begin.start - PARAGRAPH) : begin.start]
        opened = self._image or 0 <= self._first_image < begin.start
        image = opened and (window[begin.start + 1] == ":" or "![" in before.rpartition("\n\n")[2] or _long(before))
        bad = fetches(body, self._hosts) if image else _leads_out(body, self._hosts)
        return ("link", begin.first + len(body), NOWHERE) if bad else None

    def _attribute(self, window: str, begin: Begin, body: str) -> tuple[GuardKind, int, str] | None:
        name = window[begin.start : begin.first].rstrip("\"'").rstrip(" \t\n=(").lower()
        tag = _tag(window, begin.start)
        if tag is None and name != "url":
            return None
        image = name in _FETCHING or name == "url" or tag in _FETCHED or (name == "data" and tag == "object")
        bad = fetches(body, self._hosts) if image else _leads_out(body, self._hosts)
        return ("link", begin.first + len(body), NOWHERE) if bad else None


def _begins(window: str, base: int) -> list[Begin]:
    """Every beginning whose body begins in window[base:], or will, in order."""
    near = max(0, base - GAP)
    found: list[Begin] = []
    mark = _MARK.search(window, near)
    while mark is not None:
        at = mark.start()
        begin = _marked(window, at, window[at])
        if begin is not None and begin.first >= base:
            found.append(begin)
        mark = _MARK.search(window, at + 1)
    if window.find("is", near) >= 0 or window.find("earer", near) >= 0 or window.find("asic", near) >= 0:
        for word in _SAID.finditer(window, near):
            begin = _said(window, word.end() - 1)
            if begin is not None and begin.first >= base:
                found.append(begin)
        found.sort(key=_place)
    return found


def _place(begin: Begin) -> int:
    return begin.first


def _said(window: str, at: int) -> Begin | None:
    """`bearer`, or `is` after a name."""
    if window[at] in "sS":
        name = _assigned_name(window, at - 1)
        return None if name is None else _begun("value", name, window, at + 1)
    return _begun("bearer", at, window, at + 1)


def _marked(window: str, at: int, mark: str) -> Begin | None:
    """The beginning whose last mark stands there."""
    if mark == "/":
        return Begin("url", at - 2, at + 1) if window[at - 3 : at].endswith(":/") and window[at - 3].isalnum() else None
    if mark in "=:(":
        if at and window[at - 1] == "]" and mark != "=":
            return _begun("destination", at - 1, window, at + 1)
        name = _attribute_name(window, at) if mark != ":" else None
        if name is not None:
            return _begun("attribute", name, window, at + 1)
        name = _assigned_name(window, at) if mark != "(" else None
        return None if name is None else _begun("value", name, window, at + 1)
    if mark == "A":
        first = at + 4
        start = at
    elif mark == "-" and window[max(0, at - 4) : at + 1] == "-----":
        block = _PEM.search(window[max(0, at - 72) : at + 1])
        return None if block is None else Begin("pem", at + 1 - len(block[0]), at + 1)
    else:
        first = at + 1
        before = window[max(0, at - LONGEST_NAME) : at]
        start = max(0, at - 2) if mark == "J" or not before else at - (len(before) - len(before.rstrip(ALPHANUMERIC)))
    known = window[start:first] in _RULES and not (start and window[start - 1] in TOKEN)
    return Begin("key", start, first) if known else None


def _begun(kind: str, start: int, window: str, after: int) -> Begin:
    following = _AFTER[kind].match(window, after)
    return Begin(kind, start, after if following is None else following.end())


def _assigned_name(window: str, at: int) -> int | None:
    """Where the name of a credential begins that something is assigned to there."""
    before = window[max(0, at - 40) : at].rstrip(" \t\n:")
    name = before.rstrip("]\"'")[-20:].lower()
    return at - 20 if name.endswith(CREDENTIALS) else None


def _attribute_name(window: str, at: int) -> int | None:
    before = window[max(0, at - 16) : at].rstrip()
    name = before[len(before.rstrip(ALPHANUMERIC)) :]
    return at - (len(window[max(0, at - 16) : at]) - len(before)) - len(name) if name.lower() in _ATTRIBUTES else None


def _tag(window: str, at: int) -> str | None:
    """The name of the tag that is open there."""
    tag = _TAG.search(window, max(0, at - 400), at)
    return None if tag is None else tag[1].lower()


def _long(before: str) -> bool:
    """Whether a paragraph begins further back than one looks."""
    return len(before) == PARAGRAPH and "\n\n" not in before


def _leads_out(url: str, hosts: Sequence[str]) -> bool:
    if url.lower().lstrip().startswith(("javascript:", "vbscript:", "data:")):
        return True
    return "//" in url[:9] and carries(url, hosts)
