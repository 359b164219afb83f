"""What is different between two JSON values: for people who compare, and for the record."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """One place: a JSON pointer (RFC 6901), what stood there and what stands there now. Without `old` it was added, without `new` removed."""

    path: str
    old: Any = msgspec.UNSET
    new: Any = msgspec.UNSET


def changes(old: Any, new: Any) -> tuple[Change, ...]:
    """Every place that differs, in the order of the old value; items of lists are compared by their index. Empty: they are the same JSON."""
    return tuple(_changes("", old, new))


def _changes(path: str, old: Any, new: Any) -> Iterator[Change]:
    if isinstance(old, dict) and isinstance(new, dict):
        for key in dict.fromkeys((*old, *new)):
            inner = f"{path}/{key.replace('~', '~0').replace('/', '~1')}"
            yield from _changes(inner, old.get(key, msgspec.UNSET), new.get(key, msgspec.UNSET))
    elif isinstance(old, list) and isinstance(new, list):
        for index in range(max(len(old), len(new))):
            before, after = (items[index] if index < len(items) else msgspec.UNSET for items in (old, new))
            yield from _changes(f"{path}/{index}", before, after)
    elif isinstance(old, bool) is not isinstance(new, bool) or old != new:
        yield Change(path=path, old=old, new=new)
