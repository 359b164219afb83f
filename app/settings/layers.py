"""The places settings come from, each as a table that knows where its keys stand."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import msgspec

from app.domain.errors import ConfigError, ConfigProblem
from app.settings.check import KeyPath, Source
from app.settings.options import WELL_KNOWN

PREFIX = "STEADYHAND__"
_AT_LINE = re.compile(r"\s*\(at (?:line (\d+), column \d+|end of document)\)$")
_ASSIGNMENT = re.compile(r"(?:export\s+)?([A-Za-z_][A-Za-z0-9_.-]*)\s*=\s*(.*)")
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r"}


class Layer(msgspec.Struct, frozen=True, kw_only=True):
    """One table over the ones before it."""

    table: dict[str, Any]
    source: Source


class Variable(msgspec.Struct, frozen=True):
    """An environment variable's text, and where it was set."""

    text: str
    where: str


def toml_layer(name: str, text: str) -> Layer:
    """A TOML file. Raises ConfigError with the line when it is not TOML."""
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        at = _AT_LINE.search(str(error))
        line = int(at[1]) if at and at[1] else max(1, len(text.splitlines()))
        why = _AT_LINE.sub("", str(error)).strip()
        raise ConfigError([ConfigProblem(f"{name}:{line}", "not valid TOML", why)]) from None
    except RecursionError:
        raise ConfigError([ConfigProblem(name, "not valid TOML", "nested too deep")]) from None
    return Layer(table=table, source=Source(where=lambda path: f"{name}:{_toml_line(text, path)}"))


def _toml_line(text: str, path: KeyPath) -> int:
    """The line (from 1) where the key's statement begins; the nearest parent's where the key is not there."""
    statements = list(_statements(text))
    while path:
        for line, table in statements:
            if contains(table, path):
                return line
        path = path[:-1]
    return 1


def _statements(text: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """Each statement of a TOML text with its first line and the table that it makes alone, from the root.

    tomllib keeps no positions, but a statement is whole as soon as its lines are TOML by themselves.
    """
    lines = text.splitlines()
    header: list[str] = []
    lists: dict[tuple[str, ...], int] = {}
    start = 0
    for end in range(1, len(lines) + 1):
        try:
            table = tomllib.loads("\n".join(lines[start:end]))
        except tomllib.TOMLDecodeError:
            continue
        if lines[start].lstrip().startswith("["):
            header = []
            inner: Any = table
            while isinstance(inner, dict) and inner:
                header += inner
                inner = inner[header[-1]]
            if isinstance(inner, list):  # [[name]]: one more table of a list
                number = lists[tuple(header)] = lists.get(tuple(header), -1) + 1
                table = {str(number): {}}
                for key in reversed(header):
                    table = {key: table}
                header.append(str(number))
        else:
            for key in reversed(header):
                table = {key: table}
        yield start + 1, table
        start = end


def contains(table: Any, path: KeyPath) -> bool:
    """Whether the key is in the table, in whatever case. A list is a table whose keys are numbers from 0."""
    for key in path:
        if isinstance(table, list):
            table = {str(number): item for number, item in enumerate(table)}
        if not isinstance(table, dict):
            return False
        inner = [value for name, value in table.items() if name.lower() == key.lower()]
        if not inner:
            return False
        table = inner[-1]
    return True


def dotenv(name: str, text: str) -> tuple[dict[str, Variable], list[ConfigProblem]]:
    """The variables of a `.env` file (`NAME=value`, `export`, quotes, comments), and its lines that are no such thing."""
    found: dict[str, Variable] = {}
    problems: list[ConfigProblem] = []
    for number, line in enumerate(text.splitlines(), 1):
        where = f"{name}:{number}"
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        match = _ASSIGNMENT.fullmatch(line)
        value = _dotenv_value(match[2]) if match else None
        if match is None or value is None:
            why = "a quote is not closed, or text follows it" if match else "expected NAME=value"
            problems.append(ConfigProblem(where, "cannot be read", why))
        elif "\x00" in value:
            problems.append(ConfigProblem(where, match[1], "no variable may hold a NUL"))
        else:
            found[match[1]] = Variable(value, where)
    return found, problems


def _dotenv_value(text: str) -> str | None:
    if text[:1] in ("'", '"'):
        quote = text[0]
        body = r"'([^']*)'" if quote == "'" else r'"((?:[^"\\]|\\.)*)"'
        match = re.fullmatch(body + r"\s*(?:#.*)?", text)
        if match is None:
            return None
        return match[1] if quote == "'" else re.sub(r"\\(.)", lambda m: _ESCAPES.get(m[1], m[1]), match[1])
    return re.split(r"(?:^|\s)#", text, maxsplit=1)[0].strip()


def environment(environ: Mapping[str, str], files: Iterable[dict[str, Variable]]) -> dict[str, Variable]:
    """All variables: those of the files, later ones first, under the real environment. Our prefixed names compare in any case."""
    merged: dict[str, Variable] = {}
    for variables in (*files, {name: Variable(text, name) for name, text in environ.items()}):
        ours = {name.upper() for name in variables if name.upper().startswith(PREFIX)}
        merged = {name: old for name, old in merged.items() if name.upper() not in ours} | variables
    return merged


def spelled_twice(variables: Mapping[str, Variable]) -> list[ConfigProblem]:
    """Our variables that are set in two spellings with different values, so that none of them is the right one."""
    seen: dict[str, str] = {}
    problems = []
    for name in sorted(name for name in variables if name.upper().startswith(PREFIX)):
        other = seen.setdefault(name.upper(), name)
        if variables[other].text != variables[name].text:
            problems.append(ConfigProblem(variables[name].where, name, f"is also set as {other}, to another value"))
    return problems


def variable_layers(variables: Mapping[str, Variable]) -> list[Layer]:
    """One layer a variable that is a setting: the well-known names, then tables, then single keys over them."""
    layers = [
        _variable_layer(path, variables[name], lambda _, name=name: name)
        for name, path in WELL_KNOWN.items()
        if name in variables and variables[name].text
    ]
    ours = [(name[len(PREFIX) :].lower().split("__"), name) for name in variables if name.upper().startswith(PREFIX)]
    layers += [
        _variable_layer(tuple(keys), variables[name], lambda path: PREFIX + "__".join(path).upper())
        for keys, name in sorted(ours, key=lambda item: (len(item[0]), item))
    ]
    return layers


def _variable_layer(path: KeyPath, variable: Variable, spell: Any) -> Layer:
    table: Any = variable.text
    for key in reversed(path):
        table = {key: table}
    return Layer(table=table, source=Source(where=lambda _: variable.where, spell=spell, text=True))


def merge(base: dict[str, Any], over: dict[str, Any], *, any_case: bool) -> dict[str, Any]:
    """`base` with `over` on top, table by table. `any_case`: a key of `over` means the key of `base` that differs in case only."""
    merged = dict(base)
    for key, value in over.items():
        name = next((known for known in base if known.lower() == key.lower()), key) if any_case else key
        below = merged.get(name)
        merged[name] = (
            merge(below, value, any_case=any_case) if isinstance(below, dict) and isinstance(value, dict) else value
        )
    return merged
