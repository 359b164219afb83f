"""Tools that take their time: timeouts, threads, cancellation, retries."""

from __future__ import annotations

import asyncio
import logging
import threading
from typing import Any

import msgspec
import pytest

from app.domain.tools import ToolContext
from app.tools import tool
from tests.tools.calls import Pauses, box, call, context, order


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
