"""What readiness makes of dependencies that fail, hang, and do not let go."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from app.api.health import Checker, Readings
from app.api.schemas import CheckStatus
from app.domain.errors import DatabaseUnavailable


class Frozen:
    """A dependency that answers nothing before it is thawed, and lets nobody go who gives up."""

    def __init__(self) -> None:
        self.thawed = asyncio.Event()
        self.asked = 0
        self.given_up = False
        self.left = asyncio.Event()
        self.asking = asyncio.Event()

    async def __call__(self) -> tuple[CheckStatus, str | None]:
        self.asked += 1
        self.asking.set()
        try:
            await self.thawed.wait()
        except asyncio.CancelledError:
            self.given_up = True
            await self.left.wait()
            raise
        return "ok", None


@asynccontextmanager
async def opened(timeout: float = 0.02, **vital: Checker) -> AsyncIterator[Readings]:
    readings = Readings(version="test", vital=vital, others={}, timeout=timeout)
    try:
        yield readings
    finally:
        await readings.aclose()


async def test_whatever_a_check_raises_it_has_failed(caplog: pytest.LogCaptureFixture) -> None:
    async def away() -> tuple[CheckStatus, str | None]:
        raise DatabaseUnavailable("PostgreSQL cannot be reached: refused")

    async def broken() -> tuple[CheckStatus, str | None]:
        raise KeyError("secret")

    with caplog.at_level(logging.WARNING, "app.api.health"):
        async with opened(timeout=10.0, away=away, broken=broken) as readings:
            taken = await readings.take()
    assert taken.status == "not_ready"
    assert {name: (check.status, check.detail) for name, check in taken.checks.items()} == {
        "away": ("failed", "PostgreSQL cannot be reached"),
        "broken": ("failed", "KeyError"),
    }
    assert [record.exc_info is not None for record in caplog.records] == [True]


async def test_a_check_that_does_not_let_go_keeps_nobody_and_is_asked_once() -> None:
    frozen = Frozen()
    async with opened(database=frozen) as readings:
        async with asyncio.timeout(5):
            for _ in range(3):
                (one, other) = await asyncio.gather(readings.take(), readings.take())
                for taken in (one, other):
                    check = taken.checks["database"]
                    assert (check.status, check.detail) == ("failed", "no answer within 0.02 s")
        assert frozen.asked == 1
        frozen.thawed.set()
        frozen.left.set()
        assert (await readings.take()).status == "ready"
        assert frozen.asked == 2


async def test_a_prober_that_hangs_up_takes_the_answer_from_nobody() -> None:
    frozen = Frozen()
    async with opened(timeout=30.0, database=frozen) as readings:
        first = asyncio.create_task(readings.take())
        await frozen.asking.wait()
        first.cancel()
        await asyncio.wait([first])
        second = asyncio.create_task(readings.take())
        frozen.thawed.set()
        assert (await second).status == "ready"
        assert not frozen.given_up


async def test_who_asks_while_an_old_question_is_given_up_gets_a_new_answer() -> None:
    late = Frozen()
    async with opened(timeout=30.0, database=late) as readings:
        asking = asyncio.create_task(readings.take())
        await late.asking.wait()
        closing = asyncio.create_task(readings.aclose())
        after = [asyncio.create_task(readings.take()) for _ in range(2)]
        late.thawed.set()
        late.left.set()
        assert (await asking).status == "not_ready"
        assert [(await taken).status for taken in after] == ["ready", "ready"]
        await closing
    assert late.asked == 2
