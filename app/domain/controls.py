"""The kill switch: agents, tools and tenants that are switched off, for one tenant or for all."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Literal, Protocol

import msgspec

from app.domain.principals import Principal

ControlKind = Literal["agent", "tool", "tenant"]
Reach = Literal["tenant", "instance"]
"""Whom a switch is for: the tenant whose admin threw it, or everybody, by whoever operates the machine."""


class Control(msgspec.Struct, frozen=True, kw_only=True):
    """Something that is switched off. `reason` is told to whoever is refused; `by`: who did it, as in `Principal.actor`."""

    kind: ControlKind
    name: str
    reach: Reach
    reason: str | None
    by: str
    at: datetime


class Switch(msgspec.Struct, frozen=True):
    """What one switch turns off. `tenant` None: for all of them."""

    tenant: str | None
    kind: ControlKind
    name: str
    reason: str | None = None

    def __str__(self) -> str:
        said = f"{self.kind.capitalize()} {self.name} is switched off"
        return f"{said}: {self.reason}" if self.reason else f"{said}."


class ControlStore(Protocol):
    """The switches of all tenants. Every method may raise `DatabaseUnavailable`. A change is in the audit log by the same write, and
    told to every process.
    """

    async def off(self) -> Sequence[Switch]:
        """Everything that is off, for whomsoever."""
        ...

    async def controls(self, tenant: str | None) -> list[Control]:
        """What is off for that tenant, by itself or for everybody; None: all that is off for everybody."""
        ...

    async def stored(self, tenant: str | None, kind: ControlKind, name: str) -> bool:
        """Whether a stored version of an agent, the workspace's or that tenant's (None: anybody's), has that name, or a tool of that name."""
        ...

    async def seen(self, tenant: str) -> bool:
        """Whether anything is of that tenant: a key, a session, a run or a batch."""
        ...

    async def disable(self, by: Principal, reach: Reach, kind: ControlKind, name: str, reason: str | None) -> Control:
        """Switch that off for the principal's tenant, or for everybody; where it is off already, with that reason from now on."""
        ...

    async def enable(self, by: Principal, reach: Reach, kind: ControlKind, name: str) -> bool:
        """Switch that on again. Whether it was off by that reach: what is off by the other one stays off."""
        ...
