"""What an agent's texts are looked at for, and the stand-ins under which a model knows somebody's data.

A placeholder (`<EMAIL_1>`) names one value within one session: the same value has the same one in every turn, so that the
beginning of a conversation stays the same for a provider's prefix cache. Which value it is only the session's journal says.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal, Protocol

import msgspec

from app.domain.errors import FieldError

Pii = Literal["off", "redact", "block"]
"""`redact`: models read placeholders. `block`: besides, an input that has such data is refused."""
OutputGuards = Literal["off", "secrets", "pii"]
"""What is taken out of answers. `secrets`: also the instructions, and links that carry data away; `pii`: besides, personal data."""
EntityKind = Literal["SECRET", "EMAIL", "PHONE", "CARD", "IBAN", "NATIONAL_ID", "TAX_ID", "IP", "MAC"]
GuardKind = Literal["secret", "pii", "prompt", "link"]

_PLACEHOLDER = re.compile(r"<(?P<kind>[A-Z][A-Z_]{0,30})_(?P<n>[1-9][0-9]{0,5})>")
_IN_JSON = re.compile(r"(?:<|\\u003[cC])([A-Z][A-Z_]{0,30}_[1-9][0-9]{0,5})(?:>|\\u003[eE])")
_OPEN = re.compile(r"<(?:[A-Z][A-Z_]{0,30}(?:_[0-9]{0,6})?)?\Z")
LONGEST = 40
"""Characters that a placeholder has at most."""


class Screening(msgspec.Struct, frozen=True, kw_only=True):
    """An agent's policy. `max_input`: characters of one input; `link_hosts`: hosts that links and images may lead to, with theirs.

    `reveal`: the tools whose arguments get the real values; UNSET: all of the agent's.
    """

    pii: Pii = "off"
    output: OutputGuards = "secrets"
    max_input: int = 10_000
    link_hosts: tuple[str, ...] = ()
    reveal: tuple[str, ...] | msgspec.UnsetType = msgspec.UNSET

    def reveals(self, tool: str) -> bool:
        """Whether that tool gets the real values."""
        return self.reveal is msgspec.UNSET or tool in self.reveal


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

    def guard(self, policy: Screening, instructions: str) -> OutputGuard | None:
        """A guard for one text of an agent with those instructions. None: the policy is to look at nothing."""
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


class Placeholders:
    """A session's values, each with its placeholder. Only ever grows; the same additions in the same order give the same ones."""

    def __init__(self, known: Mapping[str, str] | None = None) -> None:
        self.values: dict[str, str] = {}
        self._names: dict[str, str] = {}
        self._last: dict[str, int] = {}
        self.learn(known or {})

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Placeholders) and self.values == other.values

    __hash__ = None  # type: ignore[assignment]  # it grows

    def learn(self, known: Mapping[str, str]) -> None:
        """Take in values by placeholder, as an earlier owner of the session gave them out."""
        for placeholder, value in known.items():
            named = _PLACEHOLDER.fullmatch(placeholder)
            if named is not None:
                self.values[placeholder] = value
                self._names[value] = placeholder
                self._last[named["kind"]] = max(self._last.get(named["kind"], 0), int(named["n"]))

    def name(self, kind: str, value: str) -> str:
        """The placeholder of that value: the one that it has, or the next of its kind."""
        placeholder = self._names.get(value)
        if placeholder is None:
            self._last[kind] = self._last.get(kind, 0) + 1
            placeholder = f"<{kind}_{self._last[kind]}>"
            self._names[value] = placeholder
            self.values[placeholder] = value
        return placeholder

    def hide(self, text: str, found: Iterable[Found]) -> str:
        """The text with placeholders in the place of those entities."""
        parts: list[str] = []
        at = 0
        for entity in found:
            parts += (text[at : entity.start], self.name(entity.kind, text[entity.start : entity.end]))
            at = entity.end
        return text if at == 0 else "".join((*parts, text[at:]))

    def show(self, text: str) -> str:
        """The text with the values in the place of their placeholders. Those of secrets stay: nobody has to read them."""
        return _PLACEHOLDER.sub(self._shown, text) if "<" in text else text

    def arguments(self, text: str) -> str:
        """The JSON text of a call's arguments with the values in the place of their placeholders, those of secrets too."""

        def value(match: re.Match[str]) -> str:
            real = self.values.get(f"<{match[1]}>")
            return match[0] if real is None else msgspec.json.encode(real).decode()[1:-1]

        return _IN_JSON.sub(value, text) if "<" in text or "\\u003" in text else text

    def _shown(self, match: re.Match[str]) -> str:
        return match[0] if match["kind"] == "SECRET" else self.values.get(match[0], match[0])


class Shown:
    """Puts values in the place of their placeholders in a text that grows. What may be the beginning of one is held back."""

    def __init__(self, show: Callable[[str], str]) -> None:
        self._show = show
        self._held = ""

    def push(self, text: str) -> str:
        """What may be shown after that much more."""
        text = self._held + text
        begun = _OPEN.search(text, max(0, len(text) - LONGEST))
        at = len(text) if begun is None else begun.start()
        self._held = text[at:]
        return self._show(text[:at])

    def end(self) -> str:
        """The rest: the text is whole."""
        rest, self._held = self._held, ""
        return rest
