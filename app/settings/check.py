"""Compares plain data with a Struct type and names every difference, not only the first."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from difflib import get_close_matches
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin

import msgspec

from app.domain.errors import ConfigProblem
from app.settings.options import Secret

KeyPath = tuple[str, ...]
UNAVAILABLE = "not available in this version"


class Source(msgspec.Struct, frozen=True, kw_only=True):
    """Where data comes from. `where` names the place of a key; `spell` writes a key as its author would.

    `text`: the values are the text of an environment variable, so scalars are converted, and lists and tables are JSON.
    """

    where: Callable[[KeyPath], str]
    spell: Callable[[KeyPath], str] = ".".join
    text: bool = False


class Check:
    """One comparison. Afterwards `problems` has everything that is wrong, in the data's order."""

    def __init__(self, *, source: Source, not_yet: Iterable[str] = ()) -> None:
        """`not_yet`: dotted keys (`*` for any name) and `key=value` pairs that are refused as not available."""
        self._source = source
        self._not_yet = frozenset(not_yet)
        self.problems: list[ConfigProblem] = []
        self.refused: set[KeyPath] = set()

    def fits(self, expected: Any, data: Any) -> Any:
        """`data` as plain values without the keys that are wrong (None where nothing of it can be used)."""
        return self._visit(expected, data, (), ())

    def refuse(self, path: KeyPath, why: str) -> None:
        """Note one problem at that key."""
        self.refused.add(path)
        what = self._source.spell(path) or "the file"
        self.problems.append(ConfigProblem(self._source.where(path), what, why))

    def _visit(self, expected: Any, value: Any, path: KeyPath, pattern: KeyPath) -> Any:
        expected = _member(expected, value, text=self._source.text)
        if (item := _items_of(expected)) is not None:
            return self._list(item, value, path, pattern)
        fields = _fields(expected)
        each = _values_of(expected)
        if fields is None and each is None:
            if isinstance(value, str) and f"{'.'.join(pattern)}={value}" in self._not_yet:
                self.refuse(path, f"{value} is {UNAVAILABLE}")
                return None
            return self._leaf(expected, value, path)
        if self._source.text and isinstance(value, str):
            value = self._json(value, path, "a table is written as JSON: {…}")
        if not isinstance(value, dict):
            if path not in self.refused:
                self.refuse(path, f"must be a table, not {_name(value)}")
            return None
        kept: dict[str, Any] = {}
        for key, inner in value.items():
            here = (*path, key)
            shape = (*pattern, key if fields is not None else "*")
            if ".".join(shape) in self._not_yet:
                self.refuse(here, UNAVAILABLE)
            elif fields is not None and key not in fields:
                self.refuse(here, "unknown" + self._suggestion(here, fields))
            else:
                found = self._visit(each if fields is None else fields[key].type, inner, here, shape)
                if here not in self.refused:
                    kept[key] = found
        for name, field in (fields or {}).items():
            if field.required and name not in value:
                self.refuse((*path, name), "missing")
        return kept

    def _list(self, item: Any, value: Any, path: KeyPath, pattern: KeyPath) -> Any:
        """A list of tables; each has its number, from 0, as its key."""
        if self._source.text and isinstance(value, str):
            value = self._json(value, path, "a list of tables is written as JSON: [{…}]")
        if not isinstance(value, list):
            if path not in self.refused:
                self.refuse(path, f"must be a list of tables, not {_name(value)}")
            return None
        found = [self._visit(item, inner, (*path, str(n)), (*pattern, "*")) for n, inner in enumerate(value)]
        if any(refused[: len(path)] == path for refused in self.refused):
            self.refused.add(path)
            return None
        return found

    def _leaf(self, expected: Any, value: Any, path: KeyPath) -> Any:
        text = self._source.text and isinstance(value, str)
        if text and get_origin(expected) in (tuple, list):
            value = self._json(value, path, 'a list is written as JSON: ["…"]')
            if path in self.refused:
                return None
        try:
            return _convert(value, expected, strict=not text)
        except msgspec.ValidationError as error:
            choices = _choices(expected)
            self.refuse(path, f"must be one of {', '.join(choices)}" if choices else _reason(error, text=text))
            return None

    def _json(self, text: str, path: KeyPath, why: str) -> Any:
        try:
            return msgspec.json.decode(text)
        except (msgspec.DecodeError, ValueError, RecursionError):
            self.refuse(path, why)
            return None

    def _suggestion(self, path: KeyPath, fields: Iterable[str]) -> str:
        near = get_close_matches(path[-1], list(fields), n=1)
        return (
            f"; did you mean {self._source.spell((*path[:-1], near[0]))}?"
            if near
            else f"; known here: {', '.join(fields)}"
        )


def _fields(expected: Any) -> dict[str, msgspec.structs.FieldInfo] | None:
    if isinstance(expected, type) and issubclass(expected, msgspec.Struct):
        return {field.encode_name: field for field in msgspec.structs.fields(expected)}
    return None


def _values_of(expected: Any) -> Any:
    """The type of a table's values where keys are free and the values have a shape, else None."""
    if get_origin(expected) is dict and get_args(expected)[1] is not Any:
        return get_args(expected)[1]
    return None


def _items_of(expected: Any) -> Any:
    """The Struct of a list's tables, where it is a list of tables, else None."""
    if get_origin(expected) is tuple and _fields(get_args(expected)[0]) is not None:
        return get_args(expected)[0]
    return None


def _member(expected: Any, value: Any, *, text: bool) -> Any:
    """The member of a union that a table must be, where `value` is one, or in a variable is the JSON of one."""
    table = isinstance(value, dict) or (text and isinstance(value, str) and value.lstrip().startswith("{"))
    if table and get_origin(expected) in (Union, UnionType):
        return next((m for m in get_args(expected) if _fields(m) is not None or get_origin(m) is dict), expected)
    return expected


def _convert(value: Any, expected: Any, *, strict: bool) -> Any:
    """`value` as `expected`; names of a fixed set are taken in any case."""
    try:
        return msgspec.convert(value, expected, strict=strict, dec_hook=_secret)
    except msgspec.ValidationError:
        if not isinstance(value, str) or value.lower() not in _choices(expected):
            raise
        return value.lower()


def _secret(kind: type, value: Any) -> Any:
    if kind is Secret and isinstance(value, str):
        return Secret(value)
    raise ValueError(f"Expected `str`, got `{_name(value)}`")


def _choices(expected: Any) -> tuple[str, ...]:
    if get_origin(expected) is Literal:
        return get_args(expected)
    return tuple(name for member in get_args(expected) if get_origin(member) is Literal for name in get_args(member))


def _name(value: Any) -> str:
    return {dict: "a table", list: "a list", str: "text", type(None): "nothing"}.get(type(value), type(value).__name__)


def _reason(error: msgspec.ValidationError, *, text: bool) -> str:
    """msgspec's sentence. What an environment variable holds is always text, so that half is left out there."""
    reason = str(error).replace("`", "").replace(" - at $", " at ")
    return (reason[:1].lower() + reason[1:]).partition(", got" if text else "\n")[0]
