"""What a process knows of the switches when its looks overtake each other."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from app.domain.controls import Control, ControlKind, Reach, Switch
from app.domain.principals import Principal
from app.runs.switches import Switches

OFF = Switch(None, "agent", "helper")


class Slow:
    """A store whose answers come when the test says so, in whatever order."""

    def __init__(self) -> None:
        self.asked: list[asyncio.Future[Sequence[Switch]]] = []

    async def off(self) -> Sequence[Switch]:
        self.asked.append(asyncio.get_running_loop().create_future())
        return await self.asked[-1]

    async def controls(self, tenant: str | None) -> list[Control]:
        raise NotImplementedError

    async def stored(self, tenant: str | None, kind: ControlKind, name: str) -> bool:
        raise NotImplementedError

    async def seen(self, tenant: str) -> bool:
        raise NotImplementedError

    async def disable(self, by: Principal, reach: Reach, kind: ControlKind, name: str, reason: str | None) -> Control:
        raise NotImplementedError

    async def enable(self, by: Principal, reach: Reach, kind: ControlKind, name: str) -> bool:
        raise NotImplementedError


async def test_a_look_that_is_overtaken_changes_nothing() -> None:
    store, told = Slow(), list[None]()
    switches = Switches(store=store)
    switches.tells(lambda: told.append(None))
    looks = []
    for _ in range(4):
        looks.append(asyncio.create_task(switches.look()))
        await asyncio.sleep(0)
    store.asked[2].set_result([OFF])
    await looks[2]
    assert switches.run("a", "helper") == OFF
    store.asked[0].set_result([])  # as it was before the switch was thrown
    store.asked[1].set_exception(ZeroDivisionError())
    await asyncio.wait(looks[:2])
    assert looks[1].exception() is not None
    assert switches.run("a", "helper") == OFF
    assert len(told) == 1
    store.asked[3].set_result([])
    await looks[3]
    assert switches.run("a", "helper") is None
