"""What an agent's texts are looked at for, and the stand-ins under which a model knows somebody's data.

A placeholder (`<EMAIL_1>`) names one value within one session: the same value has the same one in every turn, so that the
beginning of a conversation stays the same for a provider's prefix cache. Which value it is only the session's journal says.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from typing import Any, Literal, Protocol

import msgspec

from app.domain.errors import FieldError
from app.domain.provenance import Taint

Pii = Literal["off", "redact", "block"]
"""`redact`: models read placeholders. `block`: besides, an input that has such data is refused."""
OutputGuards = Literal["off", "secrets", "pii"]
"""What is taken out of answers. `secrets`: also the instructions, and links that carry data away; `pii`: besides, personal data."""
EntityKind = Literal["SECRET", "EMAIL", "PHONE", "CARD", "IBAN", "NATIONAL_ID", "TAX_ID", "IP", "MAC"]
Revealed = Literal["none", "personal", "all"]
"""Which real values the arguments of a call get. `personal`: all but secrets."""
GuardKind = Literal["secret", "pii", "prompt", "link"]

_PLACEHOLDER = re.compile(r"<(?P<kind>[A-Z][A-Z_]{0,30})_(?P<n>[1-9][0-9]{0,5})>")
_IN_JSON = re.compile(r"(?:<|\\u003[cC])([A-Z][A-Z_]{0,30}_[1-9][0-9]{0,5})(?:>|\\u003[eE])")


class Screening(msgspec.Struct, frozen=True, kw_only=True):
    """An agent's policy. `max_input`: characters of one input; `link_hosts`: hosts that links and images may lead to, with theirs.

    `reveal`: the tools whose arguments get the real values, those of secrets too. UNSET: all of the agent's get personal data, and no
    secret, until its model has read anything untrusted: then none does.
    """

    pii: Pii = "off"
    output: OutputGuards = "secrets"
    max_input: int = 10_000
    link_hosts: tuple[str, ...] = ()
    reveal: tuple[str, ...] | msgspec.UnsetType = msgspec.UNSET

    def reveals(self, tool: str, taint: Taint) -> Revealed:
        """Which real values that tool gets, called by a model whose context is that clean."""
        if self.reveal is not msgspec.UNSET:
            return "all" if tool in self.reveal else "none"
        return "personal" if taint == "clean" else "none"


class Found(msgspec.Struct, frozen=True):
    """One entity of a text: what it is, and where."""

    kind: EntityKind
    start: int
    end: int


class OutputGuard(Protocol):
    """Looks at one text while it grows. What it gives back is clean, and however the text was cut it is the same."""

    @property
    def acted(self) -> set[GuardKind]:
        """What was taken out so far."""
        ...

    def push(self, text: str) -> str:
        """What may be shown after that much more."""
        ...

    def end(self) -> str:
        """The rest: the text is whole."""
        ...


class Screen(Protocol):
    """Finds what must not be seen."""

    async def find(self, text: str) -> list[Found]:
        """The entities of a text, in order, none within another. A long text lets others have their turn on the way."""
        ...

    def guard(self, policy: Screening, instructions: str, *, structured: bool = False) -> OutputGuard | None:
        """A guard for one text of an agent with those instructions; of JSON, if it is `structured`. None: the policy is to look at nothing."""
        ...


def too_long(policy: Screening, texts: Iterable[tuple[str, str]]) -> list[FieldError]:
    """What is wrong with the lengths of texts, each with its path."""
    return [
        FieldError(path, f"has {len(text)} characters; at most {policy.max_input} are allowed")
        for path, text in texts
        if len(text) > policy.max_input
    ]


def as_text(said: Any) -> str:
    """An input as a model reads it: a string as it is, anything else as JSON."""
    return said if isinstance(said, str) else msgspec.json.encode(said).decode()


def _any_of(values: Iterable[str]) -> re.Pattern[str]:
    """Those values as words of their own, the longest first; by their first character, so that many cost little."""
    by_first: dict[str, list[str]] = {}
    for value in sorted(values, key=len, reverse=True):
        by_first.setdefault(value[0], []).append(re.escape(value[1:]))
    groups = (f"{re.escape(first)}(?:{'|'.join(rest)})" for first, rest in by_first.items())
    return re.compile(rf"(?<!\w)(?:{'|'.join(groups)})(?!\w)")


class Placeholders:
    """A session's values, each with its placeholder. Only ever grows; the same additions in the same order give the same ones."""

    def __init__(self, known: Mapping[str, str] | None = None) -> None:
        self.values: dict[str, str] = {}
        self._names: dict[str, str] = {}
        self._kinds: dict[str, str] = {}
        self._last: dict[str, int] = {}
        self._recent: list[str] = []
        self._pattern: re.Pattern[str] | None = None
        self.learn(known or {})

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Placeholders) and self.values == other.values

    __hash__ = None  # type: ignore[assignment]  # it grows

    def learn(self, known: Mapping[str, str]) -> None:
        """Take in values by placeholder, as an earlier owner of the session gave them out."""
        for placeholder, value in known.items():
            named = _PLACEHOLDER.fullmatch(placeholder)
            if named is not None and value:
                self._last[named["kind"]] = max(self._last.get(named["kind"], 0), int(named["n"]))
                self._add(placeholder, named["kind"], value)

    def name(self, kind: str, value: str) -> str:
        """The placeholder of that value: the one that it has, or the next of its kind. One in JSON's escapes is the same without them."""
        if "\\u" in value:
            with suppress(msgspec.DecodeError):
                value = msgspec.json.decode(f'"{value}"', type=str)
        placeholder = self._names.get(value)
        if placeholder is None or self.values[placeholder] != value:  # or one that an old journal gave out twice
            self._last[kind] = self._last.get(kind, 0) + 1
            placeholder = f"<{kind}_{self._last[kind]}>"
            self._add(placeholder, kind, value)
        return placeholder

    def _add(self, placeholder: str, kind: str, value: str) -> None:
        self.values[placeholder] = value
        if value not in self._kinds:
            self._recent.append(value)
        self._names[value] = placeholder
        self._kinds[value] = kind

    def hide(self, text: str, found: Iterable[Found], keep: str = "") -> str:
        """The text with placeholders in the place of those entities, and of all values that are known by now, also where nothing
        beside them gives them away. `keep`: a text whose values stay.
        """
        spans: list[tuple[int, int, str]] = [
            (one.start, one.end, one.kind) for one in found if not keep or text[one.start : one.end] not in keep
        ]
        known = (match for match in self._known(text) if not keep or match[0] not in keep)
        spans.extend((*match.span(), self._kinds[match[0]]) for match in known)
        parts: list[str] = []
        at = 0
        for start, end, kind in sorted(spans, key=lambda span: (span[0], -span[1])):
            if end > at:  # of two that overlap the rest of the second is hidden too
                begin = max(at, start)
                parts += (text[at:begin], self.name(kind, text[begin:end]))
                at = end
        return text if at == 0 else "".join((*parts, text[at:]))

    def _known(self, text: str) -> Iterator[re.Match[str]]:
        """All known values in that text, as words of their own. Values are put into an expression when there are half as many again."""
        if not text:
            return
        if len(self._recent) > max(16, len(self._kinds) // 3):
            self._recent.clear()
            self._pattern = _any_of(self._kinds)
        if self._pattern is not None:
            yield from self._pattern.finditer(text)
        recent = [value for value in self._recent if value in text]
        if recent:
            yield from _any_of(recent).finditer(text)

    def show(self, text: str) -> str:
        """The text with the values in the place of their placeholders. Those of secrets stay: nobody has to read them."""
        return _PLACEHOLDER.sub(self._shown, text) if "<" in text else text

    def arguments(self, text: str, revealed: Revealed) -> str:
        """The JSON text of a call's arguments with those values in the place of their placeholders."""
        if revealed == "none" or not ("<" in text or "\\u003" in text):
            return text

        def value(match: re.Match[str]) -> str:
            real = self.values.get(f"<{match[1]}>")
            if real is None or (revealed == "personal" and match[1].startswith("SECRET_")):
                return match[0]
            return msgspec.json.encode(real).decode()[1:-1]

        return _IN_JSON.sub(value, text)

    def _shown(self, match: re.Match[str]) -> str:
        return match[0] if match["kind"] == "SECRET" else self.values.get(match[0], match[0])
