"""`BatchStore` on PostgreSQL. The statements stand in batches.sql."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from itertools import islice
from typing import Any
from uuid import UUID, uuid5

import asyncpg
import msgspec

from app.domain.batches import (
    OPEN_BATCHES,
    Batch,
    BatchResult,
    ItemCounts,
    ItemError,
    ItemOutcome,
    ItemStatus,
    NewBatch,
    Part,
    PartStatus,
    StoredItem,
)
from app.domain.errors import RequestError
from app.domain.messages import Usage
from app.domain.models import Attempt
from app.domain.numbers import number
from app.domain.principals import Principal
from app.domain.usage import Caps, Scope
from app.storage.postgres.pool import Database, queries
from app.storage.postgres.usage import counts

SENDINGS = 3
"""How many parts an item may travel in."""
OVERDUE = 93_600.0
"""Seconds after its expiry in which a provider has ended a batch: the vendors end theirs after a day, whatever has happened by then."""
LEDGER = UUID("6f0a4c8e-0f4a-4c55-9d86-2f5f3a1d7b10")
"""The namespace of the ledger's ids of batches: a result that is taken in again has the same one."""
ROWS = 1000
"""Items that one statement stores."""

_decode_any = msgspec.json.Decoder(float_hook=number).decode
_decode_usage = msgspec.json.Decoder(Usage).decode
_decode_error = msgspec.json.Decoder(ItemError).decode


