from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from app.domain.messages import ToolCall
from app.domain.tools import Toolbox, ToolContext, ToolResult, ToolSpec
from app.tools import tool
from app.tools.declare import declare
from app.tools.toolbox import MAX_ARGUMENTS, MAX_RESULT, PythonToolbox
from tests.scripted import KeptState


async def _emit(name: str, data: Any) -> None: ...


def context(seconds: float = 60) -> ToolContext:
    return ToolContext(
        run_id="r",
        session_id="s",
        tenant="t",
        user_id=None,
        call_id="c",
        idempotency_key="key",
        deadline=time.monotonic() + seconds,
        emit=_emit,
        state=KeptState(),
    )


class Pauses:
    """Stands for asyncio.sleep and remembers what was asked."""

    def __init__(self) -> None:
        self.asked: list[float] = []

    async def __call__(self, seconds: float) -> None:
        self.asked.append(seconds)


def box(*functions: Callable[..., Any], threads: int = 4, pause: Pauses | None = None) -> PythonToolbox:
    return PythonToolbox(tools=[declare(f) for f in functions], threads=threads, pause=pause or Pauses())


async def call(
    toolbox: PythonToolbox,
    name: str,
    arguments: str = "{}",
    ctx: ToolContext | None = None,
    spec: ToolSpec | None = None,
) -> ToolResult:
    spec = spec or toolbox.specs([name])[0]
    result = await toolbox.run(spec, ToolCall("c1", name, arguments), ctx or context())
    assert (result.call_id, result.name) == ("c1", name)
    msgspec.json.decode(bytes(result.result))
    return result


class Line(msgspec.Struct):
    sku: str
    amount: int = 1


@tool(risk="low", effect="read")
async def order(lines: list[Line], note: str = "none") -> dict[str, Any]:
    """Order."""
    return {"skus": [line.sku for line in lines], "note": note}


@tool(effect="read")
async def whoami(ctx: ToolContext, x: int = 1) -> str:
    """Say who."""
    return f"{ctx.run_id} {ctx.idempotency_key} {x}"


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


@pytest.mark.parametrize("effect", ["read", "idempotent", "write"])
async def test_timeouts(effect: Any) -> None:
    gate = threading.Event()
    cancelled: list[str] = []

    @tool(effect=effect, timeout=0.02)
    async def slow() -> None:
        """Be slow."""
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.append("slow")

    @tool(effect=effect, timeout=0.02)
    def stuck() -> None:
        """Be stuck."""
        gate.wait(30)

    toolbox = box(slow, stuck)
    try:
        for name in ("slow", "stuck"):
            result = await call(toolbox, name)
            assert result.status == ("outcome_unknown" if effect == "write" else "timeout")
            assert f"{name} has 0.02 s" in result.text
        patient = msgspec.structs.replace(toolbox.specs(["slow"])[0], timeout=30)
        result = await call(toolbox, "slow", ctx=context(0.02), spec=patient)
        assert "the run has no time left" in result.text
        assert cancelled == ["slow", "slow"]
        result = await call(toolbox, "slow", ctx=context(-1))
        assert (result.status, result.text) == ("timeout", "slow was not started: the run has no time left.")
    finally:
        gate.set()


async def test_work_that_finishes_while_it_is_stopped_is_kept() -> None:
    @tool(timeout=0.02)
    async def stubborn() -> str:
        """Finish anyway."""
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return "done"
        return "never"

    result = await call(box(stubborn), "stubborn")
    assert (result.status, result.text) == ("ok", "done")


async def test_plain_tools_run_in_threads_at_most_so_many_at_once() -> None:
    barrier = threading.Barrier(2, timeout=10)
    seen: set[int] = set()

    @tool(effect="read")
    def meet() -> None:
        """Meet another one."""
        barrier.wait()
        seen.add(threading.get_ident())

    toolbox = box(meet, threads=2)
    results = await asyncio.gather(*(call(toolbox, "meet") for _ in range(6)))
    assert {result.status for result in results} == {"ok"}
    assert threading.get_ident() not in seen
    await toolbox.aclose()


