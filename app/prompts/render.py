"""The system text of one run."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from app.domain.agents import Agent, Variable
from app.domain.errors import FieldError, RequestError
from app.domain.messages import JsonObject

_PLACEHOLDER = re.compile(r"\{\{ *([A-Za-z_][A-Za-z0-9_]*) *\}\}")
_TYPES: dict[str, tuple[type, ...]] = {"string": (str,), "integer": (int,), "number": (int, float), "boolean": (bool,)}


def placeholders(template: str) -> set[str]:
    """The names that the template wants values for: `{{name}}`, spaces allowed. Nothing else in it is special."""
    return set(_PLACEHOLDER.findall(template))


def has_type(variable: Variable, value: object) -> bool:
    """Whether a JSON value is of the variable's type. A boolean is no number."""
    return isinstance(value, _TYPES[variable.type]) and (variable.type == "boolean" or not isinstance(value, bool))


def render(agent: Agent, context: Mapping[str, Any] | None) -> tuple[str, JsonObject]:
    """The agent's instructions with its variables filled in, and what is left of the caller's context.

    Values go in as they are and are not looked at again, so that a value cannot ask for another one. Raises RequestError
    (`validation_error`) with every value that is missing or of the wrong type.
    """
    context = context or {}
    values: dict[str, Any] = {}
    errors: list[FieldError] = []
    for name, variable in agent.variables.items():
        value = context.get(name, variable.default)
        if name not in context and value is None:
            errors.append(FieldError(f"context.{name}", f"missing: agent {agent.name} needs this {variable.type}"))
        elif not has_type(variable, value):
            errors.append(FieldError(f"context.{name}", f"must be of type {variable.type}"))
        values[name] = value
    if errors:
        detail = f"agent {agent.name} takes values from `context`: " + "; ".join(
            f"{e.path} {e.message}" for e in errors
        )
        raise RequestError("validation_error", detail, errors)
    text = _PLACEHOLDER.sub(
        lambda match: _text(values[match[1]]) if match[1] in values else match[0], agent.instructions
    )
    return text, {key: value for key, value in context.items() if key not in values}


def _text(value: str | float | bool) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
