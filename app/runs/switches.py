"""What is switched off, as this process knows it: nothing of that begins here, and what goes on is stopped."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from app.domain.controls import ControlKind, ControlStore, Switch
from app.domain.errors import RequestError
from app.rounds import rounds

EVERY = 0.5
"""Seconds between looks at the switches where no hint comes; jittered by a fifth."""


class Switches:
    """The switches of all tenants. Used from one event loop.

    Who throws one tells every process, and each looks by itself, too: a switch works within a second. While the database is away
    they stay as they were.
    """

    def __init__(self, *, store: ControlStore) -> None:
        self._store = store
        self._off: dict[tuple[str | None, ControlKind, str], Switch] = {}
        self._looks = self._newest = 0
        self._told: list[Callable[[], None]] = []
        self._wake = asyncio.Event()

    def tells(self, changed: Callable[[], None]) -> None:
        """Call that after every change, from now on."""
        self._told.append(changed)

    def run(self, tenant: str, agent: str) -> Switch | None:
        """What keeps that agent from running for that tenant; None: nothing."""
        return self._find(tenant, "tenant", tenant) or self._find(tenant, "agent", agent)

    def tool(self, tenant: str, name: str) -> Switch | None:
        """What keeps that tool from being called for that tenant; None: nothing."""
        return self._find(tenant, "tool", name)

    def check(self, tenant: str, agent: str) -> None:
        """Raises `RequestError` disabled where that agent may not run for that tenant."""
        if (switch := self.run(tenant, agent)) is not None:
            raise RequestError("disabled", str(switch))

    def _find(self, tenant: str, kind: ControlKind, name: str) -> Switch | None:
        if not self._off:
            return None
        return self._off.get((None, kind, name)) or self._off.get((tenant, kind, name))

    def changed(self) -> None:
        """Somebody threw one, or may have: look now."""
        self._wake.set()

    async def look(self) -> None:
        """What is off is known, and whoever has to is told. Of looks that overlap the one that began last counts. Raises
        `DatabaseUnavailable`.
        """
        self._looks += 1
        look = self._looks
        off = {(switch.tenant, switch.kind, switch.name): switch for switch in await self._store.off()}
        if look < self._newest:
            return
        self._newest = look
        if off != self._off:
            self._off = off
            for tell in self._told:
                tell()

    async def serve(self) -> None:
        """Look again and again, until cancelled."""
        await rounds(self.look, what="switches", every=EVERY, wake=self._wake)
