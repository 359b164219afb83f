from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.agents import Agent, Variable
from app.domain.errors import RequestError
from app.prompts.render import placeholders, render


def agent(instructions: str, **variables: Variable) -> Agent:
    return Agent(name="a", description="", kind="chat", instructions=instructions, variables=variables)


def test_values_defaults_and_the_rest() -> None:
    asked = agent("{{name}} is {{ age }}: {{ok}} {{x}}", name=Variable(), age=Variable(type="integer"), ok=Variable(type="boolean", default=True), x=Variable(type="number", default=0.5))  # fmt: skip
    context = {"name": "Ann", "age": 7, "other": [1]}
    assert render(asked, context) == ("Ann is 7: true 0.5", {"other": [1]})
    assert context == {"name": "Ann", "age": 7, "other": [1]}
    assert render(asked, {"name": "", "age": 0, "ok": False, "x": 3}) == (" is 0: false 3", {})


def test_without_variables_everything_is_left_over() -> None:
    assert render(agent("{{name}}"), {"name": 1}) == ("{{name}}", {"name": 1})
    assert render(agent("plain"), None) == ("plain", {})


@pytest.mark.parametrize(
    ("kind", "wrong"),
    [
        ("string", [1, None, True, [], {}]),
        ("integer", ["1", 1.0, True, None]),
        ("number", ["1", False, None]),
        ("boolean", [0, "true", None]),
    ],
)
def test_wrong_types_are_the_callers_error(kind: Any, wrong: list[object]) -> None:
    for value in wrong:
        with pytest.raises(RequestError) as caught:
            render(agent("{{v}}", v=Variable(type=kind, default=None)), {"v": value})
        assert caught.value.code == "validation_error"
        assert [(e.path, e.message) for e in caught.value.errors] == [("context.v", f"must be of type {kind}")]


def test_all_missing_values_at_once() -> None:
    with pytest.raises(RequestError) as caught:
        render(agent("{{a}}{{b}}{{c}}", a=Variable(), b=Variable(type="integer"), c=Variable(default="c")), None)
    assert [e.path for e in caught.value.errors] == ["context.a", "context.b"]
    assert "context.a" in caught.value.detail
    assert "context.b" in caught.value.detail


def test_what_is_special() -> None:
    template = "{{a}} {{ b }} {{{c}}} {d} {{}} {{ e.f }} {{#if}} {{1}} {%g%} {{h\n}} \\{{i}}"
    assert placeholders(template) == {"a", "b", "c", "i"}


@given(st.text(), st.text("{} ab\\$"))
def test_values_go_in_verbatim_and_are_never_expanded(first: str, second: str) -> None:
    asked = agent("<{{a}}|{{ b }}>", a=Variable(), b=Variable())
    assert render(asked, {"a": first, "b": second}) == (f"<{first}|{second}>", {})
    assert render(asked, {"a": "{{b}}", "b": second})[0] == f"<{{{{b}}}}|{second}>"
