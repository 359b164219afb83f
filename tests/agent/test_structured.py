from __future__ import annotations

from typing import Any

import pytest

from app.agent.structured import MAX_PROBLEMS, read
from tests.agent.states import SCHEMA

LIST = {"type": "array", "items": {"type": "integer"}}


@pytest.mark.parametrize(
    "text",
    [
        '{"n":1}',
        ' \n{"n": 1}\n',
        '```json\n{"n": 1}\n```',
        '```\n{"n": 1}\n```',
        '  ```json  \n{"n": 1}```  \n',
        '```json\n\n{\n"n": 1\n}\n\n```',
    ],
)
def test_a_fence_is_ignored(text: str) -> None:
    assert read(text, SCHEMA) == ({"n": 1}, None)


@pytest.mark.parametrize(("text", "value"), [("1", 1), ('"x"', "x"), ("null", None), ("[]", []), ('"```"', "```")])
def test_any_json_may_be_an_answer(text: str, value: Any) -> None:
    assert read(text, {}) == (value, None)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "no",
        '{"n": 1',
        'Here: {"n": 1}',
        '{"n": NaN}',
        "{'n': 1}",
        '{"n": 1}{"n": 2}',
        "[" * 100_000,
        "1" * 9000,
    ],
    ids=lambda text: text[:10].encode("ascii", "backslashreplace").decode(),
)
def test_what_is_not_the_answer_is_said_and_not_raised(text: str) -> None:
    value, problem = read(text, SCHEMA)
    assert value is None
    assert problem
    assert len(problem) < 1500


def test_errors_name_their_place() -> None:
    assert read('{"n": "x"}', SCHEMA) == (None, "$.n: 'x' is not of type 'integer'")
    assert read("{}", SCHEMA) == (None, "$: 'n' is a required property")


def test_errors_are_few_and_short() -> None:
    _, many = read(str(["x" * 1000] * 50).replace("'", '"'), LIST)
    assert many is not None
    assert many.count("; ") == MAX_PROBLEMS - 1
    assert len(many) < MAX_PROBLEMS * 250
    assert many.startswith("$[0]: 'xxx")


def test_errors_at_places_that_do_not_compare() -> None:
    schema = {"properties": {"a": LIST}, "items": {"type": "object"}, "additionalProperties": {"type": "string"}}
    _, problem = read('{"a": ["x", 1, "y"], "b": 1, "0": 2}', schema)
    assert problem is not None
    assert "$.a[0]" in problem


def test_a_schema_that_refers_to_itself() -> None:
    tree = {"type": "object", "properties": {"kids": {"type": "array", "items": {"$ref": "#"}}}, "required": ["kids"]}
    assert read('{"kids": [{"kids": []}]}', tree) == ({"kids": [{"kids": []}]}, None)
    assert read('{"kids": [{}]}', tree) == (None, "$.kids[0]: 'kids' is a required property")


def test_the_dialect_is_the_schemas_own() -> None:
    legacy = {"$schema": "http://json-schema.org/draft-04/schema#", "maximum": 3, "exclusiveMaximum": True}
    assert read("3", legacy)[1]
    assert read("3", {"maximum": 3}) == (3, None)
