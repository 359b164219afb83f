"""`ControlStore` on PostgreSQL. The statements stand in controls.sql."""

from __future__ import annotations

import msgspec

from app.domain.controls import Control, ControlKind, Reach, Switch
from app.domain.principals import DEFAULT_TENANT, Principal
from app.storage.postgres.hints import CHANNEL
from app.storage.postgres.pool import Database, queries


class PostgresControls:
    """Switches in PostgreSQL. Safe for concurrent use."""

    def __init__(self, *, database: Database) -> None:
        self._db = database
        self._sql = queries("controls.sql")

    async def off(self) -> list[Switch]:
        return [Switch(**row) for row in await self._db.fetch(self._sql["off"])]

    async def controls(self, tenant: str | None) -> list[Control]:
        return [Control(**row) for row in await self._db.fetch(self._sql["controls"], tenant)]

    async def stored(self, tenant: str | None, kind: ControlKind, name: str) -> bool:
        row = await self._db.fetchrow(
            self._sql["stored"], kind, name, None if tenant is None else [tenant, DEFAULT_TENANT]
        )
        return row is not None

    async def seen(self, tenant: str) -> bool:
        return await self._db.fetchrow(self._sql["seen"], tenant) is not None

    async def disable(self, by: Principal, reach: Reach, kind: ControlKind, name: str, reason: str | None) -> Control:
        row = await self._db.fetchrow(
            self._sql["disable"], _tenant(by, reach), kind, name, reason, by.actor, by.user,
            _logged(by, reach, kind, name), _detail(reach), CHANNEL,
        )  # fmt: skip
        assert row is not None
        return Control(**{name: value for name, value in row.items() if name != "told"})

    async def enable(self, by: Principal, reach: Reach, kind: ControlKind, name: str) -> bool:
        row = await self._db.fetchrow(
            self._sql["enable"], _tenant(by, reach), kind, name, by.actor, by.user,
            _logged(by, reach, kind, name), _detail(reach), CHANNEL,
        )  # fmt: skip
        return row is not None


def _tenant(by: Principal, reach: Reach) -> str:
    return "" if reach == "instance" else by.tenant


def _logged(by: Principal, reach: Reach, kind: ControlKind, name: str) -> str:
    """Whose audit log it is in: of a switch for everybody the log of the tenant that it is about, else nobody's, which all may read."""
    if reach == "tenant":
        return by.tenant
    return name if kind == "tenant" else ""


def _detail(reach: Reach) -> bytes:
    return msgspec.json.encode({"reach": reach})
