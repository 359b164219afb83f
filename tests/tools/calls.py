"""Tools, and how a test calls one."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import msgspec

from app.domain.messages import ToolCall
from app.domain.tools import ToolContext, ToolResult, ToolSpec
from app.tools import tool
from app.tools.declare import declare
from app.tools.toolbox import PythonToolbox
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