async def test_stuck_threads_give_a_clear_error_and_come_back() -> None:
    gate = threading.Event()

    @tool(timeout=0.02)
    def stuck() -> str:
        """Wait."""
        gate.wait(30)
        return "free"

    toolbox = box(stuck, threads=1)
    try:
        assert (await call(toolbox, "stuck")).status == "outcome_unknown"
        refused = await call(toolbox, "stuck")
        assert refused.status == "error"
        assert "was not started: all 1 tool threads are busy (with stuck)" in refused.text
    finally:
        gate.set()
    patient = msgspec.structs.replace(toolbox.all()[0], timeout=30)
    assert (await call(toolbox, "stuck", spec=patient)).text == "free"


async def test_close_names_what_still_runs_and_starts_nothing(caplog: pytest.LogCaptureFixture) -> None:
    gate = threading.Event()

    @tool(timeout=0.02)
    def stuck() -> None:
        """Wait."""
        gate.wait(30)

    toolbox = box(stuck, order)
    try:
        await call(toolbox, "stuck")
        with caplog.at_level(logging.WARNING):
            await toolbox.aclose()
        assert "stuck" in caplog.text
        result = await call(toolbox, "order", '{"lines": []}')
        assert (result.status, result.text) == ("error", "order was not started: the service is shutting down.")
    finally:
        gate.set()


async def test_cancellation_is_raised_after_the_tool_has_ended() -> None:
    started, log = asyncio.Event(), list[str]()

    @tool
    async def slow() -> None:
        """Be slow."""
        started.set()
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            log.append("ended")

    task = asyncio.create_task(call(box(slow), "slow"))
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert log == ["ended"]


async def test_a_tool_cannot_turn_a_cancel_into_its_own_error() -> None:
    started = asyncio.Event()

    @tool
    async def translates() -> None:
        """Be slow."""
        started.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            raise ConnectionError("lost") from None

    task = asyncio.create_task(call(box(translates), "translates"))
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_place_that_comes_free_after_the_close_is_not_used() -> None:
    gate, started = threading.Event(), threading.Event()

    @tool
    def slow() -> None:
        """Wait."""
        assert not started.is_set()
        started.set()
        gate.wait(30)

    toolbox = box(slow, threads=1)
    first = asyncio.create_task(call(toolbox, "slow"))
    await asyncio.to_thread(started.wait, 10)
    second = asyncio.create_task(call(toolbox, "slow"))
    await asyncio.sleep(0)
    await toolbox.aclose()
    gate.set()
    assert (await first).status == "ok"
    assert (await second).text == "slow was not started: the service is shutting down."


async def test_cancellation_does_not_wait_for_a_thread() -> None:
    gate, started = threading.Event(), threading.Event()

    @tool
    def stuck() -> None:
        """Wait."""
        started.set()
        gate.wait(30)

    task = asyncio.create_task(call(box(stuck), "stuck"))
    try:
        await asyncio.to_thread(started.wait, 10)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert not gate.is_set()
    finally:
        gate.set()


async def test_retry_repeats_with_the_same_key_and_growing_pauses() -> None:
    keys: list[str] = []

    @tool(effect="idempotent", retry=3)
    async def flaky(ctx: ToolContext) -> str:
        """Fail twice."""
        keys.append(ctx.idempotency_key)
        if len(keys) < 3:
            raise ConnectionError("again")
        return "at last"

    pauses = Pauses()
    result = await call(box(flaky, pause=pauses), "flaky")
    assert (result.status, result.text) == ("ok", "at last")
    assert keys == ["key"] * 3
    assert 0.1 <= pauses.asked[0] <= 0.3
    assert 0.2 <= pauses.asked[1] <= 0.6


async def test_retry_ends_with_the_last_error_and_never_applies_to_writes() -> None:
    count = 0

    @tool(effect="read", retry=2)
    def fails() -> None:
        """Fail."""
        nonlocal count
        count += 1
        raise ConnectionError(count)

    toolbox = box(fails)
    assert (await call(toolbox, "fails")).text == "ConnectionError: 3"
    write = msgspec.structs.replace(toolbox.all()[0], effect="write")
    assert (await call(toolbox, "fails", spec=write)).text == "ConnectionError: 4"


async def test_retry_stays_within_the_timeout() -> None:
    @tool(effect="read", retry=5, timeout=0.05)
    async def fails() -> None:
        """Fail."""
        raise ConnectionError("x")

    pauses = Pauses()
    result = await call(box(fails, pause=pauses), "fails")
    assert (result.status, result.text) == ("error", "ConnectionError: x")
    assert pauses.asked == []


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
