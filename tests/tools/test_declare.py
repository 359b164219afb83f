from __future__ import annotations

import dataclasses
import enum
import types
from collections.abc import Callable
from typing import Annotated, Any, Literal

import jsonschema
import msgspec
import pytest

from app.tools import ToolContext, tool
from app.tools.declare import ToolDeclarationError, declare, declared


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Line(msgspec.Struct):
    sku: str
    amount: int = 1
    next: Line | None = None


@dataclasses.dataclass
class Address:
    city: str


@tool(risk="medium", effect="idempotent", timeout=5, retry=2)
async def order(
    ctx: ToolContext,
    lines: list[Line],
    speed: Literal["slow", "fast"] = "slow",
    colour: Colour = Colour.RED,
    to: Address | None = None,
    labels: dict[str, int] = {},  # noqa: B006 - what users write
    sizes: list[int] = [1, 2],  # noqa: B006
    note: Annotated[str, msgspec.Meta(description="Free text.", max_length=5)] = "",
) -> str:
    """Order things,
    now.

    Not for the model.

    Args:
        lines: What to order,
            one entry a thing.
        speed (str): How fast.
        note: loses against the annotation

    Returns:
        str: nothing
    """
    return note


@tool
def bare(x: int) -> int:
    """Give it back."""
    return x


def test_decorator_leaves_the_function_as_it_was() -> None:
    assert bare(3) == 3
    assert bare.__name__ == "bare"


def test_bare_means_high_and_write() -> None:
    spec = declare(bare).spec
    assert (spec.name, spec.risk, spec.effect, spec.timeout, spec.retry) == ("bare", "high", "write", 30.0, 0)
    assert spec.schema == {
        "type": "object",
        "properties": {"x": {"type": "integer"}},
        "required": ["x"],
        "additionalProperties": False,
    }


def test_schema_of_a_rich_signature() -> None:
    entry = declare(order)
    spec, schema = entry.spec, entry.spec.schema
    assert entry.contexts == ("ctx",)
    assert (spec.risk, spec.effect, spec.timeout, spec.retry) == ("medium", "idempotent", 5, 2)
    assert spec.description == "Order things, now."
    assert schema["type"] == "object"
    assert schema["required"] == ["lines"]
    properties = schema["properties"]
    assert "ctx" not in properties
    assert properties["lines"]["description"] == "What to order, one entry a thing."
    assert properties["speed"]["description"] == "How fast."
    assert properties["speed"]["enum"] == ["fast", "slow"]
    assert properties["colour"]["default"] == "red"
    assert properties["note"]["description"] == "Free text."
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(schema)
    validator.validate({"lines": [{"sku": "a", "next": {"sku": "b"}}], "to": {"city": "x"}, "labels": {"a": 1}})
    wrong: tuple[dict[str, Any], ...] = (
        {},
        {"lines": [{}]},
        {"lines": [], "speed": "x"},
        {"lines": [], "z": 1},
        {"lines": [], "note": "123456"},
    )
    for bad in wrong:
        assert not validator.is_valid(bad)


def test_defaults_are_not_shared_between_calls() -> None:
    entry = declare(order)
    first = msgspec.json.decode(b'{"lines": []}', type=entry.arguments)
    second = msgspec.json.decode(b'{"lines": []}', type=entry.arguments)
    assert first.sizes == [1, 2]  # type: ignore[attr-defined] # the Struct is made at run time
    assert first.sizes is not second.sizes  # type: ignore[attr-defined] # as above


def test_no_parameters() -> None:
    @tool
    async def nothing() -> None:
        """Do nothing."""

    schema = declare(nothing).spec.schema
    assert schema["type"] == "object"
    assert schema["properties"] == {}
    assert schema["additionalProperties"] is False


def test_a_tool_that_is_asked_again_and_again_says_so() -> None:
    @tool(risk="low", effect="read", polls=True)
    def job() -> str:
        """How far the job is."""
        return "running"

    assert declare(job).spec.polls is True
    assert declare(order).spec.polls is msgspec.UNSET
    assert b"polls" not in msgspec.json.encode(declare(order).spec)


def test_retry_of_a_write_is_refused_at_declaration() -> None:
    with pytest.raises(TypeError, match="retry is allowed for the effects read and idempotent only"):
        tool(retry=1)(bare)


@pytest.mark.parametrize(
    "options",
    [
        {"name": "has space"},
        {"name": ""},
        {"risk": "huge"},
        {"effect": "none"},
        {"timeout": 0},
        {"timeout": float("nan")},
        {"timeout": float("inf")},
        {"effect": "read", "retry": -1},
    ],
)
def test_bad_options(options: dict[str, Any]) -> None:
    def target() -> None:
        """Doc."""

    with pytest.raises(ToolDeclarationError, match=next(reversed(options))):
        tool(**options)(target)


def _undocumented(x: int) -> None: ...


def _args_only() -> None:
    """Args:
    x: y
    """


def _star(*values: int) -> None:
    """Doc."""


def _double_star(**values: int) -> None:
    """Doc."""


def _positional(x: int, /) -> None:
    """Doc."""


def _untyped(x) -> None:  # type: ignore[no-untyped-def] # the point of the test
    """Doc."""


async def _generator() -> Any:
    """Doc."""
    yield 1


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        (_undocumented, "docstring"),
        (_args_only, "docstring"),
        (_star, "values has no schema"),
        (_double_star, "values has no schema"),
        (_positional, "positional-only"),
        (_untyped, "x has no type annotation"),
        (_generator, "generator"),
        (print, "plain function"),
    ],
)
def test_functions_that_cannot_be_tools(function: Callable[..., Any], reason: str) -> None:
    with pytest.raises(ToolDeclarationError, match=reason) as caught:
        tool(function)
    assert function is print or caught.value.line > 0


def test_types_that_cannot_be_resolved_or_described() -> None:
    def unresolved(x: Missing) -> None:  # type: ignore[name-defined] # noqa: F821 - the point of the test
        """Doc."""

    def shapeless(x: object, y: Callable[[], None]) -> None:
        """Doc."""

    for function, reason in ((unresolved, "Missing"), (shapeless, "no JSON Schema")):
        with pytest.raises(ToolDeclarationError, match=reason) as caught:
            declare(tool(function))
        assert caught.value.file == __file__
        assert caught.value.line > 0


def _module(source: str) -> types.ModuleType:
    module = types.ModuleType("workspace_tools")
    exec(compile("from app.tools import tool\n" + source, "tools.py", "exec"), vars(module))
    return module


def test_declared_gives_a_modules_own_tools_in_order() -> None:
    module = _module(
        "def plain(): pass\n"
        "@tool\ndef zeta(x: Later) -> int:\n    'Z.'\n    return 1\n"
        "@tool(name='second')\ndef alpha() -> int:\n    'A.'\n    return 1\n"
        "again = zeta\n"
        "Later = int\n"
    )
    vars(module)["imported"] = bare
    assert [entry.spec.name for entry in declared(module)] == ["zeta", "second"]


def test_a_name_used_twice() -> None:
    module = _module(
        "@tool\ndef a() -> int:\n    'A.'\n    return 1\n@tool(name='a')\ndef b() -> int:\n    'B.'\n    return 1\n"
    )
    with pytest.raises(ToolDeclarationError, match="taken by another tool"):
        declared(module)
