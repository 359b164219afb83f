"""Calls of tools: their arguments, their errors, their results."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest

from app.domain.messages import ToolCall
from app.domain.tools import Toolbox
from app.tools import tool
from app.tools.toolbox import MAX_ARGUMENTS, MAX_RESULT
from tests.tools.calls import Line, box, call, context, order, whoami


async def test_specs_keep_the_order_and_name_the_unknown() -> None:
    toolbox: Toolbox = box(order, whoami)
    assert [s.name for s in toolbox.specs(["whoami", "order"])] == ["whoami", "order"]
    with pytest.raises(KeyError, match="nope"):
        toolbox.specs(["order", "nope", "neither"])
    with pytest.raises(ValueError, match="two tools are named order"):
        box(order, order)


async def test_a_tool_runs_with_decoded_arguments() -> None:
    result = await call(box(order), "order", '{"lines": [{"sku": "a"}, {"sku": "b"}]}')
    assert result.status == "ok"
    assert msgspec.json.decode(bytes(result.result)) == {"skus": ["a", "b"], "note": "none"}


async def test_context_is_injected_and_empty_arguments_mean_none() -> None:
    assert (await call(box(whoami), "whoami", "")).text == "r key 1"
    assert (await call(box(whoami), "whoami", '{"ctx": {}}')).status == "error"


@pytest.mark.parametrize(
    ("arguments", "hints"),
    [
        ("{", ["not valid JSON"]),
        ("nonsense", ["not valid JSON"]),
        ("[]", ["Expected `object`"]),
        ('{"lines": "a"}', ["$.lines"]),
        ('{"lines": [{"sku": 1}]}', ["$.lines[0].sku", "`str`"]),
        ("{}", ["missing required field `lines`"]),
        ('{"lines": [], "colour": 1}', ["unknown field `colour`"]),
        ('{"lines": [], "note": "\ud800"}', ["not valid JSON"]),
        ('{"lines": ' + "[" * 100_000, ["$.lines[0]"]),
        ('{"lines": [], "note": ' + "[" * 100_000, ["$.note"]),
    ],
)
async def test_errors_that_the_model_can_repair(arguments: str, hints: list[str]) -> None:
    result = await call(box(order), "order", arguments)
    assert result.status == "error"
    for hint in [*hints, "lines (required), note"]:
        assert hint in result.text


async def test_deep_nesting_where_anything_is_allowed() -> None:
    @tool(effect="read")
    async def anything(x: Any) -> int:
        """Take it."""
        return 1

    result = await call(box(anything), "anything", '{"x": ' + "[" * 100_000)
    assert result.status == "error"
    assert "nested too deeply" in result.text


async def test_arguments_have_a_bound() -> None:
    result = await call(box(order), "order", '{"lines": [], "note": "' + "x" * MAX_ARGUMENTS + '"}')
    assert result.status == "error"
    assert str(MAX_ARGUMENTS) in result.text


async def test_a_type_that_raises_while_it_is_decoded() -> None:
    class Odd(msgspec.Struct):
        x: int

        def __post_init__(self) -> None:
            raise KeyError(self.x)

    @tool(effect="read")
    async def odd(odd: Odd) -> None:
        """Odd."""

    odd.__annotations__["odd"] = Odd
    result = await call(box(odd), "odd", '{"odd": {"x": 7}}')
    assert result.status == "error"
    assert "KeyError: 7" in result.text


async def test_unknown_tool() -> None:
    toolbox = box(order)
    for spec in (None, msgspec.structs.replace(toolbox.all()[0], name="gone")):
        result = await toolbox.run(spec, ToolCall("c1", "gone", "{}"), context())
        assert result.status == "error"
        assert "no tool named gone" in result.text


async def test_exceptions_are_told_without_a_traceback() -> None:
    @tool
    async def broken() -> None:
        """Break."""
        secret = "hunter2"  # noqa: F841 - must not be seen
        raise LookupError("no such\x00 order \ud800")

    @tool
    def leaves() -> None:
        """Leave."""
        raise SystemExit(3)

    class Mute(Exception):
        def __str__(self) -> str:
            raise RuntimeError

    @tool
    async def mute() -> None:
        """Say nothing."""
        raise Mute

    toolbox = box(broken, leaves, mute)
    assert (await call(toolbox, "broken")).text == "LookupError: no such\ufffd order \ufffd"
    assert (await call(toolbox, "leaves")).text == "SystemExit: 3"
    assert (await call(toolbox, "mute")).text == "Mute"
    assert (await call(toolbox, "broken")).status == "error"


async def test_a_tools_own_timeout_and_cancelled_future_are_its_errors() -> None:
    @tool
    async def impatient() -> None:
        """Give up."""
        raise TimeoutError

    @tool
    async def follows() -> None:
        """Await a cancelled future."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        future.cancel()
        await future

    toolbox = box(impatient, follows)
    assert (await call(toolbox, "impatient")).status == "error"
    result = await call(toolbox, "follows")
    assert (result.status, result.text) == ("error", "CancelledError")


async def test_a_plain_function_around_a_coroutine() -> None:
    @tool
    def wrapped() -> Any:
        """Return an awaitable."""
        return asyncio.sleep(0, "slept")

    assert (await call(box(wrapped), "wrapped")).text == "slept"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, b"null"),
        ("a\x00b\ud800", '"a\ufffdb\ufffd"'.encode()),
        ({"a\x00": ["\x00\x00", "\\u0000", "\\\x00"]}, rb'{"a\ufffd":["\ufffd\ufffd","\\u0000","\\\ufffd"]}'),
        ({"a": ("\ud800", [1])}, '{"a":["\ufffd",[1]]}'.encode()),
        (Line(sku="a"), b'{"sku":"a","amount":1}'),
        (2**70, str(2**70).encode()),
    ],
)
async def test_results_are_clean_json(value: Any, expected: bytes) -> None:
    @tool
    async def give() -> Any:
        """Give it."""
        return value

    result = await call(box(give), "give")
    assert (result.status, bytes(result.result)) == ("ok", expected)


async def test_results_that_are_not_json() -> None:
    loop: list[Any] = []
    loop.append(loop)

    @tool
    async def give(which: int) -> Any:
        """Give it."""
        return [object(), loop, Line(sku="\ud800"), 10**5000][which]

    for which in range(4):
        result = await call(box(give), "give", f'{{"which": {which}}}')
        assert result.status == "error"
        assert "give ran, but what it returned is not JSON" in result.text


@pytest.mark.parametrize("value", ["é" * MAX_RESULT, ["x" * MAX_RESULT], "x" * MAX_RESULT + "y"])
async def test_results_are_cut_with_a_marker(value: Any) -> None:
    @tool
    async def give() -> Any:
        """Give it."""
        return value

    result = await call(box(give), "give")
    assert result.status == "ok"
    assert "… [cut: this is the beginning of" in result.text
    assert MAX_RESULT - 1 <= len(result.text.partition("…")[0].encode()) <= MAX_RESULT


async def test_a_result_at_the_bound_is_whole() -> None:
    @tool
    async def give() -> str:
        """Give it."""
        return "x" * MAX_RESULT

    assert (await call(box(give), "give")).text == "x" * MAX_RESULT
