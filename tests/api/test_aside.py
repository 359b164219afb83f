"""Large inputs are decoded by a thread of their own, small ones at once."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import httpx2
import msgspec
import pytest
from litestar import Litestar, post
from litestar.datastructures import State
from litestar.params import JSONBody

from app.api.aside import INLINE, Aside
from app.api.decoding import StrictRequest


class Row(msgspec.Struct):
    """Knows whether it was made where the event loop is."""

    text: str
    here: bool = False

    def __post_init__(self) -> None:
        self.here = threading.current_thread() is threading.main_thread()


@post("/rows", status_code=200)
async def rows(data: JSONBody[Row]) -> Row:
    return data


async def test_the_body_of_a_request() -> None:
    aside = Aside()
    app: Any = Litestar(
        [rows], request_class=StrictRequest, state=State({"aside": aside}), openapi_config=None, logging_config=None
    )
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app=app), base_url="http://x") as client:
        for size, here in ((10, True), (INLINE - 100, True), (INLINE, False), (500_000, False)):
            response = await client.post("/rows", json={"text": "x" * size})
            assert response.json()["here"] is here, size
    aside.close()


async def test_small_work_is_done_at_once_and_large_work_by_one_thread() -> None:
    aside = Aside()
    try:
        here = threading.current_thread()
        assert await aside.run(INLINE, threading.current_thread) is here
        there = await asyncio.gather(*[aside.run(INLINE + 1, threading.current_thread) for _ in range(5)])
        assert len(set(there)) == 1
        assert there[0] is not here
        with pytest.raises(ValueError, match="wrong"):
            await aside.run(INLINE + 1, _wrong)
    finally:
        aside.close()


def _wrong() -> None:
    raise ValueError("wrong")


async def test_what_is_cancelled_before_its_turn_is_not_done() -> None:
    aside, gate, done = Aside(), threading.Event(), list[int]()
    try:
        first = asyncio.create_task(aside.run(INLINE + 1, gate.wait))
        second = asyncio.create_task(aside.run(INLINE + 1, lambda: done.append(2)))
        third = asyncio.create_task(aside.run(INLINE + 1, lambda: done.append(3)))
        await asyncio.sleep(0)
        second.cancel()
        await asyncio.wait([second])
        gate.set()
        await asyncio.gather(first, third)
        assert done == [3]
    finally:
        aside.close()