class PostgresBatchStore:
    """Batches, their parts and items in PostgreSQL, under the `caps` of this process. Safe for concurrent use."""

    def __init__(self, *, database: Database, caps: Caps) -> None:
        self._db = database
        self._caps = caps
        self._sql = queries("batches.sql")

    async def create(self, principal: Principal, batch: NewBatch) -> Batch | Scope:
        ids = [f"{batch.id}-{n}" for n in range(max(batch.parts) + 1)]
        sizes = [0] * len(ids)
        for part in batch.parts:
            sizes[part] += 1
        async with self._db.transaction() as connection:
            await connection.fetchval(self._sql["lock_tenant"], principal.tenant)
            made: str = await connection.execute(
                self._sql["create"], batch.id, principal.tenant, batch.user_id, batch.agent, batch.agent_version, batch.route,
                batch.provider, batch.model, msgspec.json.encode(batch.tags), len(batch.items), batch.window,
            )  # fmt: skip
            if made == "INSERT 0 1":
                caps = self._caps
                scope: Scope | None = await connection.fetchval(
                    self._sql["exhausted"], principal.tenant, batch.user_id, caps.tenant, caps.user
                )
                if scope is not None and batch.metered:
                    await connection.execute(self._sql["forget"], batch.id)
                    return scope
                if await connection.fetchval(self._sql["open"], principal.tenant) > OPEN_BATCHES:
                    raise RequestError(
                        "queue_full", f"{OPEN_BATCHES} batches have not ended. Wait for one, or cancel one."
                    )
                owner = (batch.id, principal.tenant, batch.user_id)
                await connection.execute(self._sql["create_parts"], *owner, ids, sizes)
                rows = iter(enumerate(zip(batch.items, batch.parts, strict=True)))
                while some := list(islice(rows, ROWS)):
                    await connection.execute(
                        self._sql["create_items"], *owner, [n for n, _ in some], [ids[part] for _, (_, part) in some],
                        [item.custom_id for _, (item, _) in some],
                        [msgspec.json.encode(item.input) for _, (item, _) in some],
                        [None if item.context is None else msgspec.json.encode(item.context) for _, (item, _) in some],
                        [msgspec.json.encode(item.tags) for _, (item, _) in some],
                    )  # fmt: skip
            row = await connection.fetchrow(self._sql["batch"], principal.tenant, batch.user_id, batch.id)
        return _batch(row)

    async def batch(self, principal: Principal, batch_id: str) -> Batch | None:
        row = await self._db.fetchrow(self._sql["batch"], principal.tenant, principal.sees, batch_id)
        return None if row is None else _batch(row)

    async def batches(self, principal: Principal, before: tuple[datetime, str] | None, limit: int) -> list[Batch]:
        at, last = before or (None, None)
        rows = await self._db.fetch(self._sql["batches"], principal.tenant, principal.sees, at, last, limit)
        return [_batch(row) for row in rows]

    async def results(self, principal: Principal, batch_id: str, after: int, limit: int) -> list[BatchResult]:
        rows = await self._db.fetch(self._sql["results"], principal.tenant, principal.sees, batch_id, after, limit)
        return [
            BatchResult(
                custom_id=row["custom_id"],
                status=row["status"],
                output=None if row["output"] is None else msgspec.Raw(row["output"]),
                stop=row["stop"],
                error=None if row["error"] is None else _decode_error(row["error"]),
                usage=None if row["usage"] is None else _decode_usage(row["usage"]),
                cost_usd=None if row["cost_usd"] is None else float(row["cost_usd"]),
            )
            for row in rows
        ]

    async def cancel(self, principal: Principal, batch_id: str) -> None:
        async with self._db.transaction() as connection:
            done: str = await connection.execute(self._sql["cancel"], principal.tenant, principal.sees, batch_id)
            if done == "UPDATE 1":
                await connection.execute(self._sql["hurry"], batch_id)

    async def claim(self, seconds: float) -> Part | None:
        row = await self._db.fetchrow(self._sql["claim"], seconds, OVERDUE)
        return None if row is None else Part(**row)

    async def extend(self, part: Part, seconds: float) -> bool:
        return await self._db.execute(self._sql["extend"], part.id, part.epoch, seconds) == "UPDATE 1"

    async def items(self, part: Part, after: int, limit: int) -> list[StoredItem]:
        rows = await self._db.fetch(self._sql["items"], part.batch_id, part.id, after, limit)
        return [
            StoredItem(
                n=row["n"],
                input=_decode_any(row["input"]),
                context=None if row["context"] is None else _decode_any(row["context"]),
                tags=msgspec.json.decode(row["tags"]),
            )
            for row in rows
        ]

    async def intend(self, part: Part, marker: str) -> bool:
        async with self._db.transaction() as connection:
            batch = await self._owned(connection, part)
            if batch is None or not batch["open"]:
                return False
            await connection.execute(self._sql["intend"], part.id, marker)
            await connection.execute(self._sql["roll_up"], part.batch_id, None)
        return True

    async def noted(self, part: Part, remote_id: str) -> bool:
        async with self._db.transaction() as connection:
            if await self._owned(connection, part) is None:
                return False
            await connection.execute(self._sql["noted"], part.id, remote_id)
            await connection.execute(self._sql["roll_up"], part.batch_id, None)
        return True

    async def known(self) -> list[str]:
        return [row["remote_id"] for row in await self._db.fetch(self._sql["known"])]

    async def collecting(self, part: Part) -> bool:
        async with self._db.transaction() as connection:
            if await self._owned(connection, part) is None:
                return False
            await connection.execute(self._sql["collecting"], part.id)
            await connection.execute(self._sql["roll_up"], part.batch_id, None)
        return True

    async def told(self, part: Part) -> None:
        await self._db.execute(self._sql["told"], part.id, part.epoch)

    async def pause(self, part: Part, seconds: float, status: PartStatus, error: ItemError | None, tries: int) -> None:
        async with self._db.transaction() as connection:
            if await self._owned(connection, part) is not None:
                await connection.execute(self._sql["pause"], part.id, status, seconds, tries, part.cancelled)
                await connection.execute(self._sql["roll_up"], part.batch_id, _json(error))

    async def give_back(self, part: Part) -> None:
        await self._db.execute(self._sql["give_back"], part.id, part.epoch)

    async def remote_id(self, part_id: str) -> str | None:
        found: str | None = await self._db.fetchval(self._sql["remote_id"], part_id)
        return found

    async def unanswered(self, part: Part) -> int:
        count: int = await self._db.fetchval(self._sql["unanswered"], part.id)
        return count

    async def record(self, part: Part, outcomes: Sequence[ItemOutcome]) -> bool:
        outcomes = list({outcome.n: outcome for outcome in reversed(outcomes)}.values())  # the first of each item
        async with self._db.transaction() as connection:
            batch = await self._owned(connection, part)
            if batch is None:
                return False
            attempts = [outcome.attempt for outcome in outcomes]
            rows = await connection.fetch(
                self._sql["record"], part.batch_id, part.id,
                [outcome.n for outcome in outcomes], [outcome.status for outcome in outcomes],
                [outcome.output for outcome in outcomes], [a.finish if a else None for a in attempts],
                [_json(outcome.error) for outcome in outcomes], [_json(a.usage) if a else None for a in attempts],
                [a.cost_usd if a else None for a in attempts], [outcome.again for outcome in outcomes],
            )  # fmt: skip
            taken = {row["n"]: row["status"] for row in rows}
            usage = None if batch["usage"] is None else _decode_usage(batch["usage"])
            cost, unpriced = Decimal(0), False
            for attempt in (o.attempt for o in outcomes if o.n in taken and o.attempt is not None):
                if attempt.usage is not None:
                    usage = attempt.usage if usage is None else usage + attempt.usage
                unpriced |= attempt.cost_usd is None
                cost += attempt.cost_usd or 0
            await self._count(connection, part, list(taken.values()), _json(usage), cost, unpriced)
            await self._spend(connection, part, {o.n: o.attempt for o in outcomes if o.n in taken and o.attempt})
        return True

    async def _spend(self, connection: asyncpg.Connection, part: Part, attempts: Mapping[int, Attempt]) -> None:
        if not attempts:
            return
        done = list(attempts.values())
        usage = [counts(attempt.usage) for attempt in done]
        await connection.fetchval(
            self._sql["spend"], part.batch_id, list(attempts), [uuid5(LEDGER, f"{part.id}_{n}") for n in attempts],
            [attempt.basis for attempt in done], [attempt.outcome for attempt in done],
            [attempt.response_model or attempt.model for attempt in done],
            *([row[n] for row in usage] for n in range(6)), [attempt.cost_usd for attempt in done],
        )  # fmt: skip

    async def end(self, part: Part, left: ItemStatus, error: ItemError | None, *, again: float | None) -> int | None:
        resent = 0
        async with self._db.transaction() as connection:
            batch = await self._owned(connection, part)
            if batch is None:
                return None
            if again is not None and batch["open"]:
                moved: str = await connection.execute(
                    self._sql["send_again"], part.batch_id, part.id, _next_id(part.id), SENDINGS, again
                )
                resent = int(moved.rpartition(" ")[2])
            rows = await connection.fetch(self._sql["settle"], part.batch_id, part.id, left, _json(error))
            await self._count(connection, part, [row["status"] for row in rows], batch["usage"], Decimal(0), False)
            failed = left == "errored" and len(rows) == part.items
            await connection.execute(self._sql["end"], part.id, failed)
            await connection.execute(self._sql["roll_up"], part.batch_id, _json(error) if failed else None)
        return resent

    async def _owned(self, connection: asyncpg.Connection, part: Part) -> asyncpg.Record | None:
        """The batch, locked; None: the part is another's, or gone."""
        batch = await connection.fetchrow(self._sql["lock"], part.batch_id)
        held = await connection.fetchval(self._sql["fence"], part.id, part.epoch)
        return None if held is None else batch

    async def _count(
        self,
        connection: asyncpg.Connection,
        part: Part,
        statuses: list[str],
        usage: bytes | None,
        cost: Decimal,
        unpriced: bool,
    ) -> None:
        counts = [statuses.count(status) for status in ("succeeded", "errored", "expired", "cancelled")]
        await connection.execute(self._sql["count"], part.batch_id, *counts, usage, cost, unpriced)


def _next_id(part_id: str) -> str:
    """The part that takes over what a part leaves: `X-0` is followed by `X-0-1`, that by `X-0-2`."""
    batch, number, *sent = part_id.split("-")
    return f"{batch}-{number}-{int(sent[0]) + 1 if sent else 1}"


def _json(value: Any) -> bytes | None:
    return None if value is None else msgspec.json.encode(value)


def _batch(row: Any) -> Batch:
    fields = dict(row)
    done = {status: fields.pop(status) for status in ("succeeded", "errored", "expired", "cancelled")}
    counts = ItemCounts(pending=fields.pop("items") - sum(done.values()), **done)
    usage, error, cost = fields["usage"], fields["error"], fields["cost_usd"]
    fields["usage"] = None if usage is None else _decode_usage(usage)
    fields["error"] = None if error is None else _decode_error(error)
    fields["cost_usd"] = None if cost is None else float(cost)
    fields["tags"] = msgspec.json.decode(fields["tags"])
    return Batch(counts=counts, **fields)
