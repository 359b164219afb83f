"""Which JSON Schemas the vendors can enforce while the model writes."""

from __future__ import annotations

from typing import Any

_KEYWORDS = frozenset(
    {
        "type",
        "properties",
        "required",
        "additionalProperties",
        "items",
        "enum",
        "const",
        "anyOf",
        "$ref",
        "$defs",
        "title",
        "description",
    }
)


def enforceable(schema: Any) -> bool:
    """Whether `schema` lies in the part of JSON Schema that strict structured output takes at both vendors.

    The root is an object; every object closes itself with `additionalProperties: false` and requires all of its properties;
    no other keywords. What is not enforceable is still sent as a description where the API can take one.
    """
    return isinstance(schema, dict) and schema.get("type") == "object" and "anyOf" not in schema and _fits(schema)


def _fits(schema: Any) -> bool:
    if not isinstance(schema, dict) or not schema.keys() <= _KEYWORDS:
        return False
    properties = schema.get("properties", {})
    if not isinstance(properties, dict):
        return False
    types = schema.get("type")
    if types == "object" or (isinstance(types, list) and "object" in types) or properties:
        required = schema.get("required", [])
        if (
            schema.get("additionalProperties") is not False
            or not isinstance(required, list)
            or set(required) != set(properties)
        ):
            return False
    defs = schema.get("$defs", {})
    branches = schema.get("anyOf", [])
    if not isinstance(defs, dict) or not isinstance(branches, list):
        return False
    nested = [*properties.values(), *defs.values(), *branches]
    if "items" in schema:
        nested.append(schema["items"])
    return all(_fits(part) for part in nested)
