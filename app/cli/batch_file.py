"""A file of items, one JSON object a line, as the batches that it makes: the same file makes the same ones, however often it is read."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from app.domain.errors import SteadyhandError
from app.domain.messages import JsonObject

MAX_ITEMS = 20_000
MAX_BYTES = 5_000_000
"""Items and bytes of one batch: below what the service takes in a request."""


class BadFile(SteadyhandError):
    """The file holds something that is no item."""


class Line(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One line. Without a `custom_id` its number is its name; `agent` goes before that of the command."""

    custom_id: Annotated[str, Meta(min_length=1, max_length=256)] | None = None
    input: Any = msgspec.UNSET
    message: str | msgspec.UnsetType = msgspec.UNSET
    agent: str | None = None
    context: JsonObject | None = None
    tags: dict[str, str] = {}

    def __post_init__(self) -> None:
        if (self.input is msgspec.UNSET) == (self.message is msgspec.UNSET):
            raise ValueError("must have either `input` or `message`")


class Item(msgspec.Struct, frozen=True, kw_only=True):
    """An item as the service takes it."""

    custom_id: str
    input: Any
    context: JsonObject | None = None
    tags: dict[str, str] = {}


class Piece(msgspec.Struct, frozen=True, kw_only=True):
    """One batch: a request's body and its idempotency key. `places` are its items' places in the file, from 0."""

    agent: str | None
    body: bytes
    key: str
    places: tuple[int, ...]


class _Body(msgspec.Struct, frozen=True, omit_defaults=True):
    items: list[Item]
    agent: str | None = None
    completion_window: float | None = None


_LINE = msgspec.json.Decoder(Line)


def pieces(file: Path, agent: str | None, window: float | None, salt: str = "") -> list[Piece]:
    """The batches of the file: one for each agent, and more where it is long. `salt` makes them others. Raises `BadFile`."""
    found: list[Piece] = []
    groups: dict[str | None, list[tuple[int, Item]]] = {}
    sizes: dict[str | None, int] = {}
    for place, (number, raw) in enumerate(_lines(file)):
        line = _line(file, number, raw)
        who = line.agent or agent
        given = line.message if line.input is msgspec.UNSET else line.input
        item = Item(custom_id=line.custom_id or str(number), input=given, context=line.context, tags=line.tags)
        size = len(raw) + 100
        group = groups.setdefault(who, [])
        if group and (len(group) == MAX_ITEMS or sizes[who] + size > MAX_BYTES):
            found.append(_piece(who, group, window, salt))
            group.clear()
        sizes[who] = size + (sizes[who] if group else 0)
        group.append((place, item))
    found += [_piece(who, group, window, salt) for who, group in groups.items()]
    if not found:
        raise BadFile(f"{file}: has no items")
    return found


def _lines(file: Path) -> Iterable[tuple[int, bytes]]:
    """Every line that is not blank, with its number from 1."""
    try:
        with file.open("rb") as opened:
            for number, line in enumerate(opened, 1):
                if line.strip():
                    yield number, line
    except OSError as error:
        raise BadFile(f"{file}: {error.strerror}") from error


def _line(file: Path, number: int, raw: bytes) -> Line:
    try:
        return _LINE.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadFile(f"{file}:{number}: {error}") from error


def _piece(agent: str | None, group: list[tuple[int, Item]], window: float | None, salt: str) -> Piece:
    body = msgspec.json.encode(_Body(items=[item for _, item in group], agent=agent, completion_window=window))
    key = hashlib.sha256(salt.encode() + b"\n" + body).hexdigest()
    return Piece(agent=agent, body=body, key=f"batch-{key[:40]}", places=tuple(place for place, _ in group))
