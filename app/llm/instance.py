"""The smallest JSON value that a JSON Schema accepts, for an answerer that cannot think of a better one."""

from __future__ import annotations

import math
from typing import Any

_MAX_DEPTH = 32
_FORMATS = {
    "date": "1970-01-01",
    "date-time": "1970-01-01T00:00:00Z",
    "time": "00:00:00Z",
    "duration": "PT0S",
    "email": "nobody@example.com",
    "hostname": "example.com",
    "ipv4": "192.0.2.1",
    "ipv6": "2001:db8::1",
    "uri": "https://example.com/",
    "uri-reference": "/",
    "uuid": "00000000-0000-0000-0000-000000000000",
}


def instance(schema: Any, text: str, number: int | float | None = None) -> Any:
    """A value of `schema` with `text` in the first string, and `number` in the first number, that may hold it.

    It knows types, `required`, `enum`, `const`, bounds of numbers and lengths, `multipleOf`, formats, `$ref` within the schema,
    and of `anyOf` and `oneOf` the first branch. It does not know `pattern`, `not` and `if`: there the value may be refused.
    """
    return _Builder(schema, text, number).build(schema, 0)


class _Builder:
    def __init__(self, root: Any, text: str, number: int | float | None) -> None:
        self._root = root
        self._text: str | None = text
        self._number = number

    def build(self, schema: Any, depth: int) -> Any:
        schema = self._resolved(schema, depth)
        if "const" in schema:
            return schema["const"]
        if schema.get("enum"):
            return schema["enum"][0]
        match _type(schema):
            case "object":
                return self._object(schema, depth)
            case "array":
                return self._array(schema, depth)
            case "string":
                return self._string(schema)
            case "integer" | "number" as kind:
                return self._numeric(schema, kind == "integer")
            case "boolean":
                return False
            case "null":
                return None
            case _:
                return self._string(schema)

    def _resolved(self, schema: Any, depth: int) -> dict[str, Any]:
        """The schema with references followed, the first branch taken and `allOf` merged in."""
        if not isinstance(schema, dict) or depth > _MAX_DEPTH:
            return {} if depth <= _MAX_DEPTH else {"const": None}
        if isinstance(reference := schema.get("$ref"), str):
            rest = {key: value for key, value in schema.items() if key != "$ref"}
            return _merged(self._resolved(self._pointed(reference), depth + 1), rest)
        for key in ("anyOf", "oneOf"):
            if branches := schema.get(key):
                rest = {name: value for name, value in schema.items() if name != key}
                return self._resolved(_merged(rest, self._resolved(branches[0], depth + 1)), depth + 1)
        if parts := schema.get("allOf"):
            whole = {name: value for name, value in schema.items() if name != "allOf"}
            for part in parts:
                whole = _merged(whole, self._resolved(part, depth + 1))
            return whole
        return schema

    def _pointed(self, reference: str) -> Any:
        node = self._root
        for part in reference.removeprefix("#").split("/")[1:]:
            key = part.replace("~1", "/").replace("~0", "~")
            node = node.get(key, {}) if isinstance(node, dict) else {}
        return node

    def _object(self, schema: dict[str, Any], depth: int) -> dict[str, Any]:
        properties = schema.get("properties", {})
        required = schema.get("required", [])
        wanted = [name for name in properties if name in required] + [
            name for name in required if name not in properties
        ]
        if self._text is not None and not any(self._holds_text(properties.get(name, {}), depth) for name in wanted):
            optional = (n for n, part in properties.items() if n not in wanted and self._holds_text(part, depth))
            wanted += list(optional)[:1]
        return {name: self.build(properties.get(name, {}), depth + 1) for name in wanted}

    def _holds_text(self, schema: Any, depth: int) -> bool:
        resolved = self._resolved(schema, depth + 1)
        return _type(resolved) in ("string", None) and not {"const", "enum", "format", "pattern"} & resolved.keys()

    def _array(self, schema: dict[str, Any], depth: int) -> list[Any]:
        first = schema.get("prefixItems", [])
        return [
            self.build(first[index] if index < len(first) else schema.get("items", {}), depth + 1)
            for index in range(min(schema.get("minItems", 0), 1000))
        ]

    def _string(self, schema: dict[str, Any]) -> str:
        if "format" in schema:
            return _FORMATS.get(schema["format"], "")
        text = ""
        if self._text is not None and "pattern" not in schema:
            text, self._text = self._text, None
        text = text[: schema.get("maxLength", len(text))]
        return text.ljust(min(schema.get("minLength", 0), 10_000), ".")

    def _numeric(self, schema: dict[str, Any], whole: bool) -> int | float:
        number, self._number = self._number, None
        if number is not None and (not whole or isinstance(number, int)) and _within(number, schema):
            return number
        step = schema.get("multipleOf", 1)
        low = schema.get("minimum", schema.get("exclusiveMinimum"))
        high = schema.get("maximum", schema.get("exclusiveMaximum"))
        if (low is None or low <= 0) and (high is None or high >= 0) and _within(0, schema):
            return 0
        if low is not None:
            count = math.ceil(low / step)
            candidates = [count * step, (count + 1) * step]
        else:
            count = math.floor(high / step) if high is not None else 0
            candidates = [count * step, (count - 1) * step]
        if not whole and low is not None and high is not None:
            candidates.append((low + high) / 2)
        fitting: list[int | float] = [value for value in candidates if _within(value, schema)]
        return fitting[0] if fitting else 0


def _within(value: int | float, schema: dict[str, Any]) -> bool:
    return (
        value >= schema.get("minimum", value)
        and value <= schema.get("maximum", value)
        and ("exclusiveMinimum" not in schema or value > schema["exclusiveMinimum"])
        and ("exclusiveMaximum" not in schema or value < schema["exclusiveMaximum"])
        and ("multipleOf" not in schema or value % schema["multipleOf"] == 0)
    )


def _type(schema: dict[str, Any]) -> str | None:
    named = schema.get("type")
    if isinstance(named, list):
        named = named[0] if named else None
    if named is None:
        hints = {
            "properties": "object",
            "required": "object",
            "items": "array",
            "prefixItems": "array",
            "minimum": "number",
        }
        return next((kind for key, kind in hints.items() if key in schema), None)
    return str(named)


def _merged(first: dict[str, Any], second: dict[str, Any]) -> dict[str, Any]:
    whole = {**first, **second}
    if "properties" in first and "properties" in second:
        whole["properties"] = {**first["properties"], **second["properties"]}
    if "required" in first and "required" in second:
        whole["required"] = list(dict.fromkeys([*first["required"], *second["required"]]))
    return whole
