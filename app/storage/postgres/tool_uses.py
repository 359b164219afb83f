"""`ToolUses` on PostgreSQL. The statement stands in tool_uses.sql, and what it does in the migration 0011."""

from __future__ import annotations

from decimal import Decimal
from typing import Literal

from app.domain.tool_policy import Caps, ToolUse
from app.storage.postgres.pool import Database, queries


class PostgresToolUses:
    """Counts in PostgreSQL. Safe for concurrent use, also across processes: of a cap's last call there is one."""

    def __init__(self, *, database: Database) -> None:
        self._db = database
        self._sql = queries("tool_uses.sql")

    async def use(self, use: ToolUse, caps: Caps) -> Literal["calls_per_run", "calls", "spend"] | None:
        most = None if caps.spend is None else Decimal(repr(caps.spend.most))
        over: Literal["calls_per_run", "calls", "spend"] | None = await self._db.fetchval(
            self._sql["use"], use.run_id, use.call_id, use.tenant, use.user_id or "", use.tool, use.amount or Decimal(0),
            caps.calls_per_run, caps.calls, most, caps.window, caps.per == "tenant",
        )  # fmt: skip
        return over
