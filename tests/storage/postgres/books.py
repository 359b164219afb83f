"""A ledger as tests write in it."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import msgspec

from app.domain import events as ev
from app.domain.messages import Usage
from app.domain.principals import ANONYMOUS
from app.domain.stores import Accepted, NewEvent, NewRun
from app.domain.usage import Caps, Opening, Settlement, Spending
from app.runs.attempts import new_uuid
from app.storage.postgres.pool import Database, queries
from app.storage.postgres.runs import PostgresRunStore
from app.storage.postgres.usage import PostgresUsageLedger

SQL = queries("usage.sql")


LEVELS = (Decimal("0.5"), Decimal("0.8"), Decimal(1))


NOW = datetime.now(UTC)


class Books:
    """A ledger and a run store over one database."""

    def __init__(self, database: Database, caps: Caps) -> None:
        self.db = database
        self.runs = PostgresRunStore(database=database, owner="me", lease=30.0, caps=caps)
        self.ledger = PostgresUsageLedger(database=database, caps=caps)
        self.seqs: dict[str, int] = {}

    async def run(self, run_id: str, user: str | None = None, **more: Any) -> Any:
        new = NewRun(
            id=run_id, session_id=f"s-{run_id}", user_id=user, agent=more.pop("agent", "a"), agent_version="v",
            tags=more.pop("tags", {}), created=b"{}", **more,
        )  # fmt: skip
        accepted = await self.runs.start(ANONYMOUS, new, slot=True)
        if isinstance(accepted, Accepted):
            assert accepted.status == "running"
            self.seqs[run_id] = accepted.last_seq
        return accepted

    def opening(self, run_id: str, usd: str = "1", **more: Any) -> Opening:
        fields: dict[str, Any] = {
            "id": new_uuid(),
            "epoch": 1,
            "route": "r",
            "provider": "p",
            "model": "m",
            "number": 1,
        } | more
        return Opening(run_id=run_id, input_tokens=100, input_usd=Decimal("0.25"), reserved_usd=Decimal(usd), **fields)

    async def settle(
        self, run_id: str, id: UUID, cost: str | None, usage: Usage | None = None, basis: Any = "provider"
    ) -> Any:
        settles = Settlement(
            id=id, basis=basis, outcome="ok", model="m", usage=usage, cost_usd=None if cost is None else Decimal(cost)
        )
        self.seqs[run_id] += 1
        event = NewEvent(
            seq=self.seqs[run_id], id=new_uuid(), name="message.reset",
            payload=msgspec.json.encode(ev.MessageReset(message_id="m")), settles=settles,
        )  # fmt: skip
        return await self.runs.append(run_id, 1, [event])

    async def rows(self) -> list[dict[str, Any]]:
        return [dict(row) for row in await self.db.fetch("SELECT * FROM usage ORDER BY started_at, id")]

    async def counters(self) -> dict[tuple[str, str], tuple[Any, Any]]:
        rows = await self.db.fetch("SELECT scope, key, spent, reserved FROM budgets")
        return {(row["scope"], row["key"]): (row["spent"], row["reserved"]) for row in rows}


def spending(*, cost: str | None = "1", user: str | None = "ann", **more: Any) -> Spending:
    fields: dict[str, Any] = {"id": new_uuid(), "kind": "batch", "route": "r", "provider": "p", "model": "m", "at": NOW}
    return Spending(
        tenant="default", user_id=user, outcome="ok", basis="provider", usage=Usage(input_tokens=7, output_tokens=3),
        cost_usd=None if cost is None else Decimal(cost), **(fields | more),
    )  # fmt: skip
