"""`UsageLedger` on PostgreSQL. The statements, and why they are as they are, stand in usage.sql and in the migration 0005."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from decimal import Decimal
from typing import Any, Protocol

import asyncpg
import msgspec

from app.domain.errors import Fenced
from app.domain.messages import Usage
from app.domain.principals import Principal
from app.domain.usage import (
    TAG,
    Caps,
    Crossing,
    Lost,
    Opened,
    Opening,
    Scope,
    Settlement,
    Spending,
    UsageAverage,
    UsageGroup,
    UsageQuery,
    UsageReport,
)
from app.storage.postgres.pool import Database, queries

SWEPT = 100
"""Attempts that one statement settles as abandoned at most."""


class Settling(Protocol):
    """An event that may settle an attempt."""

    @property
    def settles(self) -> Settlement | None: ...


class _Crossed(msgspec.Struct, frozen=True):
    """A level as the database's functions tell it: numbers are exact in their JSON."""

    tenant: str
    scope: Scope
    key: str
    month: date
    level: Decimal
    spent: Decimal
    cap: Decimal


_decode = msgspec.json.Decoder(list[_Crossed]).decode
_encode = msgspec.json.Encoder().encode


def crossings(told: bytes | None) -> tuple[Crossing, ...]:
    """Levels that a settlement has come to; `told` is a JSON array of them, or None."""
    return tuple(
        Crossing(
            tenant=c.tenant, scope=c.scope, key=c.key, month=c.month, level=c.level, spent_usd=c.spent, cap_usd=c.cap
        )
        for c in (() if told is None else _decode(told))
    )


def settlements(events: Sequence[Settling]) -> bytes | None:
    """What `settle_attempts` is given; None: nothing is settled by those events."""
    settled = [event.settles for event in events if event.settles is not None]
    return _encode([_columns(s) for s in settled]) if settled else None


def _columns(settled: Settlement) -> dict[str, Any]:
    """Decimals are strings: JSON's numbers are not exact everywhere."""
    named = ("input", "cache", "write", "hour", "output", "reasoning")
    return {
        "id": settled.id, "basis": settled.basis, "outcome": settled.outcome, "model": settled.model,
        "cost": settled.cost_usd, **dict(zip(named, counts(settled.usage), strict=True)),
    }  # fmt: skip


def counts(usage: Usage | None) -> tuple[int | None, ...]:
    """In the order of the columns."""
    if usage is None:
        return (None,) * 6
    hour = usage.cache_write_1h_tokens
    return (
        usage.input_tokens, usage.cached_input_tokens, usage.cache_write_tokens, None if hour is msgspec.UNSET else hour,
        usage.output_tokens, usage.reasoning_tokens,
    )  # fmt: skip


class PostgresUsageLedger:
    """The ledger in PostgreSQL, with the `caps` of this process. Safe for concurrent use, also across processes."""

    def __init__(self, *, database: Database, caps: Caps) -> None:
        self._db = database
        # Exact numbers travel as text: what asyncpg does with a Decimal costs more than the rest of the statement.
        self._bounds = (_text(caps.tenant), _text(caps.user), f"{{{','.join(map(str, caps.levels))}}}")
        self._sql = queries("usage.sql")

    async def open(self, opening: Opening) -> Opened:
        o = opening
        try:
            row = await self._db.fetchrow(
                self._sql["open"], o.id, o.run_id, o.epoch, o.route, o.provider, o.model, o.number, o.input_tokens,
                _text(o.input_usd), _text(o.reserved_usd), *self._bounds,
            )  # fmt: skip
        except asyncpg.UniqueViolationError:  # it arrived, but not the answer
            return Opened(near=True)
        assert row is not None
        if row["outcome"] == "fenced":
            raise Fenced(o.run_id)
        if row["outcome"] == "open":
            return Opened(near=row["near"])
        return Opened(refused=row["outcome"], left_usd=row["rest"])

    async def lost(self, run_id: str, epoch: int) -> list[Lost]:
        return [Lost(**row) for row in await self._db.fetch(self._sql["lost"], run_id, epoch)]

    async def record(self, spending: Spending) -> bool:
        s = spending
        new: bool = await self._db.fetchval(
            self._sql["record"], s.id, s.tenant, s.user_id, s.kind, s.session_id, s.agent, s.agent_version,
            msgspec.json.encode(s.tags), s.route, s.provider, s.model, s.at, s.basis, s.outcome, *counts(s.usage), s.cost_usd,
        )  # fmt: skip
        return new

    async def sweep(self) -> int:
        swept = 0
        while (found := await self._db.fetchval(self._sql["sweep"], SWEPT)) > 0:
            swept += found
        return swept

    async def untold(self) -> list[Crossing]:
        return [Crossing(**row) for row in await self._db.fetch(self._sql["untold"])]

    async def report(self, principal: Principal, query: UsageQuery) -> UsageReport:
        tag = query.group_by.removeprefix(TAG) if query.group_by.startswith(TAG) else None
        rows = await self._db.fetch(
            self._sql["report"], principal.tenant, principal.sees, query.since, query.until,
            "tag" if tag is not None else query.group_by, tag,
        )  # fmt: skip
        *groups, whole = map(_group, rows)
        return UsageReport(data=groups, total=whole)


def _text(number: Decimal | None) -> str | None:
    return None if number is None else str(number)


def _group(row: Any) -> UsageGroup:
    requests: int = row["requests"]
    hours = row["cache_write_1h_tokens"]
    usage = Usage(
        input_tokens=row["input_tokens"],
        cached_input_tokens=row["cached_input_tokens"],
        cache_write_tokens=row["cache_write_tokens"],
        output_tokens=row["output_tokens"],
        reasoning_tokens=row["reasoning_tokens"],
        cache_write_1h_tokens=hours or msgspec.UNSET,
    )
    cost: Decimal | None = row["cost_usd"]

    def average(total: int | Decimal | None) -> float | None:
        return None if total is None or not requests else float(total / requests)

    return UsageGroup(
        key=row["key"],
        requests=requests,
        attempts=row["attempts"],
        usage=usage,
        cost_usd=None if cost is None else float(cost),
        unpriced=row["unpriced"],
        estimated=row["estimated"],
        abandoned=row["abandoned"],
        average=UsageAverage(
            input_tokens=average(usage.input_tokens),
            output_tokens=average(usage.output_tokens),
            cost_usd=average(cost),
        ),
    )
