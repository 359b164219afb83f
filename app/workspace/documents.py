"""YAML files as plain data that knows its lines.

Stricter than PyYAML: a key may stand once, keys are text, dates stay text, aliases may not grow beyond measure.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import msgspec
import yaml

from app.domain.errors import ConfigError, ConfigProblem
from app.domain.text import clean
from app.settings.check import KeyPath

MAX_BYTES = 256 * 1024
MAX_NODES = 50_000
"""Values of one file, with every alias written out."""
MAX_DEPTH = 50
_TAG = "tag:yaml.org,2002:"
_SCALARS = ("str", "int", "float", "bool", "null")


class Document(msgspec.Struct, frozen=True):
    """One file: its data, and the line of every key and list item (items by their index as text)."""

    name: str
    data: Any
    lines: dict[KeyPath, int]

    def where(self, path: KeyPath) -> str:
        """File and line of a key, or of the nearest key around it."""
        while path not in self.lines and path:
            path = path[:-1]
        return f"{self.name}:{self.lines.get(path, 1)}"


def read(path: Path) -> Document:
    """The file's document. Raises ConfigError for a file that cannot be read or understood."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
        text = data.decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError([ConfigProblem(str(path), "cannot be read", str(error))]) from None
    if len(data) > MAX_BYTES:
        raise ConfigError([ConfigProblem(str(path), "too large", f"at most {MAX_BYTES} bytes")])
    return parse(str(path), text)


def parse(name: str, text: str) -> Document:
    """The document of a YAML text. Raises ConfigError with file, line and reason."""
    try:
        loader = yaml.SafeLoader(text)
        try:
            root = loader.get_single_node()
            reading = _Reading(name=name, loader=loader)
            data = reading.value(root, (), 0) if root is not None else None
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise _error(f"{name}:{mark.line + 1 if mark else 1}", _explained(error)) from None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1 if isinstance(error.position, int) else 1
        raise _error(f"{name}:{line}", f"character U+{ord(text[error.position]):04X} is not allowed") from None
    except RecursionError:
        raise _error(f"{name}:1", "nested too deep") from None
    if root is None:
        raise ConfigError([ConfigProblem(f"{name}:1", "empty", "the file has no content")])
    if reading.problems:
        raise ConfigError(reading.problems)
    return Document(name, data, reading.lines)


def _error(where: str, why: str) -> ConfigError:
    return ConfigError([ConfigProblem(where, "not valid YAML", why)])


def _explained(error: yaml.MarkedYAMLError) -> str:
    why = ", ".join(part for part in (error.context, error.problem) if part)
    return why + " (indent with spaces, not tabs)" if "'\\t'" in why else why


class _Reading:
    """Makes values of nodes; fills `lines` and `problems`."""

    def __init__(self, *, name: str, loader: yaml.SafeLoader) -> None:
        self._name = name
        self._loader = loader
        self._nodes = 0
        self.lines: dict[KeyPath, int] = {}
        self.problems: list[ConfigProblem] = []

    def value(self, node: yaml.Node, path: KeyPath, depth: int) -> Any:
        self._nodes += 1
        if self._nodes > MAX_NODES or depth > MAX_DEPTH:
            raise _error(self._where(node), "too many values or levels once its aliases are written out")
        kind = node.tag.removeprefix(_TAG)
        if isinstance(node, yaml.MappingNode) and kind == "map":
            return self._table(node, path, depth)
        if isinstance(node, yaml.SequenceNode) and kind == "seq":
            items = []
            for index, item in enumerate(node.value):
                self.lines[*path, str(index)] = item.start_mark.line + 1
                items.append(self.value(item, (*path, str(index)), depth + 1))
            return items
        if isinstance(node, yaml.ScalarNode) and kind == "timestamp":
            return node.value
        if isinstance(node, yaml.ScalarNode) and kind in _SCALARS:
            return self._scalar(node)
        self._wrong(node, ".".join(path), f"the tag {node.tag} is not allowed")
        return None

    def _table(self, node: yaml.MappingNode, path: KeyPath, depth: int) -> dict[str, Any]:
        table: dict[str, Any] = {}
        for key_node, value_node in node.value:
            key = key_node.value
            if not isinstance(key_node, yaml.ScalarNode) or key_node.tag != f"{_TAG}str" or clean(key) is not key:
                shown = ascii(key) if isinstance(key, str) else "a key"
                self._wrong(key_node, shown, "keys are text: put it in quotes (merge keys are not supported)")
                continue
            here = (*path, key)
            if key in table:
                self._wrong(key_node, ".".join(here), f"stands twice; first on line {self.lines[here]}")
                continue
            self.lines[here] = key_node.start_mark.line + 1
            table[key] = self.value(value_node, here, depth + 1)
        return table

    def _scalar(self, node: yaml.ScalarNode) -> Any:
        try:
            value = self._loader.construct_object(node)
        except (ValueError, yaml.constructor.ConstructorError):
            self._wrong(node, node.value[:40], f"is no {node.tag.removeprefix(_TAG)}")
            return None
        if isinstance(value, float) and not math.isfinite(value):
            self._wrong(node, node.value, "must be a finite number")
        if isinstance(value, str) and clean(value) is not value:
            self._wrong(node, "text", "holds a NUL or a lone surrogate")
        return value

    def _wrong(self, node: yaml.Node, what: str, why: str) -> None:
        self.problems.append(ConfigProblem(self._where(node), what or "the file", why))

    def _where(self, node: yaml.Node) -> str:
        return f"{self._name}:{node.start_mark.line + 1}"
