from __future__ import annotations

from typing import Any

import msgspec
import pytest

from app.domain.agents import Variable
from app.prompts.registry import Prompt, PromptFile, find, problems, prompt


def file(**data: Any) -> PromptFile:
    return msgspec.convert(data, PromptFile)


def versions(*names: str) -> dict[str, Any]:
    return {name: {"template": f"template of {name}"} for name in names}


def test_the_highest_number_is_the_latest() -> None:
    assert prompt("p", file(versions=versions("v2", "v10", "v9"))).latest == "v10"
    assert prompt("p", file(versions=versions("v2", "v10"), latest="v2")).latest == "v2"


@pytest.mark.parametrize(
    ("reference", "found"), [("p", "p@v2"), ("p@latest", "p@v2"), ("p@v1", "p@v1"), ("p@v10", "p@v10")]
)
def test_references(reference: str, found: str) -> None:
    prompts = {"p": prompt("p", file(versions=versions("v1", "v2", "v10"), latest="v2"))}
    name, version = find(prompts, reference)
    assert (name, version.template) == (found, f"template of {found[2:]}")


@pytest.mark.parametrize(
    ("reference", "why"),
    [
        ("q", "there is no prompts/q.yaml"),
        ("p@v3", "prompt p has no version 'v3'; it has v1, v2"),
        ("p@", "prompt p has no version ''; it has v1, v2"),
        ("p@v1@v2", "prompt p has no version 'v1@v2'; it has v1, v2"),
    ],
)
def test_references_that_lead_nowhere(reference: str, why: str) -> None:
    prompts: dict[str, Prompt] = {"p": prompt("p", file(versions=versions("v1", "v2")))}
    with pytest.raises(LookupError) as caught:
        find(prompts, reference)
    assert caught.value.args == (why,)


def test_variables_as_a_list_of_names() -> None:
    (version,) = file(versions={"v1": {"template": "{{a}}{{ b }}", "variables": ["a", "b"]}}).versions.values()
    assert version.declared() == {"a": Variable(), "b": Variable()}


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ({"versions": versions("v1")}, []),
        ({"versions": {}}, [(("versions",), "has no version")]),
        ({"versions": versions("1")}, [(("versions", "1"), "a version is named v1, v2, …")]),
        ({"versions": versions("v01")}, [(("versions", "v01"), "a version is named v1, v2, …")]),
        ({"versions": versions("v1", "v2"), "latest": "v3"}, [(("latest",), "v3 is none of the versions: v1, v2")]),
        (
            {"versions": {"v1": {"template": "{{b}} {{a}}", "variables": ["c"]}}},
            [
                (("versions", "v1", "template"), "{{a}} is not declared in variables"),
                (("versions", "v1", "template"), "{{b}} is not declared in variables"),
                (("versions", "v1", "variables", "c"), "c is declared but {{c}} is not in the template"),
            ],
        ),
        (
            {"versions": {"v1": {"template": "{{a}}", "variables": {"a": {"type": "integer", "default": "x"}}}}},
            [(("versions", "v1", "variables", "a", "default"), "must be of type integer")],
        ),
    ],
)
def test_problems(data: dict[str, Any], expected: list[object]) -> None:
    assert problems(file(**data)) == expected
