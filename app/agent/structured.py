"""Structured answers: read the model's text as JSON and hold it against the agent's `output_schema`."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any

import jsonschema
import msgspec

_FENCE = re.compile(r"\A\s*```(?:json)?\s*\n(.*?)\n?\s*```\s*\Z", re.DOTALL)
MAX_PROBLEMS = 5


def read(text: str, schema: dict[str, Any]) -> tuple[Any, str | None]:
    """The JSON value of `text`, and what is wrong with it in words for the model (None: nothing). A code fence around it is ignored."""
    fenced = _FENCE.match(text)
    try:
        value = msgspec.json.decode((fenced[1] if fenced else text).encode())
    except (msgspec.DecodeError, RecursionError) as error:
        return None, f"it is not valid JSON ({error})"
    problems = sorted(
        _validator(msgspec.json.encode(schema)).iter_errors(value), key=lambda problem: list(problem.path)
    )
    if not problems:
        return value, None
    said = [f"{problem.json_path}: {problem.message[:200]}" for problem in problems[:MAX_PROBLEMS]]
    return None, "; ".join(said)


@lru_cache(maxsize=64)
def _validator(schema: bytes) -> Any:
    decoded = msgspec.json.decode(schema)
    return jsonschema.validators.validator_for(decoded, default=jsonschema.Draft202012Validator)(decoded)
