"""What an agent's texts are looked at for, and the stand-ins under which a model knows somebody's data.

A placeholder (`<EMAIL_1>`) names one value within one session: the same value has the same one in every turn, so that the
beginning of a conversation stays the same for a provider's prefix cache. Which value it is only the session's journal says.
"""

from __future__ import annotations

import re
from collections.abc import Generator, Iterable, Mapping
from contextlib import suppress
from typing import Any, Literal, Protocol

import msgspec

from app.domain.errors import FieldError
from app.domain.known import TURN, Known
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
_IN_JSON = re.compile(r"\\[^u]|(?:<|\\u003[cC])([A-Z][A-Z_]{0,30}_[1-9][0-9]{0,5})(?:>|\\u003[eE])")
READ = "SECRET_READ"
"""The kind of a credential in the placeholders of what somebody wrote whom we do not trust."""
LEAST = 8
"""Characters of a credential that is hidden wherever it stands."""
MOST, MOST_READ = 4_000, 2_000
"""Values that a session has a placeholder for, and that it may have when an untrusted text brings one more: no page uses up what is
for the user's own."""
LONGEST_VALUE = 16_000
"""Characters of a value that has one."""


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


class Place(msgspec.Struct, frozen=True):
    """What stands there instead: a placeholder."""

    start: int
    end: int
    placeholder: str


def secret(kind: str) -> bool:
    """Whether placeholders of that kind stand for credentials."""
    return kind in ("SECRET", READ)


def telling(kind: str, value: str) -> bool:
    """Whether a value is hidden wherever it stands: personal data by its form, a credential where nobody would write it as a word."""
    if not secret(kind):
        return True
    classes = any(map(str.isdigit, value)) + any(map(str.islower, value)) + any(map(str.isupper, value))
    return kind != READ and len(value) >= LEAST and classes >= 2 and len(set(value)) >= LEAST - 2


class Placeholders:
    """A session's values, each with its placeholder. Only ever grows; the same additions in the same order give the same ones.

    What a credential is whose words are not the user's own has a kind of its own: it is hidden where it was found, and nowhere else.
    Else a page could make a password of any word, in an address of its own, and take it out of what the user says.
    """

    def __init__(self, known: Mapping[str, str] | None = None) -> None:
        self.values: dict[str, str] = {}
        self._names: dict[str, str] = {}
        self._read: dict[str, str] = {}
        self._last: dict[str, int] = {}
        self._known = Known()
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

    def name(self, kind: str, value: str, *, read: bool = False) -> str:
        """The placeholder of that value: the one that it has, or the next of its kind. One in JSON's escapes is the same without them.

        `read`: an untrusted text said it. Where the session has no room for one more, or it is too long, it is the kind alone, which
        nothing gives back.
        """
        if "\\u" in value:
            with suppress(msgspec.DecodeError):
                value = msgspec.json.decode(f'"{value}"', type=str)
        kind = READ if read and kind == "SECRET" else kind
        for names in (self._read, self._names) if kind == READ else (self._names,):
            placeholder = names.get(value)
            if placeholder is not None and self.values[placeholder] == value:  # an old journal gave some out twice
                return placeholder
        if len(self.values) >= (MOST_READ if read else MOST) or len(value) > LONGEST_VALUE:
            return f"<{kind}>"
        self._last[kind] = self._last.get(kind, 0) + 1
        placeholder = f"<{kind}_{self._last[kind]}>"
        self._add(placeholder, kind, value)
        return placeholder

    def _add(self, placeholder: str, kind: str, value: str) -> None:
        self.values[placeholder] = value
        (self._read if kind == READ else self._names)[value] = placeholder
        if telling(kind, value):
            self._known.add(value)

    def hiding(
        self, text: str, found: Iterable[Found], *, keep: str = "", read: bool = False
    ) -> Generator[None, None, str]:
        """The text with placeholders in the place of those entities, and of all values that are known then, also where nothing
        beside them gives them away. `keep`: a text whose values stay. `read`: nobody whom we trust wrote it.

        What is found has its name before values are looked for: the same text is hidden in the same way ever after. Stops now and
        then, so that others may go on.
        """
        places: list[Place] = []
        here: dict[str, str] = {}  # what is hidden in this text alone
        for n, one in enumerate(found):
            if n % TURN == TURN - 1:
                yield
            value = text[one.start : one.end]
            if keep and value in keep:
                continue
            places.append(Place(one.start, one.end, self.name(one.kind, value, read=read)))
            if self._names.get(value) != places[-1].placeholder and telling(one.kind, value):
                here[value] = places[-1].placeholder
        for known, names in ((Known(here), here), (self._known, self._names)):
            for place in known.places(text):
                if place is None:
                    yield
                elif not (keep and text[place[0] : place[1]] in keep):
                    places.append(Place(*place, names[text[place[0] : place[1]]]))
        return _put(text, places)

    def has(self, text: str) -> bool:
        """Whether a value stands there that is hidden wherever it stands."""
        return any(place is not None for place in self._known.places(text))

    def show(self, text: str) -> str:
        """The text with the values in the place of their placeholders. Those of secrets stay: nobody has to read them."""
        return _PLACEHOLDER.sub(self._shown, text) if "<" in text else text

    def arguments(self, text: str, revealed: Revealed) -> str:
        """The JSON text of a call's arguments with those values in the place of their placeholders."""
        if revealed == "none" or not ("<" in text or "\\u003" in text):
            return text

        def value(match: re.Match[str]) -> str:
            real = self.values.get(f"<{match[1]}>")  # none for an escape, which is passed over whole
            if real is None or (revealed == "personal" and secret(match[1].rpartition("_")[0])):
                return match[0]
            return msgspec.json.encode(real).decode()[1:-1]

        return _IN_JSON.sub(value, text)

    def _shown(self, match: re.Match[str]) -> str:
        return match[0] if secret(match["kind"]) else self.values.get(match[0], match[0])


def _put(text: str, places: list[Place]) -> str:
    """The text with all of them. Of two that overlap the rest of the second is hidden too: by its kind alone, it is no value."""
    parts: list[str] = []
    at = 0
    for place in sorted(places, key=_order):
        if place.start >= at:
            parts += (text[at : place.start], place.placeholder)
        elif place.end > at:
            parts.append(f"{place.placeholder.rstrip('0123456789_>')}>")
        at = max(at, place.end)
    return "".join((*parts, text[at:])) if parts else text


def _order(place: Place) -> tuple[int, int]:
    return place.start, -place.end
