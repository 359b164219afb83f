"""Calls of tools with caps: counted once, and never one too many."""

from __future__ import annotations

import asyncio
from decimal import Decimal
from typing import Any

import asyncpg

from app.domain.tool_policy import Caps, Spend, ToolUse
from app.storage.postgres.pool import open_pool
from app.storage.postgres.tool_uses import PostgresToolUses


def use(call: str, *, run: str = "r", amount: str | None = None, **more: Any) -> ToolUse:
    fields = {"tenant": "t", "user_id": "ann", "tool": "pay", "run_id": run, "call_id": call}
    return ToolUse(**(fields | {"amount": None if amount is None else Decimal(amount)} | more))


async def test_a_call_is_counted_once_however_often_it_is_told(database: str) -> None:
    caps = Caps(calls=2)
    async with open_pool(database) as pool:
        uses = PostgresToolUses(database=pool)
        assert [await uses.use(use("a"), caps) for _ in range(3)] == [None, None, None]
        assert await uses.use(use("b"), caps) is None
        assert await uses.use(use("c"), caps) == "calls"
        assert await uses.use(use("a"), caps) is None, "a recovered run repeats what it was allowed"
        assert await uses.use(use("c", tool="other"), caps) is None
        assert await uses.use(use("d", tenant="u"), caps) is None
        assert await uses.use(use("e", user_id="bob"), caps) is None
        assert await uses.use(use("f", user_id=None), caps) is None
        assert await uses.use(use("g", user_id="bob"), Caps(calls=4, per="tenant")) == "calls"


async def test_one_run_and_the_money_of_a_window(database: str) -> None:
    async with open_pool(database) as pool:
        uses = PostgresToolUses(database=pool)
        once = Caps(calls_per_run=1)
        assert [await uses.use(use(call), once) for call in "ab"] == [None, "calls_per_run"]
        assert await uses.use(use("a", run="r2"), once) is None
        money = Caps(spend=Spend(argument="amount", most=0.3))
        assert [await uses.use(use(f"m{n}", amount="0.1"), money) for n in range(4)] == [None, None, None, "spend"]
        assert await uses.use(use("zero", amount="0"), money) is None
        assert await uses.use(use("n1", amount="0.0000001"), money) == "spend"


async def test_a_window_moves_on(database: str) -> None:
    caps = Caps(calls=1, window=3600)
    async with open_pool(database) as pool:
        uses = PostgresToolUses(database=pool)
        assert [await uses.use(use(call), caps) for call in "ab"] == [None, "calls"]
        await pool.execute("UPDATE tool_uses SET at = at - interval '59 minutes'")
        assert await uses.use(use("b"), caps) == "calls"
        await pool.execute("UPDATE tool_uses SET at = at - interval '1 minute'")
        assert await uses.use(use("b"), caps) is None
        await pool.execute("UPDATE tool_uses SET at = at - interval '40 days'")
        assert await uses.use(use("c"), caps) is None
        assert await pool.fetchval("SELECT count(*) FROM tool_uses") == 1


async def test_only_what_a_cap_counts_is_read(database: str) -> None:
    """Many calls of others, and of the window: neither is read for a cap that does not ask for them."""
    connection = await asyncpg.connect(database)
    try:
        await connection.execute(
            "INSERT INTO tool_uses (run_id, call_id, tenant, owner, tool)"
            " SELECT 'r' || n, 'c', 't', 'u' || n % 100, 'pay' FROM generate_series(1, 5000) n"
        )
        await connection.execute("ANALYZE tool_uses")
        for caps, most in (("9, NULL, NULL", 20), ("NULL, 999, NULL", 200), ("NULL, NULL, 999", 200)):
            async with connection.transaction():
                told = f"SELECT use_tool('r', '{caps}', 't', 'u7', 'pay', 0, {caps}, 86400, false)"
                assert await connection.fetchval(told) is None
                read = await connection.fetchval(
                    "SELECT seq_tup_read + coalesce(idx_tup_fetch, 0) FROM pg_stat_xact_user_tables WHERE relname = 'tool_uses'"
                )
                assert read <= most, caps
    finally:
        await connection.close()


async def test_of_many_at_once_as_many_run_as_may(database: str) -> None:
    caps = Caps(calls=7, spend=Spend(argument="amount", most=5))
    async with open_pool(database) as first, open_pool(database) as second:
        stores = [PostgresToolUses(database=first), PostgresToolUses(database=second)]
        said = await asyncio.gather(
            *(stores[n % 2].use(use(f"c{n}", run=f"r{n}", amount="1"), caps) for n in range(30))
        )
    assert said.count(None) == 5
